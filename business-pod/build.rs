//! Migrations are compiled in: a changed or new file must rebuild the crate.

fn main() {
    for service in ["voyage", "payment", "ai"] {
        println!("cargo:rerun-if-changed=../migrations/{service}");
    }
}
