//! The launcher: all three pods in one process, and a traveller who tries them.

pub mod configuration;
pub mod demo;
pub mod platform;
