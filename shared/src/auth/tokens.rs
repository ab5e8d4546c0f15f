//! Access tokens and service tokens: EdDSA, key sets, JWKS (core §2.3, §2.8, §14).
