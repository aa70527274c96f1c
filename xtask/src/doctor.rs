//! `cargo xtask doctor`: every prerequisite, found or missing, with the command that mends it.

use crate::emulator::{self, Kind, Wanted};
use crate::packages::{self, Package};
use crate::process;
use crate::toolchain;

/// One thing that was looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, and what for.
    pub what: String,
    /// What mends it, if it is missing.
    pub mend: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, found: bool, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: (!found).then(|| mend.into()) }
    }

    /// How it is shown.
    pub fn line(&self) -> String {
        match &self.mend {
            None => format!("found    {}", self.what),
            Some(mend) => format!("missing  {}\n           mend with: {mend}", self.what),
        }
    }
}

/// Looks for everything.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![
        Finding::new(
            "apt-get: fetches guest kernels and busybox",
            process::on_path("apt-get"),
            "a Debian system; Bulkhead is built on one",
        ),
        Finding::new(
            "dpkg-deb: unpacks them",
            process::on_path("dpkg-deb"),
            "sudo apt-get install --yes dpkg",
        ),
        Finding::new(
            "cc: links programs for the host",
            process::on_path("cc"),
            "sudo apt-get install --yes gcc libc6-dev",
        ),
    ];
    for tool in ["cargo-fmt", "cargo-clippy"] {
        let component = if tool == "cargo-fmt" { "rustfmt" } else { "clippy" };
        let mend = format!("rustup component add {component}");
        findings.push(Finding::new(
            format!("{component}: for `check`"),
            process::on_path(tool),
            mend,
        ));
    }
    findings.extend(compiler());
    let emulators = [packages::BOCHS, packages::QEMU, packages::OVMF].concat();
    findings.extend(emulators.iter().map(package));
    findings
}

/// The emulator that `run` would choose, and why.
pub fn emulator() -> String {
    let choice = emulator::choose(Wanted::Auto);
    let name = match choice.kind {
        Kind::Bochs => "Bochs",
        Kind::QemuKvm | Kind::QemuTcg => "QEMU",
    };
    format!("`cargo xtask run` would use {name} ({})", choice.reason)
}

fn compiler() -> Vec<Finding> {
    match toolchain::lacking_of_rustup() {
        Ok(lacking) if lacking.is_empty() => {
            vec![Finding::new("rustup toolchain with the bare-metal target", true, "")]
        }
        Ok(_) => packages::COMPILER.iter().map(package).collect(),
        Err(error) => vec![Finding::new(
            format!("rustc ({error:#})"),
            false,
            "rustup, from https://rustup.rs, or: sudo apt-get install --yes rustc-web cargo-web",
        )],
    }
}

fn package(package: &Package) -> Finding {
    let what = format!("{}: {}", package.name, package.purpose);
    let mend = format!(
        "sudo apt-get update && sudo apt-get install --yes --no-install-recommends {}",
        package.name
    );
    Finding::new(what, package.found(), mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_command() {
        let nowhere = Package { name: "absent", file: "/nonexistent", purpose: "nothing" };
        let line = package(&nowhere).line();
        assert!(line.starts_with("missing  absent: nothing\n"), "{line}");
        assert!(line.contains("apt-get install --yes --no-install-recommends absent"), "{line}");
        let here = Package { file: "/", ..nowhere };
        assert_eq!(package(&here).line(), "found    absent: nothing");
    }
}
