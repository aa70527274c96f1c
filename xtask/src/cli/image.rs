//! `cargo xtask image`.

use std::path::PathBuf;

use anyhow::Result;
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;
use clap::Args;
use xtask::hypervisor::{self, Variant};
use xtask::image::{self, Firmware};
use xtask::toolchain::Toolchain;
use xtask::workspace;

/// What the command takes.
#[derive(Debug, Args)]
pub struct Image {
    /// The manifest that names the guests [default: demo/debian.toml]
    manifest: Option<PathBuf>,
    /// Where the image goes [default: target/bulkhead-bios.img or target/bulkhead-uefi.img]
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The firmware of the machine
    #[arg(long, value_enum, default_value_t)]
    firmware: Firmware,
    /// Leave the log off the screen, for an emulator, where drawing is slow
    #[arg(long)]
    no_screen: bool,
}

impl Image {
    /// An image for a real machine, in its usual place.
    pub fn new(manifest: Option<PathBuf>, firmware: Firmware) -> Self {
        Self { manifest, output: None, firmware, no_screen: false }
    }

    /// Writes the image and says where it is.
    pub fn run(self) -> Result<u8> {
        let out = self.write()?;
        println!("{}", workspace::shown(&out));
        Ok(0)
    }

    /// Writes the image and gives its place.
    pub fn write(&self) -> Result<PathBuf> {
        let manifest = Manifest::read(&self.manifest.clone().unwrap_or_else(image::demo))?;
        // First what may be wrong with the input, then what takes minutes.
        let name = format!("bulkhead-{}", self.firmware.name());
        let bundle = workspace::target().join(format!("{name}.bundle"));
        image::pack(&manifest, Options { framebuffer_log: !self.no_screen }, &bundle)?;
        let toolchain = Toolchain::find()?;
        let hypervisor = hypervisor::build(&toolchain, Variant::Plain)?;
        let usual = || workspace::target().join(format!("{name}.img"));
        let out = self.output.clone().unwrap_or_else(usual);
        image::write(&toolchain, &hypervisor, &bundle, self.firmware, &out)?;
        Ok(out)
    }
}
