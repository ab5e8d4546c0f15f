//! Migrations are compiled in: a changed or new file must rebuild the crate.
//!
//! Links release builds for Linux with compact relocations: 2.4 MB of tables that the loader would read, and that would stay
//! resident, become 50 KB. Only where the C library that is linked knows them (glibc 2.36); elsewhere nothing
//! changes. A program linked so does not start where glibc is older than that.

use std::{env, process::Command};

/// The first glibc whose loader reads compact relocations.
const SINCE: (u32, u32) = (2, 36);

#[expect(clippy::disallowed_methods, reason = "this is how cargo talks to a build script")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for service in ["auth", "user", "mail"] {
        println!("cargo::rerun-if-changed=../migrations/{service}");
    }
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|text| text == value);
    let native = env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    let release = is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64");
    if release && native && is("CARGO_CFG_TARGET_ENV", "gnu") && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, from `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().rsplit(' ').next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
