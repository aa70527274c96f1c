//! What fuzzing needs beside the compiler: cargo-fuzz, and a C++ compiler for libFuzzer.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::{packages, process, workspace};

/// The cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

/// What was found.
#[derive(Debug)]
pub struct Tools {
    /// PATH, with cargo-fuzz on it.
    pub path: OsString,
}

/// Whether cargo-fuzz is there.
pub fn cargo_fuzz_is_there() -> bool {
    process::on_path("cargo-fuzz") || process::is_executable(&own().join("bin/cargo-fuzz"))
}

/// What installs cargo-fuzz.
pub fn command() -> String {
    format!("cargo install --locked {CARGO_FUZZ}")
}

/// Sees to it that all is there. cargo-fuzz goes below `target/`, for which nobody has to be root.
pub fn find() -> Result<Tools> {
    packages::ensure(packages::FUZZING)?;
    if !cargo_fuzz_is_there() {
        eprintln!("Installing {CARGO_FUZZ} in {}", workspace::shown(&own()));
        let mut cargo = process::cargo();
        cargo.args(["install", "--locked", "--root"]).arg(own()).arg(CARGO_FUZZ);
        process::run(&mut cargo, "installing cargo-fuzz")?;
    }
    let mut path = own().join("bin").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    Ok(Tools { path })
}

/// Where cargo-fuzz is installed if it is not on PATH.
fn own() -> PathBuf {
    workspace::target().join("tools")
}
