//! The real address of the client behind trusted proxies (core §1.7).
