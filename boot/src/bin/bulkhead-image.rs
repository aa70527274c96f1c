//! Writes a disk image: boot stages, hypervisor and bundle.
//!
//! A program of its own because the boot stages are compiled by the build script of a crate, which
//! needs a toolchain for bare metal; `cargo xtask image` calls it with one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bootloader::{BootConfig, DiskImageBuilder};

const USAGE: &str =
    "usage: bulkhead-image --kernel ELF --bundle FILE --firmware bios|uefi -o IMAGE";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulkhead-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut kernel, mut bundle, mut firmware, mut out) = (None, None, None, None);
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--kernel" => &mut kernel,
            "--bundle" => &mut bundle,
            "--firmware" => &mut firmware,
            "-o" => &mut out,
            other => bail!("unknown argument `{other}`; {USAGE}"),
        };
        *place = Some(arguments.next().with_context(|| format!("{name} needs a value; {USAGE}"))?);
    }
    let path = |value: Option<String>| value.map(PathBuf::from).context(USAGE);
    let (kernel, bundle, out) = (path(kernel)?, path(bundle)?, path(out)?);
    for input in [&kernel, &bundle] {
        if !input.is_file() {
            bail!("{}: no such file", input.display());
        }
    }
    let mut builder = DiskImageBuilder::new(kernel);
    builder.set_ramdisk(bundle).set_boot_config(&quiet());
    match firmware.as_deref() {
        Some("bios") => write(&out, |image| builder.create_bios_image(image)),
        Some("uefi") => write(&out, |image| builder.create_uefi_image(image)),
        Some(other) => bail!("unknown firmware `{other}`: bios and uefi are possible"),
        None => bail!(USAGE),
    }
}

/// Boot stages that say nothing: the serial port belongs to the hypervisor's log, and drawing
/// text is slow in an emulator.
fn quiet() -> BootConfig {
    let mut config = BootConfig::default();
    config.frame_buffer_logging = false;
    config.serial_logging = false;
    config
}

/// Writes the image beside its place and moves it there, so that whoever finds an image finds a
/// whole one.
fn write(out: &Path, create: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    create(&unfinished).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, out).with_context(|| format!("writing {}", out.display()))
}
