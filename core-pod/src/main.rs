//! The core pod as a process.

use std::process::ExitCode;

use core_pod::CorePod;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "embedded")]
fn main() -> ExitCode {
    use shared::pod::embedded;

    embedded::keeper().unwrap_or_else(|| shared::pod::main::<CorePod>(Some(embedded::start)))
}

#[cfg(not(feature = "embedded"))]
fn main() -> ExitCode {
    shared::pod::main::<CorePod>(None)
}
