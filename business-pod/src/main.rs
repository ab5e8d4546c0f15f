//! The business pod as a process.

use std::process::ExitCode;

use business_pod::BusinessPod;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "embedded")]
fn main() -> ExitCode {
    use shared::pod::embedded;

    embedded::keeper().unwrap_or_else(|| shared::pod::main::<BusinessPod>(Some(embedded::start)))
}

#[cfg(not(feature = "embedded"))]
fn main() -> ExitCode {
    shared::pod::main::<BusinessPod>(None)
}
