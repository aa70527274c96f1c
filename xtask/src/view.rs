//! What of the machine's channels is shown: one console, the log, or the lines of all.

use std::collections::VecDeque;

use crate::channels::{Channel, Said};
use crate::console;

/// Bytes of each channel that are shown again when it is switched to.
const HISTORY: usize = 64 << 10;
/// Bytes of a line that is held back until it is whole, where lines of several are shown.
const LONGEST_LINE: usize = 4 << 10;
/// Puts a terminal's colours back, clears it, and goes to its first line.
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J\x1b[H";
/// Foreground colours of the guests' names: green, yellow, blue, magenta, cyan.
const COLOURS: [u8; 5] = [32, 33, 34, 35, 36];

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The console of the guest with this place in the manifest, and what the log has on it.
    Guest(usize),
    /// The hypervisor's log.
    Log,
    /// Whole lines of all, the guest's name before them.
    All,
    /// All bytes as they come: for one guest without a terminal.
    Stream,
}

/// The newest bytes of something.
#[derive(Debug, Default)]
struct History(VecDeque<u8>);

impl History {
    fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(HISTORY)..];
        let excess = (self.0.len() + new.len()).saturating_sub(HISTORY);
        self.0.drain(..excess);
        self.0.extend(new);
    }

    /// The bytes, but for a line whose beginning is lost.
    fn shown(&self) -> Vec<u8> {
        let whole = self.0.len() < HISTORY;
        let first = self.0.iter().position(|&byte| byte == b'\n').filter(|_| !whole);
        self.0.iter().skip(first.map_or(0, |at| at + 1)).copied().collect()
    }
}

#[derive(Debug)]
struct Guest {
    name: String,
    history: History,
    /// A line that has begun.
    line: Vec<u8>,
}

/// What is shown, and what would be.
#[derive(Debug)]
pub struct View {
    guests: Vec<Guest>,
    log: History,
    /// A line of the log that has begun.
    log_line: Vec<u8>,
    all: History,
    shown: Shown,
    /// The guest that is shown has said something. Before that the log is shown in its place.
    started: bool,
    coloured: bool,
    /// What was shown last ended with a line end.
    at_line_start: bool,
}

impl View {
    /// A view of guests of these names. On a terminal it is the first guest's console, otherwise
    /// everything.
    pub fn new(names: Vec<String>, terminal: bool) -> Self {
        let shown = match names.len() {
            _ if terminal => Shown::Guest(0),
            1 => Shown::Stream,
            _ => Shown::All,
        };
        let guest = |name| Guest { name, history: History::default(), line: Vec::new() };
        Self {
            guests: names.into_iter().map(guest).collect(),
            log: History::default(),
            log_line: Vec::new(),
            all: History::default(),
            shown,
            started: false,
            coloured: terminal,
            at_line_start: true,
        }
    }

    /// What is shown.
    pub fn shown(&self) -> Shown {
        self.shown
    }

    /// The guest with this place in the manifest.
    fn name(&self, guest: usize) -> Option<&str> {
        self.guests.get(guest).map(|guest| guest.name.as_str())
    }

    /// The place of a guest in the manifest.
    fn place(&self, name: &str) -> Option<usize> {
        self.guests.iter().position(|guest| guest.name == name)
    }

    /// Takes what somebody said. Gives what is to be shown of it.
    pub fn say(&mut self, said: &Said) -> Vec<u8> {
        let mut out = Vec::new();
        if self.shown == Shown::Stream {
            if said.breaks_line {
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(&said.bytes);
            return out;
        }
        match &said.channel {
            Channel::Log => self.say_log(&said.bytes, &mut out),
            Channel::Guest(name) => {
                if let Some(index) = self.place(name) {
                    self.say_guest(index, &said.bytes, &mut out);
                }
            }
        }
        self.note(&out);
        out
    }

    /// Gives what was held back: for the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for index in 0..self.guests.len() {
            self.end_line(index, &mut out);
        }
        self.end_log_line(&mut out);
        self.note(&out);
        out
    }

    /// Shows something else. Gives what the screen then is.
    pub fn switch(&mut self, to: Shown) -> Vec<u8> {
        (self.shown, self.started) = (to, true);
        let mut out = if self.coloured { CLEAR.to_vec() } else { Vec::new() };
        out.extend(match to {
            Shown::Guest(index) => {
                self.guests.get(index).map(|guest| guest.history.shown()).unwrap_or_default()
            }
            Shown::Log => self.log.shown(),
            Shown::All | Shown::Stream => self.all.shown(),
        });
        self.note(&out);
        out
    }

    /// Shows another guest's console from now on, below what is there.
    pub fn follow(&mut self, guest: usize) {
        (self.shown, self.started) = (Shown::Guest(guest), true);
    }

    fn note(&mut self, out: &[u8]) {
        if let Some(&last) = out.last() {
            self.at_line_start = last == b'\n';
        }
    }

    fn say_guest(&mut self, index: usize, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.history.push(bytes);
        if self.shown == Shown::Guest(index) {
            self.started = true;
            out.extend_from_slice(bytes);
        }
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.guests[index].line.extend_from_slice(line);
            if line.ends_with(b"\n") || self.guests[index].line.len() >= LONGEST_LINE {
                self.end_line(index, out);
            }
        }
    }

    /// Adds a guest's line to those of all.
    fn end_line(&mut self, index: usize, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.guests[index].line);
        if line.is_empty() {
            return;
        }
        let line = plain(&line);
        let name = &self.guests[index].name;
        let mut whole = if self.coloured {
            let colour = COLOURS[index % COLOURS.len()];
            format!("\x1b[{colour}m{name}:\x1b[0m ").into_bytes()
        } else {
            format!("{name}: ").into_bytes()
        };
        whole.extend_from_slice(line.as_bytes());
        whole.extend_from_slice(b"\r\n");
        self.all.push(&whole);
        if self.shown == Shown::All {
            out.extend(whole);
        }
    }

    fn say_log(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.log.push(bytes);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.log_line.extend_from_slice(line);
            if line.ends_with(b"\n") || self.log_line.len() >= LONGEST_LINE {
                self.end_log_line(out);
            }
        }
    }

    fn end_log_line(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.log_line);
        self.all.push(&line);
        let shown = match self.shown {
            Shown::Guest(index) => {
                !self.started || concerns(&String::from_utf8_lossy(&line), self.name(index))
            }
            Shown::Log | Shown::All | Shown::Stream => true,
        };
        if shown {
            let at_line_start = out.last().map_or(self.at_line_start, |&last| last == b'\n');
            if !at_line_start && !line.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
            out.extend(line);
        }
    }
}

/// Whether a line of the log is shown beside the console of a guest of this name: errors, answers to commands, what
/// is said of this guest, and what is marked.
pub fn concerns(line: &str, guest: Option<&str>) -> bool {
    if line.starts_with(console::MARK) {
        return true;
    }
    let Some(text) = console::text(line.trim_end()) else { return false };
    let plain = text.strip_prefix("warning: ").unwrap_or(text);
    let of_guest = guest.is_some_and(|name| {
        plain
            .strip_prefix("guest ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(':'))
    });
    of_guest
        || text.starts_with("error: ")
        || text.starts_with("console: ")
        || text.starts_with("input goes to guest ")
}

/// A line without control characters and escape sequences (ECMA-48, 5.4 and 5.5): with them a guest
/// could write over another's name.
pub fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            // A control sequence goes on to its final byte; of others only the next byte is left out.
            if characters.next() == Some('[') {
                characters.find(|character| ('@'..='~').contains(character));
            }
        } else if character == '\t' || !character.is_control() {
            plain.push(character);
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: bool = true;

    fn view(names: &[&str], terminal: bool) -> View {
        View::new(names.iter().map(ToString::to_string).collect(), terminal)
    }

    fn say(view: &mut View, who: &str, text: &str) -> String {
        let channel = match who {
            "" => Channel::Log,
            name => Channel::Guest(name.into()),
        };
        let said = Said { channel, breaks_line: false, bytes: text.into() };
        String::from_utf8(view.say(&said)).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn without_a_terminal_one_guest_is_shown_as_it_comes() {
        let mut view = view(&["one"], false);
        assert_eq!(say(&mut view, "", "log\r"), "log\r");
        assert_eq!(say(&mut view, "one", "$ "), "$ ");
        let log = Said { channel: Channel::Log, breaks_line: true, bytes: b"x\r\n".to_vec() };
        assert_eq!(text(view.say(&log)), "\r\nx\r\n");
        assert_eq!(text(view.finish()), "");
    }

    #[test]
    fn without_a_terminal_lines_of_several_have_names() {
        let mut view = view(&["one", "two"], false);
        assert_eq!(say(&mut view, "one", "a line\r\nand"), "one: a line\r\n");
        assert_eq!(say(&mut view, "two", "other\n"), "two: other\r\n");
        assert_eq!(say(&mut view, "", "[   1.000000] x\r\n"), "[   1.000000] x\r\n");
        assert_eq!(say(&mut view, "one", " more\n\n"), "one: and more\r\none: \r\n");
        assert_eq!(say(&mut view, "two", "$ "), "");
        assert_eq!(text(view.finish()), "two: $\r\n");
    }

    #[test]
    fn the_log_is_shown_until_the_guest_speaks() {
        let mut view = view(&["one", "two"], TERMINAL);
        assert_eq!(say(&mut view, "", "[   1.000000] plan\r\n"), "[   1.000000] plan\r\n");
        assert_eq!(say(&mut view, "two", "hello\r\n"), "");
        assert_eq!(say(&mut view, "one", "$ "), "$ ");
        let mut shown = |line: &str| !say(&mut view, "", &format!("{line}\r\n")).is_empty();
        assert!(!shown("[   2.000000] guest two: powered off"));
        assert!(!shown("[   2.000000] guest one-2: powered off"));
        assert!(shown("[   2.000000] guest one: powered off"));
        assert!(shown("[   2.000000] warning: guest one: 5 bytes of its console were lost"));
        assert!(shown("[   2.000000] error: guest two: stopped: triple fault"));
        assert!(shown("[   2.000000] console: guests: one"));
        assert!(shown("[   2.000000] input goes to guest two: guest one has stopped"));
        assert!(shown("\x1ebulkhead: all guests stopped: 2 powered off, 0 faulted"));
    }

    #[test]
    fn a_line_of_the_log_begins_a_line() {
        let mut view = view(&["one"], TERMINAL);
        say(&mut view, "one", "$ ");
        assert_eq!(say(&mut view, "", "\x1ex\r\n"), "\r\n\x1ex\r\n");
        assert_eq!(say(&mut view, "", "\x1ey\r"), "");
        assert_eq!(text(view.finish()), "\x1ey\r");
    }

    #[test]
    fn what_was_said_is_shown_again() {
        let mut view = view(&["one", "two"], TERMINAL);
        let clear = String::from_utf8(CLEAR.to_vec()).unwrap();
        say(&mut view, "one", "1");
        say(&mut view, "two", "2\n");
        say(&mut view, "", "log\n");
        assert_eq!(text(view.switch(Shown::Guest(1))), format!("{clear}2\n"));
        assert_eq!(say(&mut view, "two", "more"), "more");
        assert_eq!(say(&mut view, "one", "not"), "");
        assert_eq!(text(view.switch(Shown::Log)), format!("{clear}log\n"));
        let all = format!("{clear}\x1b[33mtwo:\x1b[0m 2\r\nlog\n");
        assert_eq!(text(view.switch(Shown::All)), all);
        assert_eq!(say(&mut view, "one", "\n"), "\x1b[32mone:\x1b[0m 1not\r\n");
    }

    #[test]
    fn among_lines_of_all_no_guest_moves_the_cursor() {
        assert_eq!(plain(b"a\x1b[1;32mb\x1b[0m\tc\rd\x07\x08\r\n"), "ab\tcd");
        assert_eq!(plain("\u{9b}2J\x1b]0;title\x07 x\x1b[".as_bytes()), "2J0;title x");
        let mut view = view(&["one", "two"], false);
        assert_eq!(say(&mut view, "one", "\x1b[A\rtwo: no\n"), "one: two: no\r\n");
    }

    #[test]
    fn history_is_bounded_and_begins_with_a_line() {
        let mut view = view(&["one"], TERMINAL);
        for number in 0..20_000 {
            say(&mut view, "one", &format!("line {number}\n"));
        }
        let shown = text(view.switch(Shown::Guest(0)));
        assert!(shown.len() <= HISTORY + CLEAR.len());
        assert!(shown.starts_with(&format!("{}line 1", String::from_utf8_lossy(CLEAR))), "{shown}");
        assert!(shown.ends_with("line 19999\n"));
        assert!(view.guests[0].line.is_empty() && view.all.0.len() <= HISTORY);
    }
}
