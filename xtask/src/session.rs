//! The user's terminal connected to a running machine.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::channels::{Channel, Channels, SWITCH, Said};
use crate::console::{Event, Watcher};
use crate::emulator::{Emulator, Read};
use crate::keys::{Action, Keys};
use crate::states::{State, States};
use crate::symbols::Symbols;
use crate::terminal::RawTerminal;
use crate::view::{Shown, View};

const HELP: &str = "\r\n  q       end the machine and leave\
                    \r\n  c       back to the guest (Enter does the same)\
                    \r\n  1 to 9  show this guest's console, and type to it\
                    \r\n  n, Tab  the same with the next guest\
                    \r\n  l       show the hypervisor's log\
                    \r\n  a       show the lines of all, the guest's name before them\
                    \r\n  p       pause the guest, or let it go on\
                    \r\n  s       stop the guest\
                    \r\n  :       give the hypervisor a command: help shows which there are\
                    \r\n  Ctrl-]  send Ctrl-] to the guest";

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All guests have ended.
    Stopped {
        /// Guests that ended as they should.
        powered_off: u32,
        /// Guests that were stopped for a fault.
        faulted: u32,
        /// Whether the hypervisor itself failed on the way.
        panicked: bool,
    },
    /// The hypervisor did not start; it has said why.
    Refused,
    /// The emulator ended before the hypervisor said that all guests had stopped.
    Vanished,
    /// The user quit.
    Quit,
    /// A signal ended xtask.
    Signal(i32),
}

impl Outcome {
    /// The exit status of `cargo xtask run`.
    pub fn status(&self) -> u8 {
        match self {
            Self::Stopped { faulted: 0, panicked: false, .. } | Self::Quit => 0,
            Self::Stopped { .. } | Self::Refused | Self::Vanished => 1,
            // As shells report it.
            Self::Signal(number) => 128u8.saturating_add(u8::try_from(*number).unwrap_or(127)),
        }
    }
}

/// Connects standard input and output to a machine with guests of these names, in the order of the
/// manifest, until one of them ends it.
pub fn attach(
    emulator: &mut Emulator,
    symbols: &mut Symbols,
    guests: Vec<String>,
) -> Result<Outcome> {
    let signals = Signals::catch()?;
    let terminal = RawTerminal::enter()?;
    if terminal.is_some() {
        let guest = match guests.as_slice() {
            [first, _, ..] => format!("guest {first}"),
            _ => "the guest".into(),
        };
        eprint!("The keys go to {guest} now; Ctrl-] leads out.\r\n");
    }
    let mut session = Session {
        symbols,
        channels: Channels::default(),
        watcher: Watcher::default(),
        keys: Keys::new(guests.clone()),
        view: View::new(guests.clone(), terminal.is_some() && std::io::stdout().is_terminal()),
        input: 0,
        states: States::new(guests),
        interactive: terminal.is_some(),
        input_open: true,
        pending: Vec::new(),
        panicked: false,
    };
    let outcome = session.run(emulator, &signals);
    if matches!(outcome, Ok(Outcome::Stopped { .. })) {
        // The hypervisor powers the machine off after its last line.
        emulator.wait(Duration::from_millis(500));
    }
    emulator.kill();
    outcome
}

struct Session<'a> {
    symbols: &'a mut Symbols,
    channels: Channels,
    watcher: Watcher,
    view: View,
    /// The guest that gets what is typed.
    input: usize,
    states: States,
    keys: Keys,
    interactive: bool,
    input_open: bool,
    /// Typed, but not yet taken by the emulator.
    pending: Vec<u8>,
    panicked: bool,
}

impl Session<'_> {
    fn run(&mut self, emulator: &mut Emulator, signals: &Signals) -> Result<Outcome> {
        let input = std::io::stdin();
        loop {
            let wanted_of_serial = match (self.keys.prompting(), self.pending.is_empty()) {
                // While the prompt is shown the guest's output waits, and so does the machine.
                (true, _) => PollFlags::empty(),
                (false, true) => PollFlags::IN,
                (false, false) => PollFlags::IN | PollFlags::OUT,
            };
            // What is typed next is read only when the emulator has taken what was typed before:
            // a file on standard input is then read no faster than the guest takes it.
            let ask_input = self.input_open && self.pending.is_empty();
            let wanted_of_input = if ask_input { PollFlags::IN } else { PollFlags::empty() };
            let mut polled = [
                PollFd::from_borrowed_fd(emulator.serial().as_fd(), wanted_of_serial),
                PollFd::from_borrowed_fd(signals.pipe.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(input.as_fd(), wanted_of_input),
            ];
            // A closed input is reported whether asked for or not: leave it out then.
            let count = if ask_input { 3 } else { 2 };
            match poll(&mut polled[..count], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for input"),
            }
            let ready = [0, 1, 2].map(|at: usize| at < count && !polled[at].revents().is_empty());
            let can_write = polled[0].revents().contains(PollFlags::OUT);
            if let Some(signal) = signals.caught() {
                return Ok(Outcome::Signal(signal));
            }
            if can_write {
                let taken = emulator.write_some(&self.pending)?;
                self.pending.drain(..taken);
            }
            if ready[2] && self.typed(&input)? {
                return Ok(Outcome::Quit);
            }
            let serial_waits = self.keys.prompting();
            if ready[0]
                && !serial_waits
                && let Some(outcome) = self.said(emulator)?
            {
                return Ok(outcome);
            }
        }
    }

    /// Takes what was typed. Returns whether the user wants to quit.
    fn typed(&mut self, input: &std::io::Stdin) -> Result<bool> {
        let mut bytes = [0; 4096];
        let length = match rustix::io::read(input, &mut bytes) {
            Ok(0) => {
                // The end of a file on standard input is not the end of the guests.
                self.input_open = false;
                return Ok(false);
            }
            Ok(length) => length,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error).context("reading standard input"),
        };
        if !self.interactive {
            self.pending.extend_from_slice(&bytes[..length]);
            return Ok(false);
        }
        for action in self.keys.feed(&bytes[..length]) {
            match action {
                Action::Send(bytes) => {
                    for byte in bytes {
                        // Twice, it is for the guest.
                        let times = if byte == SWITCH { 2 } else { 1 };
                        self.pending.extend(std::iter::repeat_n(byte, times));
                    }
                }
                Action::Prompt => show(self.prompt().as_bytes())?,
                Action::Help => show(format!("{HELP}{}", self.prompt()).as_bytes())?,
                Action::Continue => show(b"\r\n")?,
                Action::Guest(guest) => self.show_guest(guest)?,
                Action::Next => self.show_guest((self.input + 1) % self.view.count().max(1))?,
                Action::Log => show(&self.view.switch(Shown::Log))?,
                Action::All => show(&self.view.switch(Shown::All))?,
                Action::Pause => {
                    let paused = self.states.state(self.input) == Some(State::Paused);
                    self.order(if paused { "resume" } else { "pause" })?;
                }
                Action::Stop => self.order("stop")?,
                Action::Line => show(self.line().as_bytes())?,
                Action::Choices(words) => {
                    show(format!("\r\n  {}\r\n{}", words.join("  "), self.line()).as_bytes())?;
                }
                Action::Command(command) => {
                    self.command(&command);
                    show(b"\r\n")?;
                }
                Action::Quit => {
                    show(b"\r\n")?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The prompt; it names the guest where there are several.
    fn prompt(&self) -> String {
        let keys = match self.view.name(self.input) {
            Some(name) if self.view.count() > 1 => format!("keys go to {name}; "),
            _ => String::new(),
        };
        format!("\r\n[bulkhead: {keys}q quit, c continue, ? help] ")
    }

    /// Shows a guest's console, and lets it have what is typed.
    fn show_guest(&mut self, guest: usize) -> Result<()> {
        let Some(name) = self.view.name(guest) else {
            let count = self.view.count();
            let there = format!("\r\nthere are {count} guests: 1 to {count}{}", self.prompt());
            self.keys.prompt_again();
            return show(there.as_bytes());
        };
        let attach = format!("attach {name}");
        self.command(attach.as_bytes());
        self.input = guest;
        show(&self.view.switch(Shown::Guest(guest)))
    }

    /// Has something done to the guest that gets what is typed. The log has the answer.
    fn order(&mut self, order: &str) -> Result<()> {
        if let Some(name) = self.view.name(self.input) {
            let order = format!("{order} {name}");
            self.command(order.as_bytes());
        }
        show(b"\r\n")
    }

    /// Gives the hypervisor a command. The log has the answer.
    fn command(&mut self, command: &[u8]) {
        self.pending.push(SWITCH);
        self.pending.extend(command);
        self.pending.push(b'\r');
    }

    /// The command that is typed, in place of what was there of it.
    fn line(&self) -> String {
        format!("\r\x1b[K[bulkhead] {}", self.keys.line())
    }

    /// Shows what the machine says. Returns the outcome when that is decided.
    fn said(&mut self, emulator: &mut Emulator) -> Result<Option<Outcome>> {
        let bytes = match emulator.read(Duration::from_millis(1))? {
            Read::Bytes(bytes) => bytes,
            Read::Silence => return Ok(None),
            Read::Ended => {
                show(&self.view.finish())?;
                show(b"\n")?;
                let outcome = match self.watcher.finish() {
                    Some(event) => self.heed(event)?,
                    None => None,
                };
                return Ok(Some(outcome.unwrap_or(Outcome::Vanished)));
            }
        };
        for said in self.channels.feed(&bytes) {
            let outcome = match said.channel {
                Channel::Log => self.said_by_log(said)?,
                Channel::Guest(ref name) => {
                    self.states.has_spoken(name);
                    show(&self.view.say(&said))?;
                    None
                }
            };
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        Ok(None)
    }

    /// Shows a piece of the log, line by line where that means something.
    fn said_by_log(&mut self, mut said: Said) -> Result<Option<Outcome>> {
        let bytes = std::mem::take(&mut said.bytes);
        let mut shown = 0;
        for (end, event) in self.watcher.feed(&bytes) {
            said.bytes = bytes[shown..end].to_vec();
            show(&self.view.say(&said))?;
            said.breaks_line = false;
            shown = end;
            let outcome = self.heed(event)?;
            if outcome.is_some() {
                show(&self.view.finish())?;
                return Ok(outcome);
            }
        }
        said.bytes = bytes[shown..].to_vec();
        show(&self.view.say(&said))?;
        Ok(None)
    }

    /// Does what follows from a line. Returns the outcome when that is decided.
    fn heed(&mut self, event: Event) -> Result<Option<Outcome>> {
        match event {
            Event::ImageBase(base) => self.symbols.set_base(base),
            Event::Panic(_) => self.panicked = true,
            Event::Backtrace(address) => {
                for line in self.symbols.describe(address) {
                    show(format!("      {line}\n").as_bytes())?;
                }
            }
            Event::Input(name) => {
                if let Some(guest) = self.view.place(&name).filter(|&guest| guest != self.input) {
                    // The guest that is shown has stopped: the keys go where they can be seen.
                    if self.view.shown() == Shown::Guest(self.input) {
                        self.view.follow(guest);
                    }
                    self.input = guest;
                }
            }
            Event::Guest(name, news) => self.states.heed(&name, news),
            Event::Refused(_) => return Ok(Some(Outcome::Refused)),
            Event::Stopped { powered_off, faulted } => {
                let panicked = self.panicked;
                return Ok(Some(Outcome::Stopped { powered_off, faulted, panicked }));
            }
        }
        Ok(None)
    }
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("writing to standard output")
}

/// Signals that end xtask, caught so that the terminal is restored first.
struct Signals {
    /// Readable once a signal has come.
    pipe: UnixStream,
    number: Arc<AtomicUsize>,
    registered: Vec<signal_hook::SigId>,
}

impl Signals {
    fn catch() -> Result<Self> {
        let (pipe, writer) = UnixStream::pair()?;
        let number = Arc::new(AtomicUsize::new(0));
        let mut registered = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            let value = usize::try_from(signal)?;
            let flag = Arc::clone(&number);
            registered.push(signal_hook::flag::register_usize(signal, flag, value)?);
            registered.push(signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?);
        }
        Ok(Self { pipe, number, registered })
    }

    fn caught(&self) -> Option<i32> {
        match self.number.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_end_is_success() {
        let stopped = |faulted, panicked| Outcome::Stopped { powered_off: 1, faulted, panicked };
        assert_eq!(stopped(0, false).status(), 0);
        assert_eq!(stopped(1, false).status(), 1);
        assert_eq!(stopped(0, true).status(), 1);
        assert_eq!(Outcome::Refused.status(), 1);
        assert_eq!(Outcome::Vanished.status(), 1);
        assert_eq!(Outcome::Signal(15).status(), 143);
    }
}
