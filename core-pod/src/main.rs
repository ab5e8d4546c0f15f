//! The core pod as a process.

use std::process::ExitCode;

use core_pod::CorePod;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shared::pod::main::<CorePod>(None)
}
