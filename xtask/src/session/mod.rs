//! The user's terminal connected to a running machine.

mod display;
mod outcome;
mod plain;
mod signals;

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_life::Life;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::channels::{Channel, Channels, SWITCH, Said};
use crate::console::{Event, Watcher};
use crate::emulator::{self, Emulator, Read};
use crate::keys::Action;
use crate::screen::Screen;
use crate::states;
use crate::symbols::Symbols;
use crate::terminal::RawTerminal;
use crate::view::Shown;
use crate::workspace;
pub use display::{Display, Model};
pub use outcome::Outcome;
use plain::Plain;
use signals::Signals;

/// Bytes that a user can type ahead of the emulator.
const MOST_TYPED: usize = 4096;
/// With so many bytes typed ahead, a guest has no answer of its terminal: it may ask faster than it takes them.
const MOST_ANSWERED: usize = 256;

/// How a session is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// On the whole screen, where there is one.
    FullScreen,
    /// As plain streams.
    Plain,
}

/// Connects standard input and output to a machine with guests of these names, in the order of the
/// manifest, until one of them ends it.
pub fn attach(
    emulator: &mut Emulator,
    symbols: &mut Symbols,
    guests: Vec<String>,
    style: Style,
) -> Result<Outcome> {
    let signals = Signals::catch()?;
    let terminal = RawTerminal::enter()?;
    let mut session = Session {
        symbols,
        channels: Channels::default(),
        watcher: Watcher::default(),
        model: Model::new(guests.clone()),
        display: display(emulator, terminal.as_ref(), guests, style)?,
        interactive: terminal.is_some(),
        input_open: true,
        pending: Vec::new(),
        panicked: false,
    };
    let outcome = session.run(emulator, &signals);
    let left = session.display.leave(&session.model);
    if matches!(outcome, Ok(Outcome::Stopped { .. })) {
        // The hypervisor powers the machine off after its last line.
        emulator.wait(Duration::from_millis(500));
    }
    emulator.kill();
    match outcome? {
        // The terminal may be gone, and be the reason for it.
        signal @ Outcome::Signal(_) => Ok(signal),
        outcome => left.map(|()| outcome),
    }
}

/// The way of showing it that fits what there is.
fn display(
    emulator: &Emulator,
    terminal: Option<&RawTerminal>,
    guests: Vec<String>,
    style: Style,
) -> Result<Box<dyn Display>> {
    if let (Some(raw), Style::FullScreen) = (terminal, style)
        && Screen::fits()
    {
        let record = workspace::shown(&emulator.folder().join(emulator::RECORD));
        return Ok(Box::new(Screen::new(raw, guests, record)?));
    }
    if terminal.is_some() {
        let guest = match guests.as_slice() {
            [first, _, ..] => format!("guest {first}"),
            _ => "the guest".into(),
        };
        eprint!("The keys go to {guest} now; Ctrl-] leads out.\r\n");
    }
    let on_terminal = terminal.is_some() && std::io::stdout().is_terminal();
    Ok(Box::new(Plain::new(guests, on_terminal)))
}

struct Session<'a> {
    symbols: &'a mut Symbols,
    channels: Channels,
    watcher: Watcher,
    model: Model,
    display: Box<dyn Display>,
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
            let until_drawn = self.display.draw(&self.model)?;
            let until_drawn = until_drawn.map(Timespec::try_from).transpose()?;
            let wanted_of_serial = match (self.output_waits(), self.pending.is_empty()) {
                // The guest's output waits, and so does the machine.
                (true, _) => PollFlags::empty(),
                (false, true) => PollFlags::IN,
                (false, false) => PollFlags::IN | PollFlags::OUT,
            };
            let ask_input = self.input_open && self.pending.len() <= self.most_pending();
            let wanted_of_input = if ask_input { PollFlags::IN } else { PollFlags::empty() };
            let mut polled = [
                PollFd::from_borrowed_fd(emulator.serial().as_fd(), wanted_of_serial),
                PollFd::from_borrowed_fd(signals.file(), PollFlags::IN),
                PollFd::from_borrowed_fd(emulator.answers(), PollFlags::IN),
                PollFd::from_borrowed_fd(input.as_fd(), wanted_of_input),
            ];
            // A closed input is reported whether asked for or not: leave it out then.
            let count = if ask_input { 4 } else { 3 };
            match poll(&mut polled[..count], until_drawn.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for input"),
            }
            let [said, _, answered, typed] =
                [0, 1, 2, 3].map(|at: usize| at < count && !polled[at].revents().is_empty());
            let can_write = polled[0].revents().contains(PollFlags::OUT);
            // In this order: what is asked first makes the file with signals wait again.
            if signals.resized() {
                self.display.resized()?;
            }
            if let Some(signal) = signals.caught() {
                return Ok(Outcome::Signal(signal));
            }
            if can_write {
                let taken = emulator.write_some(&self.pending)?;
                self.pending.drain(..taken);
            }
            if answered {
                self.overhear(emulator);
            }
            if typed && self.typed(&input)? {
                return Ok(Outcome::Quit);
            }
            if said
                && !self.output_waits()
                && let Some(outcome) = self.said(emulator)?
            {
                return Ok(outcome);
            }
        }
    }

    /// With how many bytes that the emulator has not taken more are read.
    fn most_pending(&self) -> usize {
        // A file on standard input is read no faster than the guest takes it. A user may want to leave a machine that
        // takes nothing.
        if self.interactive { MOST_TYPED } else { 0 }
    }

    fn output_waits(&self) -> bool {
        self.display.holds_output() && self.model.keys.prompting()
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
        for action in self.model.keys.feed(&bytes[..length]) {
            match &action {
                Action::Send(bytes) => self.send(bytes),
                Action::Guest(guest) => self.show_guest(*guest)?,
                Action::Next => {
                    self.show_guest((self.model.input + 1) % self.model.states.count().max(1))?;
                }
                Action::Log => self.display.switch(Shown::Log)?,
                Action::All => self.display.switch(Shown::All)?,
                Action::Pause => {
                    let paused = self.model.states.state(self.model.input) == Some(Life::Paused);
                    self.order(if paused { "resume" } else { "pause" });
                }
                Action::Stop => self.order("stop"),
                Action::Command(command) => self.command(command),
                Action::Prompt
                | Action::Help
                | Action::Continue
                | Action::Line
                | Action::Choices(_)
                | Action::Scroll(_)
                | Action::Quit => {}
            }
            self.display.acted(&self.model, &action)?;
            if action == Action::Quit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends bytes to the guest that gets what is typed.
    fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // Twice, it is for the guest.
            let times = if byte == SWITCH { 2 } else { 1 };
            self.pending.extend(std::iter::repeat_n(byte, times));
        }
    }

    /// Shows a guest's console, and lets it have what is typed.
    fn show_guest(&mut self, guest: usize) -> Result<()> {
        let Some(name) = self.model.states.name(guest) else {
            self.model.keys.prompt_again();
            return self.display.no_such_guest(&self.model);
        };
        let attach = format!("attach {name}");
        self.command(attach.as_bytes());
        self.model.input = guest;
        self.display.switch(Shown::Guest(guest))
    }

    /// Has something done to the guest that gets what is typed. The log has the answer.
    fn order(&mut self, order: &str) {
        if let Some(name) = self.model.input_name() {
            let order = format!("{order} {name}");
            self.command(order.as_bytes());
        }
    }

    /// Gives the hypervisor a command. The log has the answer.
    fn command(&mut self, command: &[u8]) {
        self.pending.push(SWITCH);
        self.pending.extend(command);
        self.pending.push(b'\r');
    }

    /// Shows what the machine says. Returns the outcome when that is decided.
    fn said(&mut self, emulator: &mut Emulator) -> Result<Option<Outcome>> {
        let bytes = match emulator.read(Duration::from_millis(1))? {
            Read::Bytes(bytes) => bytes,
            Read::Silence => return Ok(None),
            Read::Ended => {
                self.display.finish(&self.model)?;
                self.display.remark("")?;
                let outcome = match self.watcher.finish() {
                    Some(event) => self.heed(event)?,
                    None => None,
                };
                return Ok(Some(outcome.unwrap_or(Outcome::Vanished)));
            }
        };
        for said in self.channels.feed(&bytes) {
            let outcome = match &said.channel {
                Channel::Log => self.said_by_log(said)?,
                Channel::Guest(name) => {
                    let answer = self.display.say(&self.model, &said)?;
                    // A guest that does not get what is typed cannot have it.
                    let room = self.pending.len() < MOST_ANSWERED;
                    if room && self.model.input_name() == Some(name) {
                        self.send(&answer);
                    }
                    None
                }
            };
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        Ok(None)
    }

    /// Takes what the machine has answered to clients of the control protocol.
    fn overhear(&mut self, emulator: &Emulator) {
        while let Some(line) = emulator.answer() {
            if let Some((name, news)) = states::news(&line) {
                self.model.states.heed(name, news);
                self.display.state_changed();
            }
        }
    }

    /// Shows a piece of the log, line by line where that means something.
    fn said_by_log(&mut self, mut said: Said) -> Result<Option<Outcome>> {
        let bytes = std::mem::take(&mut said.bytes);
        let mut shown = 0;
        for (end, event) in self.watcher.feed(&bytes) {
            said.bytes = bytes[shown..end].to_vec();
            self.display.say(&self.model, &said)?;
            said.breaks_line = false;
            shown = end;
            let outcome = self.heed(event)?;
            if outcome.is_some() {
                self.display.finish(&self.model)?;
                return Ok(outcome);
            }
        }
        said.bytes = bytes[shown..].to_vec();
        self.display.say(&self.model, &said)?;
        Ok(None)
    }

    /// Does what follows from a line. Returns the outcome when that is decided.
    fn heed(&mut self, event: Event) -> Result<Option<Outcome>> {
        match event {
            Event::ImageBase(base) => self.symbols.set_base(base),
            Event::Panic(_) => self.panicked = true,
            Event::Backtrace(address) => {
                for line in self.symbols.describe(address) {
                    self.display.remark(&format!("      {line}"))?;
                }
            }
            Event::Input(name) => {
                let Some(guest) = self.model.states.place(&name) else { return Ok(None) };
                if guest != self.model.input {
                    // The guest that is shown has stopped: the keys go where they can be seen.
                    if self.display.shown() == Shown::Guest(self.model.input) {
                        self.display.follow(guest)?;
                    }
                    self.model.input = guest;
                }
            }
            Event::Guest(name, news) => self.model.states.heed(&name, news),
            Event::Refused(_) => return Ok(Some(Outcome::Refused)),
            Event::Stopped { powered_off, faulted } => {
                let panicked = self.panicked;
                return Ok(Some(Outcome::Stopped { powered_off, faulted, panicked }));
            }
        }
        Ok(None)
    }
}
