//! From a manifest to a disk image: the hypervisor and its bundle behind the boot stages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;

use crate::hypervisor::Hypervisor;
use crate::toolchain::Toolchain;
use crate::{guests, process, workspace};

/// The firmware that an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Firmware {
    /// A master boot record, for PC BIOS.
    #[default]
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

/// The manifest that is used when none is named.
pub fn demo() -> PathBuf {
    workspace::root().join("demo/debian.toml")
}

/// Packs the guests of a manifest into the bundle file `out`. Fetches and makes what it names.
pub fn pack(manifest: &Manifest, options: Options, out: &Path) -> Result<()> {
    let bundle = bulkhead_boot::pack(manifest, options, guests::resolve)?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(out, bundle).with_context(|| format!("writing {}", out.display()))
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
    let writer = build_writer(toolchain)?;
    let mut command = std::process::Command::new(writer);
    command.arg("--kernel").arg(&hypervisor.stripped).arg("--bundle").arg(bundle);
    command.args(["--firmware", firmware.name()]).arg("-o").arg(out);
    process::run(&mut command, "writing the image")
}

/// Builds the program that writes images.
pub fn build_writer(toolchain: &Toolchain) -> Result<PathBuf> {
    let writer = workspace::image_target().join("debug/bulkhead-image");
    if !writer.is_file() {
        eprintln!("The first build compiles the boot stages, too: that takes two to ten minutes.");
    }
    let mut cargo = toolchain.cargo_for_boot_stages("build");
    cargo.args(["--package", "bulkhead-boot", "--features", "image", "--bin", "bulkhead-image"]);
    process::run(&mut cargo, "building the image writer")?;
    Ok(writer)
}
