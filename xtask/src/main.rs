//! `cargo xtask`: see `cargo xtask help`.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use xtask::packages::Missing;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            xtask::terminal::restore();
            eprintln!("error: {error:#}");
            // Told apart from a failed run: this the user can mend with the command shown.
            ExitCode::from(if error.downcast_ref::<Missing>().is_some() { 2 } else { 1 })
        }
    }
}
