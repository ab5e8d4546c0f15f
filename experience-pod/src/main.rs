//! The experience pod as a process.

use std::process::ExitCode;

use experience_pod::ExperiencePod;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// It needs no back end of its own, so there is nothing to embed: it finds the other pods on their ports.
fn main() -> ExitCode {
    shared::pod::main::<ExperiencePod>(None)
}
