//! The Debian packages that the commands need: what each is for, whether it is there, and getting
//! it.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// A Debian package and how to see that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name, as `apt-get` knows it.
    pub name: &'static str,
    /// A file it brings.
    pub file: &'static str,
    /// What Bulkhead needs it for.
    pub purpose: &'static str,
}

impl Package {
    /// Whether the file that it brings exists.
    pub fn found(&self) -> bool {
        Path::new(self.file).exists()
    }
}

/// The compiler for bare metal, where rustup has none, and the tools the boot stages need.
pub const COMPILER: &[Package] = &[
    Package {
        name: "rustc-web",
        file: "/usr/bin/rustc",
        purpose: "compiler for bare metal, used where rustup has no x86_64-unknown-none",
    },
    Package {
        name: "rust-web-src",
        file: "/usr/lib/rustlib/src/rust/library/core/Cargo.toml",
        purpose: "sources of `core` and `alloc`, built for bare metal",
    },
    Package {
        name: "llvm",
        file: "/usr/bin/llvm-objcopy",
        purpose: "objcopy, for the kernel and the boot stages",
    },
];

/// The emulator with VT-x, and its firmware.
pub const BOCHS: &[Package] = &[
    Package { name: "bochs", file: "/usr/bin/bochs", purpose: "the emulator with VT-x" },
    Package {
        name: "bochs-sdl",
        file: "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_sdl2_gui.so",
        purpose: "the one display of Bochs that runs without a screen",
    },
    Package {
        name: "bochsbios",
        file: "/usr/share/bochs/BIOS-bochs-latest",
        purpose: "firmware of the emulated machine",
    },
    Package {
        name: "vgabios",
        file: "/usr/share/vgabios/vgabios.cirrus.bin",
        purpose: "video firmware of the emulated machine",
    },
];

/// QEMU, for KVM with nested VT-x and for boot tests.
pub const QEMU: &[Package] = &[Package {
    name: "qemu-system-x86",
    file: "/usr/bin/qemu-system-x86_64",
    purpose: "the emulator for KVM with nested VT-x, and for boot tests",
}];

/// UEFI firmware for QEMU.
pub const OVMF: &[Package] = &[Package {
    name: "ovmf",
    file: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    purpose: "UEFI firmware, for boot tests",
}];

/// What makes a CD from which Linux boots, and links a program without shared libraries.
pub const LINUX_CD: &[Package] = &[
    Package {
        name: "isolinux",
        file: "/usr/lib/ISOLINUX/isolinux.bin",
        purpose: "boot loader of the CD with Linux, for `bench`",
    },
    Package {
        name: "syslinux-common",
        file: "/usr/lib/syslinux/modules/bios/ldlinux.c32",
        purpose: "the second part of that boot loader, for `bench`",
    },
    Package { name: "xorriso", file: "/usr/bin/xorriso", purpose: "writes CDs, for `bench`" },
    Package {
        name: "libc6-dev",
        file: "/usr/lib/x86_64-linux-gnu/libc.a",
        purpose: "the C library for a static program, for `bench`",
    },
];

/// What builds libFuzzer.
pub const FUZZING: &[Package] = &[Package {
    name: "g++",
    file: "/usr/bin/g++",
    purpose: "compiles libFuzzer, for `fuzz parsers`",
}];

/// A set of packages that are missing and cannot be installed from here.
#[derive(Debug)]
pub struct Missing {
    packages: Vec<&'static str>,
}

impl Missing {
    /// The command that installs them.
    pub fn command(&self) -> String {
        format!(
            "sudo apt-get update && sudo apt-get install --yes --no-install-recommends {}",
            self.packages.join(" ")
        )
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "missing Debian packages: {}\ninstall them with: {}",
            self.packages.join(", "),
            self.command()
        )
    }
}

impl std::error::Error for Missing {}

/// Sees to it that the packages are there: installs what is missing when we are root, otherwise
/// fails with [`Missing`], which names the command.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| !p.found()).map(|p| p.name).collect();
    install(&missing)
}

/// Installs packages by name, or fails with [`Missing`] where we may not.
pub fn install(names: &[&'static str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !process::on_path("apt-get") {
        return Err(Missing { packages: names.to_vec() }.into());
    }
    eprintln!("Installing Debian packages: {}", names.join(" "));
    // The lists may be older than the packages: a machine fresh from its image offers a
    // compiler that is too old, or versions that the mirror has dropped.
    process::run(apt().arg("update"), "updating the list of Debian packages")?;
    let install = ["install", "--yes", "--no-install-recommends"];
    process::run(apt().args(install).args(names), "installing Debian packages")
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet=2").env("DEBIAN_FRONTEND", "noninteractive");
    // Its progress is no result of ours: standard output stays free for that.
    command.stdout(std::io::stderr());
    command
}
