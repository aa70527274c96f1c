//! Takes the stream from the serial port apart: the hypervisor's log and the guests' consoles. Frames of the control
//! protocol, which are in it where that has no port of its own, are left out.
//! `docs/console.md` has the format.

use bulkhead_control::{END, MAX_BODY, START};
use bulkhead_manifest::limits;

/// GS begins a switch to another channel. The hypervisor takes it out of what guests write, so no
/// guest can speak in another's name.
pub const SWITCH: u8 = 0x1d;
/// US ends a switch to the log.
const TO_LOG: u8 = 0x1f;

/// Most bytes of a frame behind its GS, without its end.
const START_AND_BODY: usize = 1 + MAX_BODY;

/// Whose bytes they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// The hypervisor's log.
    Log,
    /// The console of the guest of this name.
    Guest(String),
}

/// A piece of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whose it is.
    pub channel: Channel,
    /// Somebody else's line had begun and was broken off with a line end: a transcript of all
    /// channels has one before these bytes.
    pub breaks_line: bool,
    /// What was said; not empty.
    pub bytes: Vec<u8>,
}

/// Takes the stream apart, whatever pieces it comes in.
#[derive(Debug)]
pub struct Channels {
    channel: Channel,
    breaks_line: bool,
    /// What has come of a switch, after its GS.
    switch: Option<Vec<u8>>,
}

impl Default for Channels {
    /// Before the first switch the log speaks.
    fn default() -> Self {
        Self { channel: Channel::Log, breaks_line: false, switch: None }
    }
}

impl Channels {
    /// Takes the next piece of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for &byte in bytes {
            if self.pass_frame(&mut said, byte) {
                continue;
            }
            let Some(switch) = &mut self.switch else {
                if byte == SWITCH {
                    self.switch = Some(Vec::new());
                } else {
                    self.say(&mut said, &[byte]);
                }
                continue;
            };
            if byte == SWITCH {
                // The last one was broken off, as a panic may do.
                let text = std::mem::take(switch);
                self.say(&mut said, &text);
                continue;
            }
            switch.push(byte);
            match read(switch) {
                Switch::Incomplete => {}
                Switch::To { channel, breaks_line } => {
                    (self.channel, self.breaks_line) = (channel, breaks_line);
                    self.switch = None;
                }
                // Not the hypervisor's: what comes is shown rather than lost.
                Switch::Malformed => {
                    let text = self.switch.take().unwrap_or_default();
                    self.say(&mut said, &text);
                }
            }
        }
        said
    }

    /// Takes a byte of a frame. Says whether it was one.
    fn pass_frame(&mut self, said: &mut Vec<Said>, byte: u8) -> bool {
        let Some(switch) = self.switch.as_mut().filter(|switch| switch.starts_with(&[START]))
        else {
            return false;
        };
        let escaped = switch.ends_with(&[SWITCH]);
        if escaped && byte == END {
            self.switch = None;
            return true;
        }
        if !escaped && switch.len() <= START_AND_BODY {
            switch.push(byte);
            return true;
        }
        // It was broken off, as a panic may do, or is none: what comes is shown rather than lost.
        let mut text = std::mem::take(switch);
        if escaped {
            text.pop();
        } else {
            self.switch = None;
        }
        self.say(said, &text);
        false
    }

    fn say(&mut self, said: &mut Vec<Said>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let breaks_line = std::mem::take(&mut self.breaks_line);
        match said.last_mut() {
            Some(last) if last.channel == self.channel && !breaks_line => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                let (channel, bytes) = (self.channel.clone(), bytes.to_vec());
                said.push(Said { channel, breaks_line, bytes });
            }
        }
    }
}

enum Switch {
    Incomplete,
    To { channel: Channel, breaks_line: bool },
    Malformed,
}

/// Reads what follows a GS: an optional line end, then `US` or `[name] `.
fn read(switch: &[u8]) -> Switch {
    let (rest, breaks_line) = match switch {
        b"\r" | b"\r\n" => return Switch::Incomplete,
        [b'\r', b'\n', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    if rest == [START] && !breaks_line {
        return Switch::Incomplete;
    }
    if rest == [TO_LOG] {
        return Switch::To { channel: Channel::Log, breaks_line };
    }
    let Some(rest) = rest.strip_prefix(b"[") else { return Switch::Malformed };
    let rest = String::from_utf8_lossy(rest);
    match rest.split_once(']') {
        Some((name, "")) if limits::is_name(name) => Switch::Incomplete,
        Some((name, " ")) if limits::is_name(name) => {
            Switch::To { channel: Channel::Guest(name.to_string()), breaks_line }
        }
        None if rest.is_empty() || limits::is_name(&rest) => Switch::Incomplete,
        _ => Switch::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead::control::wire::{PIECE, Speaker, Wire};
    use bulkhead_control::{Kind, encode};
    use proptest::prelude::*;

    fn said(channel: &str, breaks_line: bool, text: &str) -> Said {
        let channel = match channel {
            "" => Channel::Log,
            name => Channel::Guest(name.into()),
        };
        Said { channel, breaks_line, bytes: text.into() }
    }

    const STREAM: &[u8] =
        b"log\r\n\x1d[one] $ ls\x1d\r\n[two-2] hello\r\n\x1d\x1f\x1ebulkhead: x\r\n";

    #[test]
    fn a_stream_is_taken_apart() {
        let expected = [
            said("", false, "log\r\n"),
            said("one", false, "$ ls"),
            said("two-2", true, "hello\r\n"),
            said("", false, "\x1ebulkhead: x\r\n"),
        ];
        assert_eq!(Channels::default().feed(STREAM), expected);
    }

    #[test]
    fn what_is_no_switch_is_text() {
        let mut channels = Channels::default();
        assert_eq!(channels.feed(b"\x1d[One] x\x1dq"), [said("", false, "[One] xq")]);
        let long = format!("\x1d[{}", "n".repeat(limits::MAX_NAME + 1));
        assert_eq!(channels.feed(long.as_bytes()), [said("", false, &long[1..])]);
        assert_eq!(
            channels.feed(b"\x1d[on\x1d[two] x"),
            [said("", false, "[on"), said("two", false, "x")]
        );
    }

    #[test]
    fn frames_are_left_out() {
        let hello = encode(Kind::Hello, 1, 0, &[]);
        let stream = [b"a", &hello[..], b"b\x1d[one] c", &hello, &hello, b"\x1d\x1fd"].concat();
        let expected = [said("", false, "ab"), said("one", false, "c"), said("", false, "d")];
        assert_eq!(Channels::default().feed(&stream), expected);
    }

    #[test]
    fn a_frame_that_is_none_is_text() {
        let text = |stream: &[u8]| {
            let said = Channels::default().feed(stream);
            said.into_iter().flat_map(|said| said.bytes).collect::<Vec<_>>()
        };
        assert_eq!(text(b"a\x1d\x02b\x1d\x1fpanic"), b"a\x02bpanic");
        let long = [&b"\x1d\x02"[..], &[b'x'; 1000]].concat();
        assert_eq!(text(&long), long[1..]);
    }

    /// Each channel's bytes.
    fn by_channel(said: impl IntoIterator<Item = Said>) -> [Vec<u8>; 4] {
        let mut all: [Vec<u8>; 4] = Default::default();
        for said in said {
            let at = match said.channel {
                Channel::Log => 3,
                Channel::Guest(name) => NAMES.iter().position(|known| *known == name).unwrap(),
            };
            all[at].extend(said.bytes);
        }
        all
    }

    const NAMES: [&str; 3] = ["a", "b-c", "0"];

    proptest! {
        /// What the hypervisor puts together comes apart again, and what guests write is theirs,
        /// wherever the stream is cut.
        #[test]
        fn what_was_joined_comes_apart(
            pieces in prop::collection::vec((0usize..5, prop::collection::vec(
                prop_oneof![Just(SWITCH), Just(0x1e), Just(TO_LOG), Just(b'\r'), Just(b'\n'), Just(b'['), Just(b']'), Just(b' '), any::<u8>()],
                1..=PIECE,
            )), 0..40),
            cut in 1usize..50,
        ) {
            let mut wire = Wire::new();
            let mut stream = Vec::new();
            let mut expected: [Vec<u8>; 4] = Default::default();
            for (at, bytes) in &pieces {
                if *at == 4 {
                    wire.frame(&encode(Kind::Line, 1, 0, bytes));
                    stream.extend_from_slice(wire.waiting());
                    wire.sent(usize::MAX);
                    continue;
                }
                let speaker = NAMES.get(*at).map_or(Speaker::Log, |name| Speaker::Guest(*at, name));
                // The log never has a GS.
                let bytes: Vec<_> = bytes.iter().map(|&byte| match byte {
                    SWITCH if speaker == Speaker::Log => b'x',
                    byte => byte,
                }).collect();
                wire.say(speaker, &bytes);
                expected[*at].extend(bytes.iter().map(|&byte| match byte {
                    SWITCH | 0x1e if speaker != Speaker::Log => b'?',
                    byte => byte,
                }));
                stream.extend_from_slice(wire.waiting());
                wire.sent(usize::MAX);
            }
            let mut channels = Channels::default();
            let said: Vec<_> = stream.chunks(cut).flat_map(|piece| channels.feed(piece)).collect();
            prop_assert_eq!(by_channel(said), expected);
        }

        #[test]
        fn any_stream_can_be_read(stream: Vec<u8>) {
            Channels::default().feed(&stream);
        }
    }
}
