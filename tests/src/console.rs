//! Talking to a machine over its serial line.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::console::{Event, Watcher};
use xtask::emulator::{Emulator, Read};
use xtask::symbols::Symbols;
use xtask::workspace;

use crate::permit::Permit;

/// How far the machine may get while a test waits for one thing, in processor ticks. Linux boots
/// to its shell in about 3 thousand million; a machine that idles lets ticks pass much faster
/// than one that works.
const TICKS: u64 = 60_000_000_000;
/// The longest wait in real time: for a host that is very slow, and for QEMU, which does not
/// count ticks.
const WALL: Duration = Duration::from_secs(15 * 60);

/// How a machine's run ended, as the hypervisor's last line says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All guests have stopped.
    Stopped {
        /// Guests that ended as they should.
        powered_off: u32,
        /// Guests that were stopped for a fault.
        faulted: u32,
    },
    /// The hypervisor refused to start, for this reason.
    Refused(String),
}

/// The serial line of a running machine, which ends when this is dropped.
#[derive(Debug)]
pub struct Console {
    name: String,
    emulator: Emulator,
    symbols: Symbols,
    watcher: Watcher,
    transcript: Vec<u8>,
    /// Up to here the transcript has been searched by `wait_for`.
    searched: usize,
    end: Option<End>,
    panicked: bool,
    panic_expected: bool,
    gone: bool,
    ticks: u64,
    _permit: Permit,
}

impl Console {
    pub(crate) fn new(name: &str, emulator: Emulator, symbols: Symbols, permit: Permit) -> Self {
        Self {
            name: name.to_string(),
            emulator,
            symbols,
            watcher: Watcher::default(),
            transcript: Vec::new(),
            searched: 0,
            end: None,
            panicked: false,
            panic_expected: false,
            gone: false,
            ticks: TICKS,
            _permit: permit,
        }
    }

    /// Sets how many processor ticks each of the following waits may take.
    pub fn limit_ticks(&mut self, ticks: u64) {
        self.ticks = ticks;
    }

    /// Lets a panic of the hypervisor's be no failure.
    pub fn expect_panic(&mut self) {
        self.panic_expected = true;
    }

    /// Waits until the machine says a text, after what earlier waits found. Gives all that it said
    /// from there, up to the end of the text.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let (ticks, start) = (self.emulator.ticks(), Instant::now());
        loop {
            let new = &self.transcript[self.searched..];
            if let Some(at) = find(new, text.as_bytes()) {
                let end = at + text.len();
                let found = String::from_utf8_lossy(&new[..end]).into_owned();
                self.searched += end;
                return Ok(found);
            }
            self.go_on(&format!("`{text}` was waited for"), ticks, start)?;
        }
    }

    /// Waits for the hypervisor's last line.
    pub fn wait_for_end(&mut self) -> Result<End> {
        let (ticks, start) = (self.emulator.ticks(), Instant::now());
        loop {
            if let Some(end) = &self.end {
                return Ok(end.clone());
            }
            self.go_on("the end of the run was waited for", ticks, start)?;
        }
    }

    /// Waits for the end and requires that every guest powered itself off, and how many.
    pub fn expect_power_off(&mut self, guests: u32) -> Result<()> {
        match self.wait_for_end()? {
            End::Stopped { powered_off, faulted: 0 } if powered_off == guests => Ok(()),
            end => self.fail(&format!("{guests} guests should have powered off, not: {end:?}")),
        }
    }

    /// Waits for the end and requires that the hypervisor refused to start, for a reason that
    /// contains all of the texts.
    pub fn expect_refusal(&mut self, texts: &[&str]) -> Result<()> {
        match self.wait_for_end()? {
            End::Refused(reason) if texts.iter().all(|text| reason.contains(text)) => Ok(()),
            end => self.fail(&format!("a refusal with {texts:?} was expected, not: {end:?}")),
        }
    }

    /// Types a command to a shell, one that with the prompt fits a line of 80 characters. Gives
    /// what it says, up to the shell's next prompt.
    pub fn command(&mut self, command: &str, prompt: &str) -> Result<String> {
        self.send(&format!("{command}\n"))?;
        // What is typed comes back first.
        self.wait_for("\n")?;
        let said = self.wait_for(prompt)?;
        Ok(said.strip_suffix(prompt).unwrap_or(&said).replace('\r', ""))
    }

    /// Types.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.emulator.write(text.as_bytes())
    }

    /// Lets the machine run for some time and takes in what it says.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            if !self.take(left.min(Duration::from_millis(200)))? {
                break;
            }
        }
        Ok(())
    }

    /// All that the machine has said so far.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.transcript).into_owned()
    }

    /// Processor ticks since the start, as known at most one second ago.
    pub fn ticks(&self) -> u64 {
        self.emulator.ticks()
    }

    /// Takes in more, or fails when the limits are reached or the machine has ended.
    fn go_on(&mut self, what: &str, ticks: u64, start: Instant) -> Result<()> {
        if self.panicked && !self.panic_expected {
            // Its backtrace is still coming.
            self.listen(Duration::from_secs(3))?;
            return self.fail(&format!("{what}, but the hypervisor panicked"));
        }
        if let Some(end) = &self.end {
            return self.fail(&format!("{what}, but the run has ended: {end:?}"));
        }
        if self.gone {
            let how = match self.emulator.wait(Duration::from_secs(5)) {
                Some(status) => status.to_string(),
                None => "its serial line, but not the emulator".to_string(),
            };
            return self.fail(&format!("{what}, but the machine has ended ({how})"));
        }
        let passed = self.emulator.ticks().saturating_sub(ticks);
        if passed > self.ticks {
            return self.fail(&format!("{what} for {passed} ticks"));
        }
        if start.elapsed() > WALL {
            return self.fail(&format!("{what} for {} s", WALL.as_secs()));
        }
        self.take(Duration::from_millis(200)).map(|_| ())
    }

    /// Takes in what the machine says next. Gives whether there can be more.
    fn take(&mut self, limit: Duration) -> Result<bool> {
        let bytes = match self.emulator.read(limit)? {
            Read::Bytes(bytes) => bytes,
            Read::Silence => return Ok(true),
            Read::Ended => {
                self.gone = true;
                if let Some(event) = self.watcher.finish() {
                    self.heed(event);
                }
                return Ok(false);
            }
        };
        let mut copied = 0;
        for (end, event) in self.watcher.feed(&bytes) {
            self.transcript.extend_from_slice(&bytes[copied..end]);
            copied = end;
            self.heed(event);
        }
        self.transcript.extend_from_slice(&bytes[copied..]);
        Ok(true)
    }

    /// Does what follows from a line.
    fn heed(&mut self, event: Event) {
        match event {
            Event::ImageBase(base) => self.symbols.set_base(base),
            Event::Panic(_) => self.panicked = true,
            Event::Backtrace(address) => {
                for line in self.symbols.describe(address) {
                    self.transcript.extend_from_slice(format!("      {line}\n").as_bytes());
                }
            }
            Event::Refused(reason) => self.end = Some(End::Refused(reason)),
            Event::Stopped { powered_off, faulted } => {
                self.end = Some(End::Stopped { powered_off, faulted });
            }
        }
    }

    /// Fails with the last lines that the machine said.
    fn fail<T>(&self, why: &str) -> Result<T> {
        let transcript = self.transcript();
        let lines: Vec<_> = transcript.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        let folder = workspace::shown(self.emulator.folder());
        bail!("{}: {why}; the machine's last lines (all is in {folder}):\n{last}", self.name)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // A help for people; the test has its result without it.
        let _ = fs::write(self.emulator.folder().join("console.log"), &self.transcript);
    }
}

/// The place of a text in bytes.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_among_bytes_that_are_none() {
        assert_eq!(find(b"\xff\x00login: ", b"login:"), Some(2));
        assert_eq!(find(b"log", b"login:"), None);
        assert_eq!(find(b"", b""), Some(0));
    }
}
