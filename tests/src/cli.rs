//! Running `cargo xtask` as a user would.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use xtask::{testing, workspace};

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

impl Finished {
    /// Fails unless the command ended with this status and its errors contain all of the texts.
    pub fn expect(&self, status: i32, texts: &[&str]) -> Result<()> {
        if self.status != status {
            bail!("exit status {} instead of {status}; it said:\n{}", self.status, self.errors);
        }
        for text in texts {
            if !self.errors.contains(text) {
                bail!("`{text}` is not in:\n{}", self.errors);
            }
        }
        Ok(())
    }
}

/// Runs `cargo xtask` with arguments, and with `input` typed.
pub fn xtask<A: AsRef<OsStr>>(arguments: &[A], input: &str) -> Result<Finished> {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting xtask")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that asks nothing may be gone before it is answered.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    Ok(Finished {
        status: output.status.code().context("it was killed by a signal")?,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// `cargo xtask` with arguments, not started yet.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    // Under `cargo xtask test` the very program that runs the tests.
    let program = std::env::var_os(testing::XTASK)
        .unwrap_or_else(|| workspace::target().join("debug/xtask").into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace::root());
    command
}
