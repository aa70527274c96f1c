//! `cargo xtask check`: what must hold of every commit beside its tests.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process;
use crate::toolchain::Toolchain;

/// Runs all checks, also after one has failed. Gives the names of those that failed.
pub fn run() -> Result<Vec<&'static str>> {
    let mut failed = Vec::new();
    let mut check =
        |name: &'static str, command: &mut Command, warnings_fail: bool| -> Result<()> {
            eprintln!("Checking {name}: {}", process::line(command));
            if !succeeds(command, warnings_fail)? {
                failed.push(name);
            }
            Ok(())
        };
    check("the format", process::cargo().args(["fmt", "--all", "--check"]), false)?;
    // A workspace of its own; what its targets do is in this one, and looked at below.
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    check("the fuzz targets' format", process::cargo().args(fuzz), false)?;
    let mut clippy = process::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    check("the host's code", clippy.args(["--", "--deny", "warnings"]), false)?;

    // What is for bare metal alone is looked at as if it were for the host, with its profile's
    // `panic = "abort"`: Debian has no clippy for its compiler that would fit rustup's cargo.
    for (name, package, features) in [
        ("the hypervisor", "bulkhead", "metal"),
        ("the hypervisor to be tested", "bulkhead", "metal,testing"),
        ("the test guests", "bulkhead-guests", "metal"),
    ] {
        let mut clippy = process::cargo();
        clippy.args(["clippy", "--profile", "kernel", "--package", package]);
        clippy.args(["--features", features, "--lib", "--bins", "--", "--deny", "warnings"]);
        check(name, &mut clippy, false)?;
    }
    let toolchain = Toolchain::find()?;
    let mut kernel = toolchain.cargo_for_metal("build");
    kernel.args(["--profile", "kernel", "--package", "bulkhead", "--features", "metal"]);
    check("the hypervisor for bare metal", kernel.args(["--bin", "bulkhead"]), true)?;
    let mut guests = toolchain.cargo_for_metal_at_fixed_addresses("build");
    guests.args(["--profile", "kernel", "--package", "bulkhead-guests", "--all-features"]);
    check("the test guests for bare metal", &mut guests, true)?;

    let mut docs = process::cargo();
    docs.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    check("the documentation", docs.env("RUSTDOCFLAGS", "--deny warnings"), false)?;
    Ok(failed)
}

/// Runs a command and shows its messages. Where asked, a warning counts as a failure: a flag for
/// that would be handed to Debian's `core` as well, and build it anew.
fn succeeds(command: &mut Command, warnings_fail: bool) -> Result<bool> {
    command.stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| process::line(command))?;
    let mut warned = false;
    if let Some(messages) = child.stderr.take() {
        for line in BufReader::new(messages).split(b'\n') {
            let line = line?;
            std::io::stderr().write_all(&[&line, b"\n".as_slice()].concat())?;
            warned |= counts_warnings(&String::from_utf8_lossy(&line));
        }
    }
    Ok(child.wait()?.success() && !(warnings_fail && warned))
}

/// Whether this is cargo's line that counts a crate's warnings. It is there for our crates only:
/// those of others are silenced.
fn counts_warnings(line: &str) -> bool {
    line.starts_with("warning: `") && line.contains(" generated ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_count_of_warnings_is_recognised() {
        assert!(counts_warnings("warning: `bulkhead` (lib) generated 1 warning"));
        assert!(!counts_warnings("warning: unused import"));
    }

    #[test]
    fn a_warning_fails_only_where_asked() {
        let script = "echo 'warning: `x` (lib) generated 1 warning' >&2";
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        assert!(succeeds(&mut command(), false).unwrap());
        assert!(!succeeds(&mut command(), true).unwrap());
    }
}
