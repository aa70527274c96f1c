//! The console's two directions: what is typed, and the stream in which all speak.

use crate::input::Input;
use bulkhead::control::input::{Input as Typed, Reader};
use bulkhead::control::wire::{MARK, PIECE, Speaker, Wire};
use bulkhead_control::{Kind, MAX_COMMAND, encode};
use std::collections::BTreeMap;
use xtask::channels::{Channel, Channels, SWITCH, Said};

/// Of what is typed, no byte is for the guest while a command is; and what all say on one port is taken apart again into what
/// each has said, whatever that was.
pub fn console(data: &[u8]) -> String {
    let lines = typed(data);
    any_stream(data);
    let said = stream(data);
    format!("{lines} commands typed; {said} bytes said")
}

/// Reads keys. Gives the number of commands.
fn typed(data: &[u8]) -> usize {
    let mut reader = Reader::default();
    let mut lines = 0;
    for &byte in data {
        match reader.feed(byte) {
            Some(Typed::Byte(given) | Typed::Frame(given) | Typed::Edit(given)) => {
                assert_eq!(given, byte, "a byte stays what it is");
            }
            Some(Typed::Line(line)) => {
                lines += 1;
                assert!(
                    line.len() <= MAX_COMMAND && !line.contains(&b'\r') && !line.contains(&b'\n')
                );
                assert!(matches!(byte, b'\r' | b'\n'));
            }
            Some(Typed::TooLong) => assert!(matches!(byte, b'\r' | b'\n')),
            Some(Typed::FrameBegins | Typed::EditBegins | Typed::EditEnds) | None => {}
        }
    }
    lines
}

/// Takes any bytes apart: in one piece and byte by byte it is the same.
fn any_stream(data: &[u8]) {
    let whole = Channels::default().feed(data);
    let mut channels = Channels::default();
    let single: Vec<Said> = data.iter().flat_map(|byte| channels.feed(&[*byte])).collect();
    let joined = |said: &[Said]| -> Vec<(Channel, bool, u8)> {
        let first = |said: &Said| (said.channel.clone(), said.breaks_line);
        said.iter()
            .flat_map(|said| {
                let (channel, breaks_line) = first(said);
                let bytes = said.bytes.iter().enumerate();
                bytes
                    .map(move |(at, byte)| (channel.clone(), breaks_line && at == 0, *byte))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    assert_eq!(joined(&whole), joined(&single));
    let bytes: usize = whole.iter().map(|said| said.bytes.len()).sum();
    assert!(bytes <= data.len(), "nothing is made up");
}

/// Has the log and two guests speak, with frames between. Gives the number of bytes that were said.
fn stream(data: &[u8]) -> usize {
    let mut input = Input::new(data);
    let (mut wire, mut channels) = (Wire::new(), Channels::default());
    let (mut expected, mut heard) = (BTreeMap::new(), BTreeMap::new());
    let mut hear = |wire: &mut Wire| {
        for said in channels.feed(wire.waiting()) {
            let of: &mut Vec<u8> = heard.entry(name(&said.channel)).or_default();
            of.extend_from_slice(&said.bytes);
        }
        wire.sent(usize::MAX);
    };
    while !input.is_empty() {
        let speaker = input.u8() % 5;
        let bytes = input.bytes(usize::from(speaker) * 7 % (PIECE + 4));
        let bytes = &bytes[..bytes.len().min(wire.room())];
        let (speaker, name) = match speaker {
            0 => (Speaker::Log, "log"),
            1 | 2 => (Speaker::Guest(0, "one"), "one"),
            3 => (Speaker::Guest(1, "two-2"), "two-2"),
            _ => {
                let frame = encode(Kind::Line, input.u32(), 0, bytes);
                assert!(wire.frame(&frame), "there is room for a frame");
                hear(&mut wire);
                continue;
            }
        };
        // Of the log's own bytes no one switches.
        let ours = |byte: u8| if byte == SWITCH { b'?' } else { byte };
        let bytes: Vec<u8> = match speaker {
            Speaker::Log => bytes.iter().map(|byte| ours(*byte)).collect(),
            Speaker::Guest(..) => bytes.to_vec(),
        };
        let before = wire.waiting().len();
        let taken = wire.say(speaker, &bytes);
        assert_eq!(wire.waiting().len(), before + taken);
        let of: &mut Vec<u8> = expected.entry(name.to_string()).or_default();
        let guest = matches!(speaker, Speaker::Guest(..));
        of.extend(bytes.iter().map(|&byte| match byte {
            SWITCH | MARK if guest => b'?',
            byte => byte,
        }));
        hear(&mut wire);
    }
    expected.retain(|_, said| !said.is_empty());
    assert_eq!(heard, expected);
    expected.values().map(Vec::len).sum()
}

fn name(channel: &Channel) -> String {
    match channel {
        Channel::Log => "log".into(),
        Channel::Guest(name) => name.clone(),
    }
}
