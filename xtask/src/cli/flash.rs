//! `cargo xtask flash`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::flash::{self, Kind, Target};
use xtask::image::Firmware;
use xtask::progress;

/// What the command takes.
#[derive(Debug, Args)]
pub struct Flash {
    /// The disk to overwrite, such as /dev/sdb
    device: PathBuf,
    /// The manifest that names the guests [default: demo/debian.toml]
    manifest: Option<PathBuf>,
    /// The firmware of the machine that will boot from it
    #[arg(long, value_enum, default_value_t = Firmware::Uefi)]
    firmware: Firmware,
    /// Write this image, made by `cargo xtask image`, rather than a new one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "firmware"])]
    image: Option<PathBuf>,
    /// Accept a loop device or a plain file, too, which are no removable disks
    #[arg(long)]
    allow_loop: bool,
}

impl Flash {
    /// Examines, asks, writes, verifies.
    pub fn run(self) -> Result<u8> {
        // Before minutes go into an image for it.
        self.examine(0)?;
        let image = match &self.image {
            Some(image) => image.clone(),
            None => super::image::Image::new(self.manifest.clone(), self.firmware).write()?,
        };
        let size = image.metadata().with_context(|| image.display().to_string())?.len();
        let target = self.examine(size)?;
        describe(&target);
        if !agreed(&self.device)? {
            eprintln!("Nothing was written.");
            return Ok(1);
        }
        // It may have been mounted while we asked.
        self.examine(size)?;
        let bar = progress::bytes("Writing", size);
        flash::write(&image, &self.device, &bar)?;
        bar.finish_and_clear();
        let bar = progress::bytes("Verifying", size);
        flash::verify(&image, &self.device, &bar)?;
        bar.finish_and_clear();
        println!("{} holds the image; all {size} bytes were read back", self.device.display());
        Ok(0)
    }

    fn examine(&self, image: u64) -> Result<Target> {
        let target = flash::examine(&self.device)?;
        match flash::refusal(&target, image, self.allow_loop) {
            Some(reason) => bail!(reason),
            None => Ok(target),
        }
    }
}

/// Shows what would be overwritten.
fn describe(target: &Target) {
    eprintln!("{}: {} MiB. This is on it:", target.path.display(), target.size >> 20);
    if target.kind == Kind::File {
        eprintln!("  a plain file");
        return;
    }
    let mut lsblk = Command::new("lsblk");
    lsblk.args(["--output", "NAME,SIZE,TYPE,FSTYPE,LABEL,MODEL"]).arg(&target.path);
    match lsblk.output() {
        Ok(output) => eprint!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("  unknown, as lsblk cannot be started: {error}"),
    }
}

/// Asks whether to go on. Only `yes` is yes.
fn agreed(device: &Path) -> Result<bool> {
    eprint!("Overwrite {}? All that is on it is lost. Type `yes`: ", device.display());
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(answer.trim() == "yes")
}
