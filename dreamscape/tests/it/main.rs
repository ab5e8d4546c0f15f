//! The platform from outside: real processes, real HTTP, embedded back ends. One binary, linked once.

mod authorisation;
mod documents;
mod journey;
mod process;
