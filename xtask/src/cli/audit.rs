//! `cargo xtask audit`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use xtask::{audit, workspace};

/// What the command takes.
#[derive(Debug, Args)]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that no record of an audit trail is missing or altered
    Verify {
        /// What the machine's serial port said, such as target/run/serial.log
        file: PathBuf,
    },
}

impl Audit {
    /// Says whether the trail is whole, or where it is not.
    pub fn run(self) -> Result<u8> {
        let Command::Verify { file } = self.command;
        let shown = workspace::shown(&file);
        let bytes = fs::read(&file).with_context(|| format!("reading {shown}"))?;
        let verified = match audit::verify(&bytes) {
            Ok(verified) => verified,
            Err(broken) => bail!("{shown}: {broken}"),
        };
        println!(
            "{} records, unbroken; the digest of the last is {}",
            verified.records, verified.digest
        );
        if !verified.ended {
            println!(
                "The last one is not the machine's end: whether there were more cannot be seen here"
            );
        }
        Ok(0)
    }
}
