//! The guests' consoles on the one serial port: their output in equal shares, the input for the guest
//! that is attached, and the operator's commands.

use super::answers::answer;
use super::commands::{COMMANDS, MAX_COMMAND};
use super::guest::Guest;
use super::input::{Input, Reader};
use super::log as console;
use super::port;
use super::shares::{Next, Shares};
use super::wire::PIECE;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_life::Life;
use bulkhead_line::{Edit, LONGEST, Line};
use core::fmt::{self, Write};
use log::warn;

/// Microseconds between two looks at what was lost.
const LOSS_PERIOD: u64 = 5_000_000;
const _: () = assert!(LONGEST <= MAX_COMMAND);
/// What is before a line that is edited.
const PROMPT: &str = "bulkhead> ";

/// Bytes that a guest's console has lost, as far as the log has said so.
#[derive(Clone, Copy, Default)]
struct Lost {
    output: u64,
    input: u64,
    input_said: u64,
}

/// Output, input and commands of all guests, which have their places in the manifest as numbers.
pub struct Consoles {
    shares: Shares,
    reader: Reader,
    /// The line that is edited, and those before it.
    line: Line,
    /// The guest that gets what is typed.
    attached: usize,
    lost: Vec<Lost>,
    /// When losses were looked at last, in microseconds.
    looked: u64,
    /// The serial port interrupts; without that it is polled.
    interrupts: bool,
}

/// Something typed that is not for a guest.
pub enum Typed {
    /// A command line.
    Line(heapless::Vec<u8, MAX_COMMAND>),
    /// One that was edited; another may be.
    Edited(heapless::Vec<u8, MAX_COMMAND>),
    /// The end of one that was too long.
    TooLong,
}

impl Consoles {
    /// Consoles of so many guests, the first of them attached. Begins to queue the log.
    pub fn new(guests: usize, interrupts: bool) -> Self {
        console::queue();
        Self {
            shares: Shares::new(guests),
            reader: Reader::default(),
            line: Line::default(),
            attached: 0,
            lost: vec![Lost::default(); guests],
            looked: 0,
            interrupts,
        }
    }

    /// Gives the serial port what it takes at once. Says whether there is more to do before the
    /// service core may sleep.
    pub fn transmit(&mut self, guests: &[Guest]) -> bool {
        let mut moved = false;
        while let Some(offer) = console::offer() {
            let pending = |index: usize| has_output(&guests[index]);
            match self.shares.next(console::micros(), offer.log || port::has_shared(), pending) {
                Next::Log if offer.log => console::say_log(),
                Next::Log => {
                    console::say_frame(&port::take_shared());
                }
                Next::Guest(index) => {
                    let guest = &guests[index];
                    let mut piece = [0; PIECE];
                    let piece = &mut piece[..offer.room];
                    let len = take_output(guest, piece);
                    let cost = console::say_guest(index, guest.name(), &piece[..len]);
                    self.shares.sent(cost, piece[..len].ends_with(b"\n"));
                }
                Next::Nobody => break,
            }
            moved = true;
        }
        console::send();
        // With interrupts, one comes when the port takes more. Where the rest of a line is waited for, the
        // guest rings when it writes it, and the timer ends the wait.
        moved || (!self.interrupts && (console::unsent() || port::has_shared()))
    }

    /// Whether the port has a reason to interrupt that was not looked at yet.
    pub fn interrupt_pending(&self) -> bool {
        self.interrupts && console::interrupt_pending()
    }

    /// Takes what was typed, up to a command. Says whether there was anything.
    pub fn receive(&mut self, guests: &[Guest]) -> (bool, Option<Typed>) {
        let mut byte = [0];
        let mut any = false;
        while console::take_input(&mut byte) > 0 {
            any = true;
            match self.reader.feed(byte[0]) {
                None => {}
                Some(Input::Byte(byte)) => {
                    let lost = !give_input(&guests[self.attached], byte);
                    self.lost[self.attached].input += u64::from(lost);
                }
                Some(Input::Line(line)) => {
                    // It is never longer than that.
                    let line = heapless::Vec::from_slice(line).unwrap_or_default();
                    return (true, Some(Typed::Line(line)));
                }
                Some(Input::EditBegins) => {
                    self.line.begin();
                    self.show_line();
                }
                Some(Input::Edit(key)) => {
                    if let Some(line) = self.edit(guests, key) {
                        return (true, Some(Typed::Edited(line)));
                    }
                }
                Some(Input::EditEnds) => console::echo("\n"),
                Some(Input::FrameBegins) => port::begin_shared(),
                Some(Input::Frame(byte)) => port::receive_shared(byte),
                Some(Input::TooLong) => return (true, Some(Typed::TooLong)),
            }
        }
        (any, None)
    }

    /// Takes a key of the line that is edited; gives the line when it is complete. An empty one ends it.
    fn edit(&mut self, guests: &[Guest], key: u8) -> Option<heapless::Vec<u8, MAX_COMMAND>> {
        let names: Vec<&str> = guests.iter().map(Guest::name).collect();
        match self.line.feed(key, &names) {
            Edit::Same => {}
            Edit::Changed => self.show_line(),
            Edit::Choices(choices) => {
                console::echo("\n");
                console::echo(&list_with("  ", choices.iter()));
                console::echo("\n");
                self.show_line();
            }
            Edit::Done(line) if !line.trim_ascii().is_empty() => {
                console::echo("\n");
                // It is never longer than that.
                return heapless::Vec::from_slice(&line).ok();
            }
            Edit::Done(_) | Edit::Cancelled => {
                console::echo("\n");
                self.reader.leave_editing();
            }
        }
        None
    }

    /// Shows the line that is edited, in place of how it was. What comes between is not undone: the next key shows it anew.
    pub fn show_line(&self) {
        /// To the line's beginning, and clear it to its end (ECMA-48, 8.3.41).
        const ANEW: &str = "\r\x1b[K";
        console::echo(ANEW);
        console::echo(PROMPT);
        console::echo(&self.line.shown());
    }

    /// Forgets what was typed to the hypervisor: whoever did so has left.
    pub fn forget_lines(&mut self) {
        self.line.forget();
    }

    /// The guest that gets what is typed.
    pub fn attached(&self) -> usize {
        self.attached
    }

    /// Gives what is typed to another guest from now on.
    pub fn attach(&mut self, guest: usize) {
        self.attached = guest;
    }

    /// Says what was lost since it was said last, every few seconds.
    pub fn report_losses(&mut self, guests: &[Guest]) {
        let now = console::micros();
        if now.saturating_sub(self.looked) < LOSS_PERIOD {
            return;
        }
        self.looked = now;
        for (guest, lost) in guests.iter().zip(&mut self.lost) {
            let name = guest.name();
            let Some(output) = guest.platform().map(|platform| platform.console_dropped()) else {
                continue;
            };
            // A guest that has started again counts anew.
            let before = if output < lost.output { 0 } else { lost.output };
            if output > before {
                let more = output - before;
                warn!(
                    "guest {name}: {more} bytes of its console were lost: it wrote while LSR.THRE was 0"
                );
            }
            lost.output = output;
            if lost.input > lost.input_said {
                let more = lost.input - lost.input_said;
                warn!(
                    "guest {name}: {more} typed bytes were lost: it does not read its console, or is quarantined"
                );
                lost.input_said = lost.input;
            }
        }
    }
}

/// Whether a guest's console has output that may be sent. Not if it is quarantined; nor if the hypervisor has failed on
/// its core: its devices may be locked for good.
pub fn has_output(guest: &Guest) -> bool {
    guest.life() != Life::Quarantined
        && guest.platform().is_some_and(|platform| platform.console_output_pending())
}

/// Takes output, up to the end of a line, and tells the guest that there is room.
fn take_output(guest: &Guest, buffer: &mut [u8]) -> usize {
    let Some(mut platform) = guest.platform() else { return 0 };
    let (len, message) = platform.console_output(buffer);
    if let Some(message) = message {
        guest.shared().deliver(&message);
    }
    len
}

/// Gives a guest a typed byte. Says whether there was room.
fn give_input(guest: &Guest, byte: u8) -> bool {
    if guest.life() == Life::Quarantined {
        return false;
    }
    let Some(mut platform) = guest.platform() else { return false };
    let (taken, message) = platform.console_input(&[byte]);
    if let Some(message) = message {
        guest.shared().deliver(&message);
    }
    taken > 0
}

/// Answers `help`.
pub fn help() {
    answer(format_args!(
        "Ctrl-] and one of: {COMMANDS}; Ctrl-] twice is one for the guest; Ctrl-] Tab opens a line with history and completion"
    ));
}

/// Names as a sentence has them, with commas between.
pub fn list<T: fmt::Display>(names: impl Iterator<Item = T>) -> String {
    list_with(", ", names)
}

/// The same with something else between.
pub fn list_with<T: fmt::Display>(between: &str, names: impl Iterator<Item = T>) -> String {
    let mut list = String::new();
    for name in names {
        let between = if list.is_empty() { "" } else { between };
        // Writing to a string does not fail.
        let _ = write!(list, "{between}{name}");
    }
    list
}
