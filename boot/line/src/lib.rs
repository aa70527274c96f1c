//! A line that an operator types to the hypervisor: with history and completion, and with passwords unseen. The
//! hypervisor has one for a plain terminal, and `cargo xtask run` one of its own.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bulkhead_manifest::limits;

/// Most bytes of a command.
pub const LONGEST: usize = 128;
/// Commands that are remembered.
const REMEMBERED: usize = 16;
/// What a password follows, behind a name.
const SIGN_IN: &str = "sign-in";

/// The hypervisor's commands, and whether a guest's name comes next.
pub const COMMANDS: [(&str, bool); 27] = [
    ("attach", true),
    ("audit", false),
    ("define", true),
    ("destroy", true),
    ("dump", true),
    ("examine", true),
    ("exits", true),
    ("help", false),
    ("info", true),
    ("inventory", false),
    ("list", false),
    ("log", false),
    ("memory", false),
    ("pause", true),
    ("plan", false),
    ("power-off", false),
    ("quarantine", true),
    ("registers", true),
    ("release", true),
    ("restart", true),
    ("resume", true),
    ("sign-in", false),
    ("sign-out", false),
    ("start", true),
    ("stop", true),
    ("top", false),
    ("who", false),
];

/// What a key has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing to see.
    Same,
    /// The line is another.
    Changed,
    /// These are possible; the line is the same.
    Choices(Vec<String>),
    /// The line is complete.
    Done(Vec<u8>),
    /// The user does not want it any more.
    Cancelled,
}

/// The line, and those before it.
#[derive(Debug, Default)]
pub struct Line {
    text: Vec<u8>,
    /// The oldest first.
    history: Vec<Vec<u8>>,
    /// Which of these is shown.
    recalled: Option<usize>,
    /// Bytes of an escape sequence that has begun.
    sequence: Vec<u8>,
}

impl Line {
    /// Begins a line.
    pub fn begin(&mut self) {
        self.text.clear();
        self.sequence.clear();
        self.recalled = None;
    }

    /// Forgets the lines before it.
    pub fn forget(&mut self) {
        self.begin();
        self.history.clear();
    }

    /// What is to be seen of it.
    pub fn shown(&self) -> String {
        let visible = self.text.len() - self.secret();
        let hidden = String::from_utf8_lossy(&self.text[visible..]).chars().count();
        String::from_utf8_lossy(&self.text[..visible]).into_owned() + &"*".repeat(hidden)
    }

    /// Bytes at its end that nobody is to see: what follows the name behind `sign-in`.
    fn secret(&self) -> usize {
        let blank = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == b' ').count();
        let rest = &self.text[blank(&self.text)..];
        let Some(rest) = rest.strip_prefix(SIGN_IN.as_bytes()) else { return 0 };
        let rest = &rest[blank(rest)..];
        let Some(end) = rest.iter().position(|byte| *byte == b' ') else { return 0 };
        rest.len() - end - blank(&rest[end..])
    }

    /// Takes a key. `guests` are names that it may be about.
    pub fn feed(&mut self, byte: u8, guests: &[&str]) -> Edit {
        if !self.sequence.is_empty() {
            return self.sequence(byte);
        }
        match byte {
            b'\r' | b'\n' => {
                let line = core::mem::take(&mut self.text);
                self.remember(&line);
                Edit::Done(line)
            }
            // Ctrl-C, Ctrl-D, Ctrl-].
            0x03 | 0x04 | 0x1D => Edit::Cancelled,
            0x08 | 0x7F => {
                // A whole character.
                while self.text.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
                Edit::Changed
            }
            // Ctrl-U.
            0x15 => {
                self.text.clear();
                Edit::Changed
            }
            b'\t' => self.complete(guests),
            0x1B => {
                self.sequence.push(byte);
                Edit::Same
            }
            0x20.. if self.text.len() < LONGEST => {
                self.text.push(byte);
                Edit::Changed
            }
            _ => Edit::Same,
        }
    }

    /// `ESC [ A` and `ESC [ B`, the arrows up and down; other sequences are left out.
    fn sequence(&mut self, byte: u8) -> Edit {
        self.sequence.push(byte);
        let up = match self.sequence.as_slice() {
            [_, b'[' | b'O'] => return Edit::Same,
            [_, _, b'A'] => true,
            [_, _, b'B'] => false,
            [_, _, .., b'0'..=b'9' | b';'] if self.sequence.len() < 8 => return Edit::Same,
            _ => {
                self.sequence.clear();
                return Edit::Same;
            }
        };
        self.sequence.clear();
        self.recalled = match (self.recalled, up) {
            (None, true) => self.history.len().checked_sub(1),
            (Some(at), true) => Some(at.saturating_sub(1)),
            (at, false) => at.map(|at| at + 1).filter(|at| *at < self.history.len()),
        };
        self.text = self.recalled.map(|at| self.history[at].clone()).unwrap_or_default();
        Edit::Changed
    }

    fn remember(&mut self, line: &[u8]) {
        let known = self.history.last().is_some_and(|last| last == line);
        if !may_have_password(line) && !line.is_empty() && !known {
            self.history.push(line.to_vec());
            let excess = self.history.len().saturating_sub(REMEMBERED);
            self.history.drain(..excess);
        }
    }

    fn complete(&mut self, guests: &[&str]) -> Edit {
        let Ok(text) = core::str::from_utf8(&self.text) else { return Edit::Same };
        let (before, word) = text.rsplit_once(' ').map_or(("", text), |(b, w)| (b.trim(), w));
        let mut words = before.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default();
        let takes_guest = COMMANDS.iter().any(|(name, guest)| *name == verb && *guest);
        let possible: Vec<&str> = match (verb, words.count()) {
            ("", _) => COMMANDS.iter().map(|(name, _)| *name).collect(),
            (_, 0) if takes_guest => guests.to_vec(),
            (verb, others) if others == usize::from(takes_guest) => options(verb).to_vec(),
            _ => Vec::new(),
        };
        let fits: Vec<_> = possible.into_iter().filter(|name| name.starts_with(word)).collect();
        let common = common(&fits).to_string();
        let more = common.get(word.len()..).unwrap_or_default().to_string();
        let ended = if fits.len() == 1 { " " } else { "" };
        match (more.as_str(), ended) {
            ("", "") if fits.len() > 1 => {
                Edit::Choices(fits.iter().map(ToString::to_string).collect())
            }
            ("", "") => Edit::Same,
            (more, ended) => {
                self.text.extend_from_slice(more.as_bytes());
                self.text.extend_from_slice(ended.as_bytes());
                self.text.truncate(LONGEST);
                Edit::Changed
            }
        }
    }
}

/// What may stand behind a command, and behind its guest's name where it has one.
fn options(verb: &str) -> &'static [&'static str] {
    match verb {
        "audit" | "exits" | "info" | "inventory" | "list" | "memory" | "plan" | "top" | "who" => {
            &["--json"]
        }
        "power-off" | "restart" | "stop" => &["--now"],
        "define" => &["--cores", "--memory"],
        _ => &[],
    }
}

/// Whether a command line may have a password in it: with a letter too few or too many in its first word, what follows may
/// be one all the same.
pub fn may_have_password(line: &[u8]) -> bool {
    line.trim_ascii_start().to_ascii_lowercase().starts_with(b"sign-i")
}

/// What all of them begin with. Names are ASCII.
fn common<'a>(names: &[&'a str]) -> &'a str {
    debug_assert!(names.iter().all(|name| name.is_ascii() && name.len() <= limits::MAX_NAME));
    let Some((first, others)) = names.split_first() else { return "" };
    let same = |other: &&str| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let length = others.iter().map(same).min().unwrap_or(first.len());
    first.get(..length).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn type_in(line: &mut Line, keys: &str) -> Edit {
        let mut last = Edit::Same;
        for byte in keys.bytes() {
            last = line.feed(byte, &["one", "one-2", "web"]);
        }
        last
    }

    fn shown(keys: &str) -> String {
        let mut line = Line::default();
        type_in(&mut line, keys);
        line.shown()
    }

    #[test]
    fn a_line_is_typed_and_mended() {
        let mut line = Line::default();
        assert_eq!(type_in(&mut line, "lisp\x7ft\r"), Edit::Done(b"list".to_vec()));
        assert_eq!(type_in(&mut line, "x\x15who\n"), Edit::Done(b"who".to_vec()));
        assert_eq!(type_in(&mut line, "é\x7f\r"), Edit::Done(Vec::new()));
        assert_eq!(type_in(&mut line, "stop\x03"), Edit::Cancelled);
        line.begin();
        assert_eq!(line.shown(), "");
        let long = "x".repeat(LONGEST + 5);
        assert_eq!(shown(&long).len(), LONGEST);
    }

    #[test]
    fn nobody_sees_a_password_nor_finds_it_later() {
        assert_eq!(shown("sign-in anna"), "sign-in anna");
        assert_eq!(shown("  sign-in anna  my päss"), "  sign-in anna  *******");
        assert_eq!(shown("stop sign-in anna x"), "stop sign-in anna x");
        let mut line = Line::default();
        type_in(&mut line, "list\rsign-in anna secret\rSign-In anna secret\rsign-in secret\r");
        line.begin();
        type_in(&mut line, "\x1b[A");
        assert_eq!(line.shown(), "list");
        // Nor, when the operator has left, what he did.
        line.forget();
        type_in(&mut line, "\x1b[A");
        assert_eq!(line.shown(), "");
    }

    #[test]
    fn arrows_lead_through_what_was_typed_before() {
        let mut line = Line::default();
        type_in(&mut line, "one\rtwo\rtwo\r");
        line.begin();
        for (key, text) in [("A", "two"), ("A", "one"), ("A", "one"), ("B", "two"), ("B", "")] {
            type_in(&mut line, &format!("\x1b[{key}"));
            assert_eq!(line.shown(), text);
        }
        assert_eq!(type_in(&mut line, "\x1b[1;5Cx\x1bOA\r"), Edit::Done(b"two".to_vec()));
    }

    #[test]
    fn tab_completes_commands_and_names() {
        for (keys, text) in [
            ("po\t", "power-off "),
            ("re\t", "re"),
            ("res\t", "res"),
            ("rest\t", "restart "),
            ("stop w\t", "stop web "),
            ("who w\t", "who w"),
            ("pause w\t", "pause web "),
            ("pause o\t", "pause one"),
            ("list \t", "list --json "),
            ("list x\t", "list x"),
            ("info web \t", "info web --json "),
            ("info web --json \t", "info web --json "),
            ("stop web \t", "stop web --now "),
            ("power-off \t", "power-off --now "),
            ("define web --c\t", "define web --cores "),
            ("sign-in w\t", "sign-in w"),
            ("x\t", "x"),
        ] {
            assert_eq!(shown(keys), text, "{keys}");
        }
        let mut line = Line::default();
        let choices = type_in(&mut line, "pause one\t");
        assert_eq!(choices, Edit::Choices(vec!["one".into(), "one-2".into()]));
    }
}
