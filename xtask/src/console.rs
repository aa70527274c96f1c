//! Reading the hypervisor's log. Lines that mean something begin with a mark, but for those that
//! say who gets what is typed, and what has become of a guest.

use bulkhead_manifest::limits;

use crate::states::{self, News};

/// ASCII's record separator begins a line for tools; the hypervisor takes the byte out of what
/// guests write. Terminals show nothing for it.
pub const MARK: char = '\x1e';

/// How much of a line is looked at. The hypervisor's own lines are shorter.
const LONGEST: usize = 512;

/// A line that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Where the hypervisor was loaded: its link addresses count from there.
    ImageBase(u64),
    /// The hypervisor itself failed.
    Panic(String),
    /// A return address of a panic's backtrace.
    Backtrace(u64),
    /// The hypervisor does not start, and says why.
    Refused(String),
    /// The last line of a run.
    Stopped {
        /// Guests that ended as they should.
        powered_off: u32,
        /// Guests that were stopped for a fault.
        faulted: u32,
    },
    /// What is typed goes to the guest of this name from now on.
    Input(String),
    /// Something is said of the guest of this name.
    Guest(String, News),
}

/// Finds events in the log, whatever pieces it comes in.
#[derive(Debug, Default)]
pub struct Watcher {
    line: Vec<u8>,
}

impl Watcher {
    /// Takes the next piece. Gives the events in it, each with the place in the piece at which its
    /// line ends.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        for (at, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' {
                events.extend(event(&self.line).map(|event| (at + 1, event)));
                self.line.clear();
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
        events
    }

    /// The event in the line that was begun last. For the end of the stream: a machine may lose
    /// power with the last line's end still in its serial port.
    pub fn finish(&mut self) -> Option<Event> {
        event(&std::mem::take(&mut self.line))
    }
}

fn event(line: &[u8]) -> Option<Event> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    if let Some(text) = text(line) {
        let guest = || {
            let (name, news) = states::news(text)?;
            Some(Event::Guest(name.to_string(), news))
        };
        return input(text).or_else(guest);
    }
    let line = line.strip_prefix(MARK)?;
    if let Some(rest) = line.strip_prefix("bulkhead: ") {
        if let Some(reason) = rest.strip_prefix("refused: ") {
            return Some(Event::Refused(reason.to_string()));
        }
        if let Some(address) = rest.strip_prefix("image base ") {
            return hexadecimal(address).map(Event::ImageBase);
        }
        let counts = rest.strip_prefix("all guests stopped: ")?;
        let (powered_off, faulted) = counts.split_once(", ")?;
        return Some(Event::Stopped {
            powered_off: powered_off.strip_suffix(" powered off")?.parse().ok()?,
            faulted: faulted.strip_suffix(" faulted")?.parse().ok()?,
        });
    }
    if let Some(address) = line.strip_prefix("  backtrace: ") {
        return hexadecimal(address).map(Event::Backtrace);
    }
    let panic = line.strip_prefix("panic: ")?;
    panic.starts_with("core ").then(|| Event::Panic(panic.to_string()))
}

/// The text of a line of the log that has a time before it.
pub fn text(line: &str) -> Option<&str> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    time.trim().parse::<f64>().ok()?;
    Some(text)
}

/// An answer to a command, in a line's text: `Err` where the command was refused.
pub fn answer(text: &str) -> Option<Result<&str, &str>> {
    match text.strip_prefix("error: ") {
        Some(refusal) => refusal.strip_prefix("console: ").map(Err),
        None => text.strip_prefix("console: ").map(Ok),
    }
}

/// Who gets what is typed, of `input goes to guest NAME`, with or without more behind it.
fn input(text: &str) -> Option<Event> {
    let text = answer(text).and_then(Result::ok).unwrap_or(text);
    let rest = text.strip_prefix("input goes to guest ")?;
    let name = rest.split([':', ',']).next()?;
    limits::is_name(name).then(|| Event::Input(name.to_string()))
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        Watcher::default().feed(text.as_bytes()).into_iter().map(|(_, event)| event).collect()
    }

    #[test]
    fn a_run_is_understood() {
        let text = "\x1ebulkhead: image base 0xffff800000000000\r\n\
                    \x1epanic: core 1: no such thing at kernel/src/main.rs:7\n\
                    \x1e  backtrace: 0xffff800000001234\n\
                    \x1ebulkhead: all guests stopped: 2 powered off, 1 faulted\n";
        let panic = "core 1: no such thing at kernel/src/main.rs:7".to_string();
        let expected = [
            Event::ImageBase(0xffff_8000_0000_0000),
            Event::Panic(panic),
            Event::Backtrace(0xffff_8000_0000_1234),
            Event::Stopped { powered_off: 2, faulted: 1 },
        ];
        assert_eq!(events(text), expected);
        // The same in pieces of one byte.
        let mut watcher = Watcher::default();
        let pieces = text.as_bytes().chunks(1).flat_map(|piece| watcher.feed(piece));
        assert!(pieces.eq(expected.map(|event| (1, event))));
    }

    #[test]
    fn only_whole_lines_count() {
        assert_eq!(events("\x1ebulkhead: refused: no VT-x"), []);
        assert_eq!(events("bulkhead: refused: a guest says so\n"), []);
        assert_eq!(events("~ # echo \x1ebulkhead: refused: no\n"), []);
        assert_eq!(events("\x1ebulkhead: refused: no VT-x\n"), [Event::Refused("no VT-x".into())]);
        assert_eq!(events("\x1ebulkhead: all guests stopped: x powered off, 1 faulted\n"), []);
        assert_eq!(events("\x1e  backtrace: ffff\n"), []);
    }

    #[test]
    fn who_gets_the_input_is_known() {
        let input = |name: &str| vec![Event::Input(name.into())];
        assert_eq!(events("[   1.000000] console: input goes to guest two\r\n"), input("two"));
        let stopped = "[   1.000000] console: input goes to guest two, which is powered off\n";
        assert_eq!(events(stopped), input("two"));
        let moved = "[  10.000000] input goes to guest a-b: guest two has stopped\r\n";
        assert_eq!(events(moved), input("a-b"));
        assert_eq!(events("[   1.000000] error: console: input goes to guest two\n"), []);
        assert_eq!(events("input goes to guest two\n"), []);
    }

    #[test]
    fn answers_are_told_from_other_lines() {
        assert_eq!(answer("console: guests: a"), Some(Ok("guests: a")));
        assert_eq!(answer("error: console: no"), Some(Err("no")));
        assert_eq!(answer("guest console: x"), None);
        assert_eq!(text("[   1.5] x] y"), Some("x] y"));
        assert_eq!(text("[one] x"), None);
    }

    #[test]
    fn the_last_line_may_lack_its_end() {
        let mut watcher = Watcher::default();
        assert_eq!(
            watcher.feed(b"x\n\x1ebulkhead: all guests stopped: 1 powered off, 0 faulted\r"),
            []
        );
        assert_eq!(watcher.finish(), Some(Event::Stopped { powered_off: 1, faulted: 0 }));
        assert_eq!(watcher.finish(), None);
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut watcher = Watcher::default();
        for _ in 0..1000 {
            watcher.feed(&[b'x'; 4096]);
        }
        assert!(watcher.line.len() <= LONGEST);
    }
}
