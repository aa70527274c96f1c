//! Writes a disk image: boot stages, hypervisor and bundle.
//!
//! A program of its own because the boot stages are compiled by the build script of a crate, which
//! needs a toolchain for bare metal; `cargo xtask image` calls it with one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
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
        Some("bios") => write(&out, |image| {
            builder.create_bios_image(image)?;
            mend_large_fat16(&mut File::options().read(true).write(true).open(image)?)
        }),
        Some("uefi") => write(&out, |image| builder.create_uefi_image(image)),
        Some(other) => bail!("unknown firmware `{other}`: bios and uefi are possible"),
        None => bail!(USAGE),
    }
}

/// Makes a FAT16 volume of 32 MiB or more readable for the boot stages (`bootloader` 0.11.15).
///
/// These take every volume whose 16-bit count of sectors is 0 for FAT32, and look for the length of
/// its FAT in four bytes where FAT16 has a drive's number, a signature and a part of a serial number. They go
/// by the right field if they find 0 there, and nobody else reads the three.
fn mend_large_fat16(image: &mut File) -> Result<()> {
    const SECTOR: u64 = 512;
    /// The second partition's entry in the master boot record, and its first sector in that.
    const FIRST_SECTOR: usize = 446 + 16 + 8;
    /// Fields of the volume's first sector (Microsoft, FAT specification, section 3).
    const SECTORS_16: usize = 19;
    const FAT_SIZE_16: usize = 22;
    const FAT_SIZE_32: u64 = 36;
    let mut sector = [0; SECTOR as usize];
    image.read_exact(&mut sector)?;
    let first: [u8; 4] = *sector[FIRST_SECTOR..].first_chunk().context("no partition table")?;
    let volume = u64::from(u32::from_le_bytes(first)) * SECTOR;
    image.seek(SeekFrom::Start(volume))?;
    image.read_exact(&mut sector)?;
    if sector[SECTORS_16..SECTORS_16 + 2] == [0; 2]
        && sector[FAT_SIZE_16..FAT_SIZE_16 + 2] != [0; 2]
    {
        image.seek(SeekFrom::Start(volume + FAT_SIZE_32))?;
        image.write_all(&[0; 4])?;
    }
    Ok(())
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
