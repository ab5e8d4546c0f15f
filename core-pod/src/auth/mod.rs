//! The auth service: accounts, sessions, tokens (core §2, §4).
