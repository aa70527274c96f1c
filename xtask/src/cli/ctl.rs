//! `cargo xtask ctl`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use xtask::control::{self, Client, End, Port, Said, Save, socket};
use xtask::{passwords, workspace};

/// What the command takes.
#[derive(Debug, Args)]
pub struct Ctl {
    /// The machine's port: a socket that a run makes, or a serial device [default: target/run/control]
    #[arg(long, value_name = "PATH")]
    port: Option<PathBuf>,
    /// How long the machine may say nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
    /// Sign in as this operator first; the password is asked for, or read from the first line of what is piped in
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// With the command `dump NAME`: write the guest's memory to this file, which must not be there yet, and check it against
    /// the machine's digest
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// A command as on the console; `help` lists them
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Ctl {
    /// Gives the command. What was asked for goes to standard output, why it was refused to standard error.
    pub fn run(self) -> Result<u8> {
        let line = self.command.join(" ");
        control::check(&line)?;
        let path = self.port.unwrap_or_else(|| workspace::target().join("run").join(socket::NAME));
        let mut client = Client::new(Port::open(&path)?, Duration::from_secs(self.wait));
        let doing = || workspace::shown(&path);
        let password = self.operator.as_ref().map(|_| passwords::ask()).transpose()?;
        if password.as_ref().is_some_and(|password| password.is_empty()) {
            bail!(
                "no password was given: it is asked for, or is the first line of what is piped in"
            );
        }
        let nobody = self.operator.is_none();
        client.greet().with_context(doing)?;
        if let Some((name, password)) = self.operator.zip(password) {
            let refused = |said| match said {
                Said::Line(_) => {}
                Said::Reason(reason) => eprintln!("refused: {reason}"),
            };
            let line = format!("sign-in {name} {password}");
            if client.command(&line, refused).with_context(doing)? == End::Refused {
                return Ok(1);
            }
        }
        if let Some(file) = self.save {
            return save(&file, |said| client.command(&line, said).with_context(doing));
        }
        let mut written = Ok(());
        let end = client.command(&line, |said| match said {
            Said::Line(line) if written.is_ok() => {
                written = writeln!(std::io::stdout(), "{line}");
            }
            // Whoever reads has left; what was asked for is done all the same.
            Said::Line(_) => {}
            Said::Reason(reason) => {
                eprintln!("refused: {reason}");
                if nobody && reason.starts_with("sign in first") {
                    eprintln!("Each call is a session of its own: `--operator NAME` signs in.");
                }
            }
        });
        let end = end.with_context(doing)?;
        written.context("writing to standard output")?;
        Ok(if end == End::Done { 0 } else { 1 })
    }
}

/// Writes what a command says to a file, if that is a whole dump.
fn save(file: &Path, command: impl FnOnce(&mut dyn FnMut(Said)) -> Result<End>) -> Result<u8> {
    let mut save = Save::new(file)?;
    let mut written = Ok(());
    let end = command(&mut |said| match said {
        Said::Line(line) if written.is_ok() => written = save.line(&line),
        Said::Line(_) => {}
        Said::Reason(reason) => eprintln!("refused: {reason}"),
    });
    match (end, written) {
        (Ok(End::Done), Ok(())) => {
            println!("{}", save.finish()?);
            Ok(0)
        }
        (end, written) => {
            save.discard();
            written?;
            end.map(|_| 1)
        }
    }
}
