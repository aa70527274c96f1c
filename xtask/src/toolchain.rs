//! The compiler for bare metal.
//!
//! An ordinary rustup toolchain is used where it has the target `x86_64-unknown-none`, the
//! sources of `core` and the LLVM tools. Where it lacks them, Debian's compiler takes its place:
//! it builds `core` and `alloc` for the target itself. The boot stages look for their tools in the
//! compiler's sysroot, so a sysroot is put together from links: Debian's libraries and sources,
//! the linker of rustup's toolchain, the tools of Debian's LLVM.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, process, workspace};

/// The target of the kernel and the test guests.
pub const TARGET: &str = "x86_64-unknown-none";
const HOST: &str = "x86_64-unknown-linux-gnu";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The oldest compiler that builds Bulkhead: the workspace's `rust-version`.
const OLDEST: (u32, u32) = (1, 95);

/// Backtraces walk the frame pointers: a register's worth of speed for reports that name
/// functions.
const FRAME_POINTERS: &str = "-Cforce-frame-pointers=yes";

/// Where a toolchain comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The active rustup toolchain: it brings `core` and `alloc` for bare metal.
    Rustup,
    /// Debian's packages: `core` and `alloc` are built along with the kernel.
    Debian,
}

/// A compiler that builds for bare metal.
#[derive(Debug, Clone)]
pub struct Toolchain {
    origin: Origin,
    /// The folder that holds `bin/rustc` and `lib/rustlib`.
    sysroot: PathBuf,
    version: String,
}

/// What a sysroot has of the things needed for bare metal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    target: bool,
    sources: bool,
    llvm_tools: bool,
}

impl Parts {
    fn of(sysroot: &Path) -> Self {
        let rustlib = sysroot.join("lib/rustlib");
        Self {
            target: rustlib.join(TARGET).join("lib").is_dir(),
            sources: rustlib.join("src/rust/library/core").is_dir(),
            llvm_tools: process::is_executable(&rustlib.join(HOST).join("bin/llvm-objcopy")),
        }
    }

    fn complete(self) -> bool {
        self.target && self.sources && self.llvm_tools
    }

    fn missing(self) -> String {
        let parts =
            [(self.target, TARGET), (self.sources, "rust-src"), (self.llvm_tools, "llvm-tools")];
        let names: Vec<_> = parts.iter().filter(|(there, _)| !there).map(|(_, n)| *n).collect();
        names.join(", ")
    }
}

impl Toolchain {
    /// Finds a toolchain, and installs Debian's packages where that is needed and possible.
    pub fn find() -> Result<Self> {
        let rustup = active_sysroot()?;
        if Parts::of(&rustup).complete() {
            let version = rustc_version(&rustup.join("bin/rustc"))?;
            return Ok(Self { origin: Origin::Rustup, sysroot: rustup, version });
        }
        packages::ensure(packages::COMPILER)?;
        let mut version = rustc_version(Path::new(DEBIAN_RUSTC))?;
        if older(&version) {
            packages::install(&["rustc-web", "rust-web-src"])?;
            version = rustc_version(Path::new(DEBIAN_RUSTC))?;
        }
        if older(&version) {
            bail!(
                "{DEBIAN_RUSTC} is version {version}, but {}.{} or newer is needed; install the \
                 packages rustc-web and rust-web-src, or add what rustup's toolchain lacks with \
                 `rustup target add {TARGET}` and `rustup component add rust-src llvm-tools`",
                OLDEST.0,
                OLDEST.1
            );
        }
        let sysroot = workspace::target().join("toolchain");
        compose(&sysroot, &linker(&rustup)?)?;
        Ok(Self { origin: Origin::Debian, sysroot, version })
    }

    /// One line that says which compiler this is, and why this one.
    pub fn description(&self) -> String {
        match self.origin {
            Origin::Rustup => format!("rustup's rustc {}, which has {TARGET}", self.version),
            Origin::Debian => {
                let lacking = lacking_of_rustup().unwrap_or_else(|_| TARGET.into());
                format!("Debian's rustc {}, as rustup's lacks: {lacking}", self.version)
            }
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Cargo with this compiler, for binaries of the target [`TARGET`].
    pub fn cargo_for_metal(&self, subcommand: &str) -> Command {
        self.cargo_with_flags(subcommand, FRAME_POINTERS)
    }

    /// Like [`cargo_for_metal`](Self::cargo_for_metal), for programs that nobody relocates.
    pub fn cargo_for_metal_at_fixed_addresses(&self, subcommand: &str) -> Command {
        let flags = format!("{FRAME_POINTERS} -Crelocation-model=static");
        self.cargo_with_flags(subcommand, &flags)
    }

    fn cargo_with_flags(&self, subcommand: &str, flags: &str) -> Command {
        let mut cargo = self.cargo(subcommand);
        cargo.arg("--target").arg(TARGET).arg("--target-dir").arg(workspace::metal_target());
        cargo.env("RUSTFLAGS", flags);
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        if self.origin == Origin::Debian {
            cargo.args(["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"]);
            // Lets the stable compiler build its own `core`; rustup's brings it built.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }

    /// Cargo with this compiler, for the host, where a dependency's build script compiles the
    /// boot stages: these use unstable features, and tools from the sysroot of `rustc` on PATH.
    pub fn cargo_for_boot_stages(&self, subcommand: &str) -> Command {
        let mut cargo = self.cargo(subcommand);
        cargo.arg("--target-dir").arg(workspace::image_target()).env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let bin = self.sysroot.join("bin");
        let mut path = OsString::from(&bin);
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut cargo = process::cargo();
        cargo.arg(subcommand).env("PATH", path).env("RUSTC", bin.join("rustc"));
        cargo.env_remove("RUSTDOC");
        cargo
    }

    /// LLVM's objcopy.
    pub fn objcopy(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(HOST).join("bin/llvm-objcopy")
    }
}

/// What rustup's toolchain lacks for bare metal: nothing, or names.
pub fn lacking_of_rustup() -> Result<String> {
    Ok(Parts::of(&active_sysroot()?).missing())
}

/// Why Debian's compiler, where it is there, cannot build Bulkhead: its version, and the oldest that
/// can.
pub fn debian_is_too_old() -> Option<String> {
    // What it does not say of itself is found out when it is used.
    let version = rustc_version(Path::new(DEBIAN_RUSTC)).ok()?;
    let (major, minor) = OLDEST;
    older(&version).then(|| format!("{version} is there, {major}.{minor} or newer is needed"))
}

/// The sysroot of the compiler that builds the host's crates.
fn active_sysroot() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--print", "sysroot"]).current_dir(workspace::root());
    let sysroot = process::capture(&mut command, "asking rustc for its sysroot")?;
    Ok(PathBuf::from(sysroot.trim()))
}

fn rustc_version(rustc: &Path) -> Result<String> {
    let mut command = Command::new(rustc);
    command.arg("--version").env_remove("LD_LIBRARY_PATH");
    let line = process::capture(&mut command, "asking rustc for its version")?;
    Ok(line.split_whitespace().nth(1).unwrap_or("unknown").to_string())
}

/// Whether a version is older than what Bulkhead needs.
fn older(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

/// LLVM's linker, which Debian's compiler does not bring.
fn linker(rustup: &Path) -> Result<PathBuf> {
    let beside_rustc = rustup.join("lib/rustlib").join(HOST).join("bin/rust-lld");
    let places = [beside_rustc, PathBuf::from("/usr/bin/rust-lld"), "/usr/bin/ld.lld".into()];
    match places.iter().find(|place| process::is_executable(place)) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "no rust-lld in {}, and no lld in /usr/bin; a toolchain from rustup brings the first, \
             the Debian package lld the second",
            rustup.display()
        ),
    }
}

/// Puts together the sysroot that the boot stages need, as links.
fn compose(sysroot: &Path, linker: &Path) -> Result<()> {
    let rustlib = sysroot.join("lib/rustlib");
    let bin = rustlib.join(HOST).join("bin");
    let debian = Path::new("/usr/lib/rustlib");
    for folder in [&bin, &sysroot.join("bin")] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    link(&debian.join("src"), &rustlib.join("src"))?;
    link(&debian.join(HOST).join("lib"), &rustlib.join(HOST).join("lib"))?;
    link(linker, &bin.join("rust-lld"))?;
    for tool in ["llvm-objcopy", "llvm-objdump"] {
        link(&Path::new("/usr/bin").join(tool), &bin.join(tool))?;
    }
    let script =
        format!("#!/bin/sh\nexec {DEBIAN_RUSTC} --sysroot '{}' \"$@\"\n", sysroot.display());
    let rustc = sysroot.join("bin/rustc");
    // Cargo takes a newer file for another compiler and builds everything again.
    if fs::read_to_string(&rustc).is_ok_and(|there| there == script) {
        return Ok(());
    }
    fs::write(&rustc, script).with_context(|| format!("writing {}", rustc.display()))?;
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", rustc.display()))
}

/// Makes `link` a symbolic link to `target`, whatever it was before.
fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).with_context(|| format!("removing {}", link.display()))?;
    }
    symlink(target, link)
        .with_context(|| format!("linking {} to {}", link.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(older("1.85.0"));
        assert!(older("1.9.0"));
        assert!(older("unknown"));
        assert!(!older("1.95.0"));
        assert!(!older("1.100.0-nightly"));
        assert!(!older("2.0.0"));
    }

    #[test]
    fn a_sysroot_without_the_target_says_what_it_lacks() {
        let parts = Parts { target: false, sources: true, llvm_tools: false };
        assert!(!parts.complete());
        assert_eq!(parts.missing(), "x86_64-unknown-none, llvm-tools");
        assert!(Parts { target: true, sources: true, llvm_tools: true }.complete());
    }

    #[test]
    fn a_sysroot_is_composed_anew_over_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        compose(folder.path(), Path::new("/old/lld")).unwrap();
        compose(folder.path(), Path::new("/new/lld")).unwrap();
        let lld = folder.path().join("lib/rustlib").join(HOST).join("bin/rust-lld");
        assert_eq!(fs::read_link(lld).unwrap(), Path::new("/new/lld"));
        assert!(process::is_executable(&folder.path().join("bin/rustc")));
    }
}
