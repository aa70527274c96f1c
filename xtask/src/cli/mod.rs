//! The command line.

mod audit;
mod bench;
mod ctl;
mod flash;
mod fuzz;
mod image;
mod passwd;
mod plan;
mod run;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::{checks, doctor, testing};

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
    /// Give a running machine a command of its console, and show the answer
    Ctl(ctl::Ctl),
    /// Say which guest will get which cores and memory, and draw it
    Plan(plan::Plan),
    /// Write a disk image
    Image(image::Image),
    /// Write an image to a disk, and verify it
    Flash(flash::Flash),
    /// Run the unit tests and the integration tests
    Test(Test),
    /// Have guests do what comes to their mind, out of a seed; or fuzz parsers and device models
    Fuzz(fuzz::Fuzz),
    /// Measure what Bulkhead costs, beside KVM, in Bochs
    Bench(bench::Bench),
    /// Make an operator for a manifest, out of a name and a password
    Passwd(passwd::Passwd),
    /// Check a machine's audit trail
    Audit(audit::Audit),
    /// Check format, lints and documentation
    Check,
    /// Look for everything that the other commands need
    Doctor,
}

#[derive(Debug, Args)]
struct Test {
    /// Run only tests whose names contain this
    filter: Option<String>,
    /// List the tests instead of running them
    #[arg(long)]
    list: bool,
}

/// Does what the arguments say. Gives the exit status.
pub fn run(arguments: Arguments) -> Result<u8> {
    match arguments.command {
        Command::Run(run) => run.run(),
        Command::Ctl(ctl) => ctl.run(),
        Command::Plan(plan) => plan.run(),
        Command::Image(image) => image.run(),
        Command::Flash(flash) => flash.run(),
        Command::Test(Test { filter, list: true }) => testing::list(filter.as_deref()),
        Command::Test(Test { filter, list: false }) => testing::run(filter.as_deref()),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Bench(bench) => bench.run(),
        Command::Passwd(passwd) => passwd.run(),
        Command::Audit(audit) => audit.run(),
        Command::Check => check(),
        Command::Doctor => Ok(doctor()),
    }
}

fn check() -> Result<u8> {
    let failed = checks::run()?;
    if failed.is_empty() {
        println!("All checks passed");
        return Ok(0);
    }
    println!("Failed: {}", failed.join(", "));
    Ok(1)
}

fn doctor() -> u8 {
    let findings = doctor::examine();
    for finding in &findings {
        println!("{}", finding.line());
    }
    println!("{}", doctor::emulator());
    // As for a command that finds something missing.
    if findings.iter().any(|finding| finding.mend.is_some()) { 2 } else { 0 }
}
