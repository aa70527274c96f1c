//! Writing the disk image: the hypervisor and its bundle behind the boot stages.

use std::path::Path;

use anyhow::Result;

use crate::hypervisor::Hypervisor;
use crate::process;
use crate::toolchain::Toolchain;

/// The firmware that an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// A master boot record, for PC BIOS.
    Bios,
    /// A GPT with an EFI system partition.
    Uefi,
}

impl Firmware {
    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// Writes the image of a hypervisor with a bundle to `out`.
///
/// The work is done by a program of its own, `bulkhead-image`: the crate with the boot stages
/// compiles for bare metal when it is built, so it needs the toolchain that only xtask knows.
pub fn write(
    toolchain: &Toolchain,
    hypervisor: &Hypervisor,
    bundle: &Path,
    firmware: Firmware,
    out: &Path,
) -> Result<()> {
    let mut cargo = toolchain.cargo_for_boot_stages("run");
    cargo.args(["--quiet", "--package", "bulkhead-boot", "--features", "image"]);
    cargo.args(["--bin", "bulkhead-image", "--"]);
    cargo.arg("--kernel").arg(&hypervisor.stripped).arg("--bundle").arg(bundle);
    cargo.args(["--firmware", firmware.name()]).arg("-o").arg(std::path::absolute(out)?);
    process::run(&mut cargo, "writing the image")
}
