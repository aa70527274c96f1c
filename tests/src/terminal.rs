//! `cargo xtask` on a terminal: a pseudo-terminal, of which the test has the other end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::cli;
use crate::transcript::Transcript;

/// The longest wait for a text. It is not in ticks, as for a `Console`: the emulator is not ours.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// A command that runs on a terminal. It ends when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    transcript: Transcript,
}

impl Terminal {
    /// Runs `cargo xtask` with arguments.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let other = ptsname(&terminal, Vec::new())?;
        let other: OwnedFd = rustix::fs::open(other, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut command = cli::command(arguments);
        command.stdin(other.try_clone()?).stdout(other.try_clone()?).stderr(other);
        let child = command.spawn().context("starting xtask")?;
        // The command holds the other end open, and would keep this one from ending.
        drop(command);
        let keyboard = File::from(terminal);
        let mut reader = keyboard.try_clone()?;
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody has the other end open.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, keyboard, screen, transcript: Transcript::default() })
    }

    /// Waits until the screen shows a text, after what earlier waits found. Gives all that it showed
    /// from there, up to the end of the text.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            if let Some(found) = self.transcript.find(text) {
                return Ok(found);
            }
            match self.screen.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.transcript.push(&bytes),
                Err(RecvTimeoutError::Timeout) => return self.fail(text, "it did not come"),
                Err(RecvTimeoutError::Disconnected) => return self.fail(text, "it has ended"),
            }
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("pressing keys")
    }

    /// Waits until the command ends. Gives its status.
    pub fn wait(&mut self) -> Result<i32> {
        self.child.wait()?.code().context("it was killed by a signal")
    }

    fn fail<T>(&self, text: &str, why: &str) -> Result<T> {
        bail!("`{text}` was waited for: {why}; the screen showed:\n{}", self.transcript.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
