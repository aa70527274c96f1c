//! Writing an image to a device, and reading it back.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rustix::fs::{Advice, OFlags, fadvise};

/// How much is written or compared at a time.
const PIECE: usize = 4 << 20;

/// Writes the image to the device's beginning and waits until it is there.
pub fn write(image: &Path, device: &Path, progress: &ProgressBar) -> Result<()> {
    let mut image = open(image)?;
    let shown = device.display();
    // On a block device, EXCL fails when anybody else uses it, now or from now on.
    let exclusive = i32::try_from(OFlags::EXCL.bits())?;
    let file = OpenOptions::new().write(true).custom_flags(exclusive).open(device);
    let mut file = file.with_context(|| format!("opening {shown} for writing"))?;
    let mut piece = vec![0; PIECE];
    loop {
        let length = fill(&mut image, &mut piece)?;
        if length == 0 {
            break;
        }
        file.write_all(&piece[..length]).with_context(|| format!("writing to {shown}"))?;
        // Now rather than at the end, or the bar would show how fast memory is.
        file.sync_data().with_context(|| format!("writing to {shown}"))?;
        progress.inc(u64::try_from(length)?);
    }
    file.sync_all().with_context(|| format!("writing to {shown}"))
}

/// Reads back what was written and compares it with the image.
pub fn verify(image: &Path, device: &Path, progress: &ProgressBar) -> Result<()> {
    let mut image = open(image)?;
    let mut file = open(device)?;
    // What the kernel remembers of the disk is no proof of what is on it.
    fadvise(&file, 0, None, Advice::DontNeed).context("forgetting what was written")?;
    let (mut expected, mut found) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        let length = fill(&mut image, &mut expected)?;
        if length == 0 {
            return Ok(());
        }
        let there = fill(&mut file, &mut found[..length])?;
        let differs = (0..length).find(|&i| i >= there || expected[i] != found[i]);
        if let Some(offset) = differs {
            let offset = at + offset;
            bail!("{} does not hold what was written: byte {offset} differs", device.display());
        }
        at += length;
        progress.inc(u64::try_from(length)?);
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Fills the piece, or as much of it as there is left.
fn fill(file: &mut File, piece: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < piece.len() {
        match file.read(&mut piece[length..]).context("reading")? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_verified_and_a_changed_byte_found() {
        let folder = tempfile::tempdir().unwrap();
        let (image, device) = (folder.path().join("image"), folder.path().join("device"));
        let content: Vec<u8> = (0..PIECE + 12_345).map(|i| (i % 251) as u8).collect();
        std::fs::write(&image, &content).unwrap();
        std::fs::write(&device, vec![0xff; content.len() + 4096]).unwrap();
        let bar = ProgressBar::hidden();
        write(&image, &device, &bar).unwrap();
        verify(&image, &device, &bar).unwrap();
        let mut now = std::fs::read(&device).unwrap();
        assert_eq!(now.len(), content.len() + 4096, "the rest of the device stays");
        now[PIECE + 7] ^= 1;
        std::fs::write(&device, now).unwrap();
        let error = verify(&image, &device, &bar).unwrap_err().to_string();
        assert!(error.contains(&format!("byte {} differs", PIECE + 7)), "{error}");
    }
}
