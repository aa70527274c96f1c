//! `cargo xtask passwd`.

use anyhow::Result;
use bulkhead_operators::Role;
use clap::{Args, ValueEnum};
use xtask::passwords;

/// What the command takes.
#[derive(Debug, Args)]
pub struct Passwd {
    /// The operator's name
    name: String,
    /// What the operator may do
    #[arg(long, value_enum, default_value = "viewer")]
    role: Named,
}

/// A role, on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    /// Looks at guests
    Viewer,
    /// Starts, pauses and stops them, too
    Operator,
    /// Looks into them, releases and destroys them, and switches the machine off, too
    Administrator,
}

impl From<Named> for Role {
    fn from(named: Named) -> Self {
        match named {
            Named::Viewer => Self::Viewer,
            Named::Operator => Self::Operator,
            Named::Administrator => Self::Administrator,
        }
    }
}

impl Passwd {
    /// Asks for a password and prints the lines for a manifest.
    pub fn run(self) -> Result<u8> {
        let password = passwords::ask_twice()?;
        // Behind whatever a manifest ends with, be it in the middle of a line.
        print!("\n{}", passwords::operator(&self.name, self.role.into(), &password)?);
        Ok(0)
    }
}
