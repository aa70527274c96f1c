//! Talking to a machine over its serial line.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use xtask::channels::{Channel, Channels, SWITCH, Said};
use xtask::console::{self, Event, Watcher};
use xtask::emulator::{Emulator, Read};
use xtask::symbols::Symbols;
use xtask::workspace;

use crate::boot::{OPERATOR, PASSWORD};
use crate::permit::Permit;
use crate::transcript::Transcript;

/// How far the machine may get while a test waits for one thing, in processor ticks. Linux boots
/// to its shell in about a thousand million; a machine that idles lets ticks pass much faster
/// than one that works.
const TICKS: u64 = 60_000_000_000;
/// Commands whose answers have several lines.
const OF_SEVERAL_LINES: [&str; 10] =
    ["examine", "exits", "info", "inventory", "list", "log", "plan", "registers", "top", "who"];
/// What the answer to `help` begins with. It is one line.
const HELP: &str = "console: Ctrl-] and one of: ";
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
///
/// What the hypervisor and all guests say is one transcript here, with the marks of who speaks taken
/// out; [`guest`](Self::guest) has what one guest says.
#[derive(Debug)]
pub struct Console {
    name: String,
    emulator: Emulator,
    symbols: Symbols,
    channels: Channels,
    watcher: Watcher,
    all: Transcript,
    log: Transcript,
    /// Each guest's own, in the order of the manifest.
    guests: Vec<(String, Transcript)>,
    /// The guest that gets what is typed.
    attached: String,
    /// The operator of the tests has still to sign in.
    to_sign_in: bool,
    /// The last command's answer may have more lines than were waited for.
    more: bool,
    end: Option<End>,
    panicked: bool,
    panic_expected: bool,
    gone: bool,
    ticks: u64,
    _permit: Permit,
}

impl Console {
    /// A machine with guests of these names, in the order of the manifest.
    pub(crate) fn new(
        name: &str,
        guests: Vec<String>,
        operator: bool,
        emulator: Emulator,
        symbols: Symbols,
        permit: Permit,
    ) -> Self {
        Self {
            name: name.to_string(),
            emulator,
            symbols,
            channels: Channels::default(),
            watcher: Watcher::default(),
            all: Transcript::default(),
            log: Transcript::default(),
            to_sign_in: operator,
            attached: guests.first().cloned().unwrap_or_default(),
            guests: guests.into_iter().map(|name| (name, Transcript::default())).collect(),
            more: false,
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
        self.wait(&format!("`{text}` was waited for"), |console| console.all.find(text))
    }

    /// Lets no later wait find what was said so far; guests' own consoles have waits of their own.
    pub fn skip(&mut self) {
        self.all.skip();
    }

    /// The console of one guest.
    pub fn guest(&mut self, name: &str) -> Result<GuestConsole<'_>> {
        match self.guests.iter().position(|(known, _)| known == name) {
            Some(index) => Ok(GuestConsole { console: self, index }),
            None => bail!("{}: there is no guest \"{name}\"", self.name),
        }
    }

    /// Gives the hypervisor a command, for instance `pause NAME`, as an operator where there is one. Gives its answer, of
    /// several lines the first.
    pub fn control(&mut self, command: &str) -> Result<String> {
        if std::mem::take(&mut self.to_sign_in) {
            let answer = self.order(&format!("sign-in {OPERATOR} {PASSWORD}"))?;
            ensure!(answer.starts_with("tester is signed in"), "{answer}");
        }
        self.order(command)
    }

    /// Gives the hypervisor a command as whoever is signed in. Gives its answer, of several lines the first.
    pub fn order(&mut self, command: &str) -> Result<String> {
        if std::mem::take(&mut self.more) {
            // The lines that are still to come are no answer to this command: what comes behind them is waited for.
            self.give("help")?;
            self.wait("an answer to `help` was waited for", |console| console.log.find(HELP))?;
        }
        self.log.skip();
        self.give(command)?;
        let verb = command.split_whitespace().next();
        self.more = verb.is_some_and(|verb| OF_SEVERAL_LINES.contains(&verb));
        self.wait(&format!("an answer to `{command}` was waited for"), |console| {
            loop {
                let line = console.log.find("\n")?;
                if let Some(answer) = console::text(line.trim_end()).and_then(console::answer) {
                    return Some(answer.unwrap_or_else(|refusal| refusal).to_string());
                }
            }
        })
    }

    fn give(&mut self, command: &str) -> Result<()> {
        let escape = char::from(SWITCH);
        self.emulator.write(format!("{escape}{command}\r").as_bytes())
    }

    /// Takes in what the machine says until something is found there.
    fn wait<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> Result<T> {
        let (ticks, start) = (self.emulator.ticks(), Instant::now());
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            self.go_on(what, ticks, start)?;
        }
    }

    /// Waits for the hypervisor's last line.
    pub fn wait_for_end(&mut self) -> Result<End> {
        self.wait("the end of the run was waited for", |console| console.end.clone())
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

    /// Types a command to the shell of the guest that is attached, one that with the prompt fits a
    /// line of 80 characters. Gives what it says, up to the shell's next prompt.
    pub fn command(&mut self, command: &str, prompt: &str) -> Result<String> {
        self.send(&format!("{command}\n"))?;
        // What is typed comes back first.
        self.wait_for("\n")?;
        self.wait_for(prompt).map(|said| result(&said, prompt))
    }

    /// Types to the guest that is attached: at first the first of the manifest.
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

    /// Lets so many processor ticks pass, and not many more than a second's, and takes in what the
    /// machine says.
    pub fn let_pass(&mut self, ticks: u64) -> Result<()> {
        let (before, start) = (self.emulator.ticks(), Instant::now());
        while self.emulator.ticks() < before + ticks {
            self.go_on("time was to pass", before, start)?;
        }
        Ok(())
    }

    /// All that the machine has said so far.
    pub fn transcript(&self) -> String {
        self.all.text()
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
        for said in self.channels.feed(&bytes) {
            self.said(said);
        }
        Ok(true)
    }

    /// Writes down what somebody said.
    fn said(&mut self, said: Said) {
        let Said { channel, breaks_line, bytes } = said;
        if breaks_line {
            self.all.push(b"\r\n");
        }
        let Channel::Guest(name) = channel else {
            self.log.push(&bytes);
            let mut copied = 0;
            for (end, event) in self.watcher.feed(&bytes) {
                self.all.push(&bytes[copied..end]);
                copied = end;
                self.heed(event);
            }
            self.all.push(&bytes[copied..]);
            return;
        };
        self.all.push(&bytes);
        let known = self.guests.iter_mut().find(|(known, _)| *known == name);
        if let Some((_, transcript)) = known {
            transcript.push(&bytes);
        }
    }

    /// Does what follows from a line.
    fn heed(&mut self, event: Event) {
        match event {
            Event::ImageBase(base) => self.symbols.set_base(base),
            Event::Panic(_) => self.panicked = true,
            Event::Backtrace(address) => {
                for line in self.symbols.describe(address) {
                    self.all.push(format!("      {line}\n").as_bytes());
                }
            }
            Event::Refused(reason) => self.end = Some(End::Refused(reason)),
            Event::Stopped { powered_off, faulted } => {
                self.end = Some(End::Stopped { powered_off, faulted });
            }
            Event::Input(name) => self.attached = name,
            // Tests look at the lines themselves.
            Event::Guest(..) => {}
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
        let _ = fs::write(self.emulator.folder().join("console.log"), self.all.bytes());
    }
}

/// One guest's console.
#[derive(Debug)]
pub struct GuestConsole<'a> {
    console: &'a mut Console,
    index: usize,
}

impl GuestConsole<'_> {
    /// Waits until the guest says a text, after what earlier waits for this guest found. Gives all
    /// that it said from there, up to the end of the text.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let index = self.index;
        let what = format!("`{text}` of guest {} was waited for", self.console.guests[index].0);
        self.console.wait(&what, |console| console.guests[index].1.find(text))
    }

    /// The same, but fails at once when the hypervisor says that the guest was stopped for a fault.
    pub fn wait_while_it_runs(&mut self, text: &str) -> Result<String> {
        let index = self.index;
        let name = &self.console.guests[index].0;
        let (stopped, what) = (
            format!("guest {name}: stopped: "),
            format!("`{text}` of guest {name} was waited for"),
        );
        let start = self.console.log.bytes().len();
        let found = self.console.wait(&what, |console| {
            if let Some(found) = console.guests[index].1.find(text) {
                return Some(Ok(found));
            }
            let log = String::from_utf8_lossy(&console.log.bytes()[start..]);
            let (_, why) = log.split_once(&stopped)?;
            Some(Err(why.lines().next().unwrap_or_default().to_string()))
        })?;
        match found {
            Ok(found) => Ok(found),
            Err(why) => bail!("{what}, but it was stopped: {why}"),
        }
    }

    /// As [`Console::command`], in this guest's shell.
    pub fn command(&mut self, command: &str, prompt: &str) -> Result<String> {
        self.send(&format!("{command}\n"))?;
        self.wait_for("\n")?;
        self.wait_for(prompt).map(|said| result(&said, prompt))
    }

    /// Types to this guest: attaches it, where it is not.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let name = self.console.guests[self.index].0.clone();
        if self.console.attached != name {
            self.console.control(&format!("attach {name}"))?;
            if self.console.attached != name {
                return self.console.fail(&format!("guest {name} was not attached"));
            }
        }
        self.console.send(text)
    }

    /// All that the guest has said so far.
    pub fn transcript(&self) -> String {
        self.console.guests[self.index].1.text()
    }
}

/// What a command says: without the prompt behind it.
fn result(said: &str, prompt: &str) -> String {
    said.strip_suffix(prompt).unwrap_or(said).replace('\r', "")
}
