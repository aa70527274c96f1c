//! What the user's keys mean: most go to the guest, the escape key leads to a prompt.

use bulkhead_line::{Edit, Line};

/// Ctrl-], as in telnet: hardly any program in a guest uses it.
pub const ESCAPE: u8 = 0x1d;
/// Begins the sequences of the arrows and of their like.
const ESC: u8 = 0x1b;

/// The keys of the prompt, and what they do.
pub const HELP: [(&str, &str); 10] = [
    ("q", "end the machine and leave"),
    ("c", "back to the guest (Enter does the same)"),
    ("1 to 9", "show this guest's console, and type to it"),
    ("n, Tab", "the same with the next guest"),
    ("l", "show the hypervisor's log"),
    ("a", "show the lines of all, the guest's name before them"),
    ("p", "pause the guest, or let it go on"),
    ("s", "stop the guest"),
    (":", "give the hypervisor a command; help shows them"),
    ("Ctrl-]", "send Ctrl-] to the guest"),
];

/// Which way to look in what was said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scroll {
    /// A line back.
    Up,
    /// A line on.
    Down,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// To the first line that is kept.
    Top,
    /// To what is said now.
    Bottom,
}

/// What follows from keys.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// These bytes are for the guest.
    Send(Vec<u8>),
    /// Show the prompt and wait for one key.
    Prompt,
    /// Leave the prompt; back to the guest.
    Continue,
    /// Show the console of the guest with this place in the manifest, from 0.
    Guest(usize),
    /// Show the next guest's console.
    Next,
    /// Show the hypervisor's log.
    Log,
    /// Show the lines of all.
    All,
    /// Pause the guest, or let it go on.
    Pause,
    /// Stop the guest.
    Stop,
    /// The line of a command begins, or is another: show it.
    Line,
    /// These words are possible in it.
    Choices(Vec<String>),
    /// Give the hypervisor this command.
    Command(Vec<u8>),
    /// Show what was said before; the prompt stays.
    Scroll(Scroll),
    /// Explain the keys of the prompt.
    Help,
    /// End the run.
    Quit,
}

/// The state between keys.
#[derive(Debug, Default)]
pub struct Keys {
    prompting: bool,
    /// A command is typed.
    typing: bool,
    line: Line,
    /// Names that a command may be about.
    guests: Vec<String>,
}

impl Keys {
    /// For guests of these names.
    pub fn new(guests: Vec<String>) -> Self {
        Self { guests, ..Self::default() }
    }

    /// Whether the prompt is being shown, or a command typed.
    pub fn prompting(&self) -> bool {
        self.prompting || self.typing
    }

    /// Whether a command is typed.
    pub fn typing(&self) -> bool {
        self.typing
    }

    /// Shows the prompt again.
    pub fn prompt_again(&mut self) {
        self.prompting = true;
    }

    /// What is to be seen of the command that is typed.
    pub fn line(&self) -> String {
        self.line.shown()
    }

    /// Takes a key of a command.
    fn type_line(&mut self, byte: u8) -> Option<Action> {
        let guests: Vec<_> = self.guests.iter().map(String::as_str).collect();
        let edit = self.line.feed(byte, &guests);
        self.typing = !matches!(edit, Edit::Done(_) | Edit::Cancelled);
        match edit {
            Edit::Same => None,
            Edit::Changed => Some(Action::Line),
            Edit::Choices(words) => Some(Action::Choices(words)),
            Edit::Done(line) if line.is_empty() => Some(Action::Continue),
            Edit::Done(line) => Some(Action::Command(line)),
            Edit::Cancelled => Some(Action::Continue),
        }
    }

    /// Takes keys that were typed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut guest = Vec::new();
        let mut left = bytes.iter();
        while let Some(&byte) = left.next() {
            if self.typing {
                actions.extend(self.type_line(byte));
            } else if self.prompting {
                if byte == ESC
                    && let Some((length, scroll)) = sequence(left.as_slice())
                {
                    left = left.as_slice()[length..].iter();
                    actions.extend(scroll.map(Action::Scroll));
                    continue;
                }
                let action = match byte {
                    b'q' | b'Q' => Action::Quit,
                    b'1'..=b'9' => Action::Guest(usize::from(byte - b'1')),
                    b'n' | b'N' | b'\t' => Action::Next,
                    b'l' | b'L' => Action::Log,
                    b'a' | b'A' => Action::All,
                    b'p' | b'P' => Action::Pause,
                    b's' | b'S' => Action::Stop,
                    b':' => {
                        self.line.begin();
                        self.typing = true;
                        Action::Line
                    }
                    // Twice the escape key is the escape key.
                    ESCAPE => {
                        actions.push(Action::Continue);
                        Action::Send(vec![ESCAPE])
                    }
                    b'c' | b'C' | b'\r' | b'\n' | ESC => Action::Continue,
                    _ => Action::Help,
                };
                self.prompting = action == Action::Help;
                actions.push(action);
            } else if byte == ESCAPE {
                if !guest.is_empty() {
                    actions.push(Action::Send(std::mem::take(&mut guest)));
                }
                self.prompting = true;
                actions.push(Action::Prompt);
            } else {
                guest.push(byte);
            }
        }
        if !guest.is_empty() {
            actions.push(Action::Send(guest));
        }
        actions
    }
}

/// What follows ESC, if that is not the key itself: a terminal sends a sequence in one piece (ECMA-48, 5.4). Gives its
/// length, and the way that its key leads.
fn sequence(rest: &[u8]) -> Option<(usize, Option<Scroll>)> {
    let (b'[' | b'O', rest) = rest.split_first()? else { return None };
    let end = rest.iter().position(|byte| (0x40..=0x7E).contains(byte));
    let length = end.map_or(rest.len(), |end| end + 1);
    let scroll = match &rest[..length] {
        b"A" => Some(Scroll::Up),
        b"B" => Some(Scroll::Down),
        b"5~" => Some(Scroll::PageUp),
        b"6~" => Some(Scroll::PageDown),
        b"H" | b"1~" => Some(Scroll::Top),
        b"F" | b"4~" => Some(Scroll::Bottom),
        _ => None,
    };
    Some((1 + length, scroll))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_the_guest_control_keys_too() {
        assert_eq!(Keys::default().feed(b"ls\r\x03"), [Action::Send(b"ls\r\x03".to_vec())]);
    }

    #[test]
    fn the_escape_key_leads_out_and_back() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"a\x1d"), [Action::Send(b"a".to_vec()), Action::Prompt]);
        assert!(keys.prompting());
        assert_eq!(keys.feed(b"?"), [Action::Help]);
        assert_eq!(keys.feed(b"cb"), [Action::Continue, Action::Send(b"b".to_vec())]);
        assert_eq!(keys.feed(b"\x1dq"), [Action::Prompt, Action::Quit]);
    }

    #[test]
    fn the_prompt_has_a_key_for_each_view() {
        let keys = [
            (b'1', Action::Guest(0)),
            (b'9', Action::Guest(8)),
            (b'n', Action::Next),
            (b'\t', Action::Next),
            (b'l', Action::Log),
            (b'a', Action::All),
            (b'p', Action::Pause),
            (b's', Action::Stop),
        ];
        for (key, action) in keys {
            let mut keys = Keys::default();
            assert_eq!(keys.feed(&[ESCAPE, key]), [Action::Prompt, action]);
            assert!(!keys.prompting());
        }
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1d0"), [Action::Prompt, Action::Help]);
        assert!(keys.prompting());
    }

    #[test]
    fn the_prompt_stays_while_one_looks_back() {
        let mut keys = Keys::default();
        let scroll = |way| Action::Scroll(way);
        assert_eq!(keys.feed(b"\x1d\x1b[5~"), [Action::Prompt, scroll(Scroll::PageUp)]);
        assert_eq!(keys.feed(b"\x1bOA\x1b[4~"), [scroll(Scroll::Up), scroll(Scroll::Bottom)]);
        // Others do nothing, and none of their bytes is another key.
        assert_eq!(keys.feed(b"\x1b[1;5q\x1b[1;"), []);
        assert!(keys.prompting());
        assert_eq!(keys.feed(b"\x1b"), [Action::Continue]);
        assert_eq!(keys.feed(b"\x1b[5~"), [Action::Send(b"\x1b[5~".to_vec())]);
    }

    #[test]
    fn a_command_is_typed_to_its_end() {
        let mut keys = Keys::new(vec!["web".into()]);
        assert_eq!(keys.feed(b"\x1d:"), [Action::Prompt, Action::Line]);
        assert!(keys.prompting());
        assert_eq!(keys.feed(b"pause w\t").last(), Some(&Action::Line));
        assert_eq!(keys.line(), "pause web ");
        assert_eq!(
            keys.feed(b"\rx"),
            [Action::Command(b"pause web ".to_vec()), Action::Send(b"x".to_vec())]
        );
        assert_eq!(keys.feed(b"\x1d:\r").last(), Some(&Action::Continue));
        assert_eq!(keys.feed(b"\x1d:who\x03").last(), Some(&Action::Continue));
        assert!(!keys.prompting());
    }

    #[test]
    fn the_escape_key_twice_is_for_the_guest() {
        let expected = [Action::Prompt, Action::Continue, Action::Send(vec![ESCAPE])];
        assert_eq!(Keys::default().feed(b"\x1d\x1d"), expected);
    }
}
