//! The command line.

mod image;
mod run;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, runs, tests and installs Bulkhead.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a manifest's guests in an emulator, with the terminal connected
    Run(run::Run),
    /// Write a disk image
    Image(image::Image),
}

/// Does what the arguments say. Gives the exit status.
pub fn run(arguments: Arguments) -> Result<u8> {
    match arguments.command {
        Command::Run(run) => run.run(),
        Command::Image(image) => image.run(),
    }
}
