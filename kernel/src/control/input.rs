//! What arrives at the serial port: bytes for the attached guest, the operator's commands, and frames of the control protocol
//! where that has no port of its own. GS, Ctrl-] on a keyboard, begins a command, or a frame; twice, it is for the guest.
//! With Tab behind it, a line is edited until its user leaves it.

use super::commands::MAX_COMMAND;
use bulkhead_control::{END, ESCAPE, MAX_BODY, START};

const TAB: u8 = b'\t';
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7F;
/// What a byte of input leads to.
#[derive(PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// A byte for the guest.
    Byte(u8),
    /// A command line, without its end.
    Line(&'a [u8]),
    /// A frame of the control protocol begins.
    FrameBegins,
    /// A byte of it.
    Frame(u8),
    /// A line is to be edited.
    EditBegins,
    /// A key of it.
    Edit(u8),
    /// Another command, or a frame, begins instead.
    EditEnds,
    /// The end of a command line that was longer than [`MAX_COMMAND`].
    TooLong,
}

/// Tells commands from bytes for the guest.
#[derive(Default)]
pub struct Reader {
    line: heapless::Vec<u8, MAX_COMMAND>,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Guest,
    Command,
    /// A line is edited, and shown.
    Editing,
    /// The command has become too long; its end is looked for.
    TooLong,
    /// In a frame, of which there were so many bytes.
    Frame(usize),
    /// The same behind an escape.
    FrameEscaped,
}

impl Reader {
    /// The line is not edited any more: what is typed is for the guest.
    pub fn leave_editing(&mut self) {
        if self.state == State::Editing {
            self.state = State::Guest;
        }
    }

    /// Takes the next byte.
    pub fn feed(&mut self, byte: u8) -> Option<Input<'_>> {
        match (self.state, byte) {
            (State::Guest, ESCAPE) => {
                self.line.clear();
                self.state = State::Command;
                None
            }
            (State::Guest, byte) => Some(Input::Byte(byte)),
            (State::Command, START) if self.line.is_empty() => {
                self.state = State::Frame(0);
                Some(Input::FrameBegins)
            }
            (State::Command, TAB) if self.line.is_empty() => {
                self.state = State::Editing;
                Some(Input::EditBegins)
            }
            // So a frame of a program's is found there, too.
            (State::Editing, ESCAPE) => {
                self.line.clear();
                self.state = State::Command;
                Some(Input::EditEnds)
            }
            (State::Editing, byte) => Some(Input::Edit(byte)),
            (State::Frame(bytes), byte) => {
                self.state = match byte {
                    ESCAPE => State::FrameEscaped,
                    // It is none: nobody who types shall get stuck in it.
                    _ if bytes == MAX_BODY => State::Guest,
                    _ => State::Frame(bytes + 1),
                };
                Some(Input::Frame(byte))
            }
            (State::FrameEscaped, byte @ (START | END | ESCAPE)) => {
                self.state = match byte {
                    START => State::Frame(0),
                    END => State::Guest,
                    _ => State::FrameEscaped,
                };
                Some(Input::Frame(byte))
            }
            (State::FrameEscaped, byte) => {
                // It was broken off, and this is a command.
                self.line.clear();
                self.state = State::Command;
                self.feed(byte)
            }
            (state, b'\r' | b'\n') => {
                self.state = State::Guest;
                Some(if state == State::TooLong { Input::TooLong } else { Input::Line(&self.line) })
            }
            (State::Command, ESCAPE) if self.line.is_empty() => {
                self.state = State::Guest;
                Some(Input::Byte(ESCAPE))
            }
            // It begins anew: so an operator gets rid of what was mistyped, and a program of what
            // somebody else left.
            (_, ESCAPE) => {
                self.line.clear();
                self.state = State::Command;
                None
            }
            (State::Command, BACKSPACE | DELETE) => {
                self.line.pop();
                None
            }
            (State::Command, byte) => {
                if self.line.push(byte).is_err() {
                    self.state = State::TooLong;
                }
                None
            }
            (State::TooLong, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    /// What the guest gets, and the command lines.
    fn read(typed: &[u8]) -> (Vec<u8>, Vec<String>) {
        let (mut guest, mut lines) = (Vec::new(), Vec::new());
        let mut reader = Reader::default();
        for &byte in typed {
            match reader.feed(byte) {
                None => {}
                Some(Input::Byte(byte)) => guest.push(byte),
                Some(Input::Line(line)) => lines.push(format!("{}", line.escape_ascii())),
                Some(Input::FrameBegins) => lines.push("frame".into()),
                Some(Input::Frame(byte)) => lines.push(format!("{byte:02x}")),
                Some(Input::EditBegins) => lines.push("edit".into()),
                Some(Input::Edit(byte)) => lines.push(format!("edit {byte:02x}")),
                Some(Input::EditEnds) => lines.push("edited".into()),
                Some(Input::TooLong) => lines.push("too long".into()),
            }
        }
        (guest, lines)
    }

    #[test]
    fn commands_are_taken_out_of_what_is_typed() {
        let (guest, lines) = read(b"ls\r\x1dattach two\rcat\x03\x1d list\nx");
        assert_eq!(guest, b"ls\rcat\x03x");
        assert_eq!(lines, ["attach two", " list"]);
    }

    #[test]
    fn the_escape_key_twice_is_for_the_guest() {
        assert_eq!(read(b"a\x1d\x1db"), (b"a\x1db".to_vec(), Vec::new()));
        assert_eq!(read(b"\x1d\x1d\x1dlist\r"), (b"\x1d".to_vec(), ["list".into()].into()));
    }

    #[test]
    fn what_is_mistyped_can_be_mended() {
        assert_eq!(read(b"\x1dlisp\x7ft\r").1, ["list"]);
        assert_eq!(read(b"\x1d\x08list\r").1, ["list"]);
        assert_eq!(read(b"\x1dlisp\x1dlist\r"), (Vec::new(), ["list".into()].into()));
    }

    #[test]
    fn a_command_without_end_is_refused_as_a_whole() {
        let longest = [b"\x1d".as_slice(), &[b'x'; MAX_COMMAND], b"\r"].concat();
        assert_eq!(read(&longest).1, ["x".repeat(MAX_COMMAND)]);
        let longer = [b"\x1d".as_slice(), &[b'x'; MAX_COMMAND + 1], b"\rls\r"].concat();
        assert_eq!(read(&longer), (b"ls\r".to_vec(), ["too long".into()].into()));
        let again = [b"\x1d".as_slice(), &[b'x'; MAX_COMMAND + 1], b"\x1dlist\r"].concat();
        assert_eq!(read(&again).1, ["list"]);
    }

    #[test]
    fn keys_of_a_line_that_is_edited_are_told_apart() {
        let (guest, lines) = read(b"a\x1d\tb\r\x1d\x02c\x1d\x03d\x1dx\ty\r");
        assert_eq!(guest, b"ad");
        let expected = ["edit", "edit 62", "edit 0d", "edited", "frame", "63", "1d", "03", "x\\ty"];
        assert_eq!(lines, expected);
        let mut reader = Reader::default();
        assert!(reader.feed(b'\x1d').is_none() && reader.feed(b'\t') == Some(Input::EditBegins));
        reader.leave_editing();
        assert_eq!(reader.feed(b'x'), Some(Input::Byte(b'x')));
    }

    #[test]
    fn frames_are_taken_out_too() {
        let (guest, lines) = read(b"a\x1d\x02\r\x08\x1d\x03b\x1dlist\r");
        assert_eq!(guest, b"ab");
        assert_eq!(lines, ["frame", "0d", "08", "1d", "03", "list"]);
        let (guest, lines) = read(b"\x1d\x02\x08\x1d\x02\x1d\x03b");
        assert_eq!((guest.as_slice(), lines.len()), (&b"b"[..], 6));
        // Only at a command's beginning.
        assert_eq!(read(b"\x1dl\x02\r").1, ["l\\x02"]);
    }

    #[test]
    fn a_frame_without_end_is_left() {
        let (guest, lines) = read(b"\x1d\x02x\x1d\x1d\x02y\x1d\x03b");
        assert_eq!((guest.as_slice(), lines.len()), (&b"b"[..], 8), "the next one is found");
        let (guest, lines) = read(b"\x1d\x02x\x1dlist\ry");
        assert_eq!((guest, lines.last().map(String::as_str)), (b"y".to_vec(), Some("list")));
        let (guest, lines) = read(&[&b"\x1d\x02"[..], &[b'x'; MAX_BODY + 2]].concat());
        assert_eq!((guest, lines.len()), (b"x".to_vec(), 1 + MAX_BODY + 1));
    }
}
