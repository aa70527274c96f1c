//! `cargo xtask doctor`: every prerequisite, found or missing, with the command that mends it.

use crate::emulator::{self, Kind, Wanted};
use crate::fuzz;
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
    findings.push(Finding::new(
        "cargo-fuzz: for `fuzz parsers`, which installs it in target/tools",
        fuzz::cargo_fuzz_is_there(),
        fuzz::command(),
    ));
    let emulators =
        [packages::BOCHS, packages::QEMU, packages::OVMF, packages::LINUX_CD, packages::FUZZING]
            .concat();
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
        Ok(_) => {
            let too_old = toolchain::debian_is_too_old();
            packages::COMPILER
                .iter()
                .map(|wanted| debian_compiler(wanted, too_old.as_deref()))
                .collect()
        }
        Err(error) => vec![Finding::new(
            format!("rustc ({error:#})"),
            false,
            "rustup, from https://rustup.rs, or: sudo apt-get install --yes rustc-web cargo-web",
        )],
    }
}

/// A package of Debian's compiler, which other packages bring in versions that are too old.
fn debian_compiler(wanted: &Package, too_old: Option<&str>) -> Finding {
    let mut finding = package(wanted);
    if let Some(too_old) = too_old.filter(|_| wanted.name == "rustc-web") {
        finding = Finding::new(format!("{} ({too_old})", finding.what), false, command(wanted));
    }
    finding
}

fn package(package: &Package) -> Finding {
    let what = format!("{}: {}", package.name, package.purpose);
    Finding::new(what, package.found(), command(package))
}

/// What installs a package.
fn command(package: &Package) -> String {
    format!(
        "sudo apt-get update && sudo apt-get install --yes --no-install-recommends {}",
        package.name
    )
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

    #[test]
    fn a_compiler_that_is_too_old_is_as_good_as_missing() {
        let there = Package { name: "rustc-web", file: "/", purpose: "compiler" };
        assert_eq!(debian_compiler(&there, None).mend, None);
        let old = debian_compiler(&there, Some("1.63.0 is there, 1.95 or newer is needed")).line();
        assert!(old.starts_with("missing  rustc-web: compiler (1.63.0 is there, 1.95"), "{old}");
        assert!(old.ends_with(" rustc-web"), "{old}");
        let other = Package { name: "llvm", ..there };
        assert_eq!(debian_compiler(&other, Some("1.63.0 is there")).mend, None);
    }
}
