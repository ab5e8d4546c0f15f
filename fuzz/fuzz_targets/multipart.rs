//! Uploads (core §5.2): the form, and the picture in it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|body: &[u8]| RUNTIME.block_on(core_pod::fuzzing::multipart(body)));
