//! E-mail addresses (core §2.1): what is accepted is stable, and small enough to be stored.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| core_pod::fuzzing::email(text));
