//! The business pod as a process.

use std::process::ExitCode;

use business_pod::BusinessPod;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shared::pod::main::<BusinessPod>(None)
}
