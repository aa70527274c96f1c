//! `cargo xtask` on a terminal: a pseudo-terminal, of which the test has the other end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use vt100::{Parser, Screen};

use crate::cli;
use crate::transcript::Transcript;

/// The longest wait for a text. It is not in ticks, as for a `Console`: the emulator is not ours.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Columns and rows.
pub type Size = (u16, u16);

/// A command that runs on a terminal. It ends when this is dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    written: Receiver<Vec<u8>>,
    transcript: Transcript,
    /// What a user sees.
    parser: Parser,
    /// The mode that the command has found.
    mode: Termios,
}

impl Terminal {
    /// Runs `cargo xtask` with arguments, on a terminal of this size.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A], size: Size) -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        tcsetwinsize(&terminal, window(size))?;
        let mode = tcgetattr(&terminal)?;
        let other = ptsname(&terminal, Vec::new())?;
        let other: OwnedFd = rustix::fs::open(other, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut command = cli::command(arguments);
        command.env("TERM", "xterm-256color");
        command.stdin(other.try_clone()?).stdout(other.try_clone()?).stderr(other);
        let child = command.spawn().context("starting xtask")?;
        // The command holds the other end open, and would keep this one from ending.
        drop(command);
        let keyboard = File::from(terminal);
        let mut reader = keyboard.try_clone()?;
        let (sender, written) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody has the other end open.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let (columns, rows) = size;
        let mut parser = Parser::default();
        parser.set_size(rows.try_into()?, columns.try_into()?);
        let transcript = Transcript::default();
        Ok(Self { child, keyboard, written, transcript, parser, mode })
    }

    /// Waits until the screen shows a text, after what earlier waits found. Gives all that it showed
    /// from there, up to the end of the text.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            if let Some(found) = self.transcript.find(text) {
                return Ok(found);
            }
            self.read(start).with_context(|| format!("`{text}` was waited for"))?;
        }
    }

    /// Waits until a user sees this.
    pub fn wait_until(&mut self, what: &str, seen: impl Fn(&[String]) -> bool) -> Result<()> {
        let start = Instant::now();
        while !seen(&self.rows()) {
            self.read(start).with_context(|| {
                let rows = self.rows().join("\n");
                format!("{what} was waited for; the screen is:\n{rows}\n")
            })?;
        }
        Ok(())
    }

    /// What a user sees: the rows of the screen.
    pub fn rows(&self) -> Vec<String> {
        let columns = self.screen().size().1.get();
        self.screen().rows(0, columns).map(|row| row.trim_end().to_string()).collect()
    }

    /// The screen that a user sees.
    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, size: Size) -> Result<()> {
        let (columns, rows) = size;
        self.parser.set_size(rows.try_into()?, columns.try_into()?);
        tcsetwinsize(&self.keyboard, window(size))?;
        // The kernel tells those whose controlling terminal it is, which it is not for the command.
        self.signal(Signal::WINCH)
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_child(&self.child);
        kill_process(process, signal).context("sending a signal")
    }

    /// Fails unless the terminal is as the command has found it: its mode, its cursor, and its screen.
    pub fn expect_restored(&self) -> Result<()> {
        let (was, is) = (&self.mode, tcgetattr(&self.keyboard)?);
        let flags = |mode: &Termios| {
            (mode.input_modes, mode.output_modes, mode.control_modes, mode.local_modes)
        };
        ensure!(flags(was) == flags(&is), "the mode was {was:?}, and is {is:?}");
        let screen = self.screen();
        ensure!(!screen.alternate_screen(), "the whole screen is still taken");
        ensure!(!screen.hide_cursor(), "there is no cursor");
        ensure!(!screen.application_cursor() && !screen.bracketed_paste(), "keys are others");
        Ok(())
    }

    /// Takes what is written next.
    fn read(&mut self, start: Instant) -> Result<()> {
        match self.written.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
            Ok(bytes) => {
                self.transcript.push(&bytes);
                self.parser.process(&bytes);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => self.fail("it did not come"),
            Err(RecvTimeoutError::Disconnected) => self.fail("the command has ended"),
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("pressing keys")
    }

    /// Waits until the command ends. Gives its status.
    pub fn wait(&mut self) -> Result<i32> {
        let status = self.child.wait()?.code().context("it was killed by a signal")?;
        // Nobody has the other end open any more, and so this ends.
        while let Ok(bytes) = self.written.recv_timeout(LIMIT) {
            self.transcript.push(&bytes);
            self.parser.process(&bytes);
        }
        Ok(status)
    }

    fn fail<T>(&self, why: &str) -> Result<T> {
        bail!("{why}; it has written:\n{}", self.transcript.text())
    }
}

fn window((columns, rows): Size) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
