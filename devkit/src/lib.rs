//! Embedded back ends for development, and test doubles. Never in a production binary.

pub mod redis;
