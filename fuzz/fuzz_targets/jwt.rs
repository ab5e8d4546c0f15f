//! Tokens (core §2.3, §2.8): nothing but what we signed is ever accepted, and nothing makes the check fail in another way.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shared::{
    auth::tokens::{KeySet, TokenError, TokenPolicy, Verifier},
    sources::Sources,
};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let sources = Sources::system();
    let keys = KeySet::generate(&sources).expect("a key set");
    Verifier::own(keys, TokenPolicy::default(), sources)
});

fuzz_target!(|text: &str| {
    // the key is new in each process, so no input can be a good token
    RUNTIME.block_on(async {
        assert!(matches!(VERIFIER.access(text).await, Err(TokenError::Invalid)));
        assert!(matches!(VERIFIER.service(text).await, Err(TokenError::Invalid)));
    });
    let _ = shared::auth::service::claims_to_be_a_service(text);
});
