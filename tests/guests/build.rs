//! Links the guests as executables at a fixed address, so that whoever builds them needs to
//! name no more than the target.

use std::env;
use std::path::Path;

/// Where everything goes in guest-physical memory.
const SCRIPT: &str = "guest.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCRIPT}");
    // On the host there are no guests, only the library.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = Path::new(&folder).join(SCRIPT);
    for argument in [
        &format!("--script={}", script.display()),
        // The target's default is a position-independent executable (ET_DYN), which the ELF64
        // loader refuses. The code is position-independent all the same, which does no harm.
        "--no-pie",
        "--no-dynamic-linker",
        // No part of the data becomes read-only after relocation: there is none.
        "-znorelro",
        "--build-id=none",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
