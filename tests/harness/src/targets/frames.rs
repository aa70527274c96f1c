//! The control protocol: any bytes on the line, to the hypervisor and to its client.

use crate::input::Input;
use bulkhead::control::link::Link;
use bulkhead_control::{Decoder, Frame, Kind, MAX_COMMAND, MAX_ENCODED, MAX_PAYLOAD, Why, encode};
use xtask::control::{End, Exchange, Overheard, Said};

/// A frame that is found is found again in its own encoding. The hypervisor says nothing but whole frames, whatever it is
/// told, and a client understands of its answer what was answered.
pub fn frames(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let (mut link, mut decoder, mut overheard) =
        (Link::new(), Decoder::default(), Overheard::default());
    let (mut found, mut unusable, mut answers) = (0, 0, 0);
    while !input.is_empty() {
        let line = match input.u8() % 6 {
            0 => {
                let most = input.u8().into();
                input.bytes(most).to_vec()
            }
            1 | 2 => {
                let id = input.u32();
                let most = usize::from(input.u8()) % (MAX_COMMAND + 2);
                encode(Kind::Command, id, 0, input.bytes(most)).to_vec()
            }
            3 => encode(Kind::Hello, input.u32(), 0, &[]).to_vec(),
            4 => {
                let (kind, id, number) = (input.choose(&Kind::ALL), input.u32(), input.u16());
                let most = usize::from(input.u8()) % (MAX_PAYLOAD + 1);
                let mut frame = encode(kind, id, number, input.bytes(most)).to_vec();
                let at = usize::from(input.u8()) % frame.len();
                frame[at] ^= input.u8();
                frame
            }
            _ => {
                // The first may be long; more such take the time of other inputs.
                let most = if answers == 0 { LONGEST_ANSWER } else { 2 * MAX_PAYLOAD };
                answers += u32::from(answer(&mut link, input.u16(), most));
                continue;
            }
        };
        for &byte in &line {
            link.receive(byte);
            match decoder.feed(byte) {
                None => {}
                Some(Ok(frame)) => {
                    found += 1;
                    there_and_back(&frame);
                }
                Some(Err(bad)) => {
                    unusable += 1;
                    assert_eq!(Why::of(bad.why as u8), Some(bad.why));
                }
            }
        }
        for line in overheard.feed(&line) {
            assert!(line.starts_with("console: ") || line.starts_with("error: console: "));
        }
    }
    answers += u32::from(answer(&mut link, 0, MAX_PAYLOAD));
    assert!(link.unusable_frames() >= unusable);
    format!("{found} frames, {unusable} unusable, {answers} commands answered")
}

fn there_and_back(frame: &Frame) {
    assert!(frame.kind.payload().contains(&frame.payload.len()));
    let encoded = encode(frame.kind, frame.id, frame.number, &frame.payload);
    assert!(encoded.len() <= MAX_ENCODED);
    assert_eq!(said(&encoded), std::slice::from_ref(frame));
}

/// The frames in what is said, of which nothing else may be in it.
fn said(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let found = bytes.iter().filter_map(|&byte| decoder.feed(byte));
    let frames: Vec<_> = found.map(|frame| frame.expect("a frame that is sent")).collect();
    let lengths =
        frames.iter().map(|frame| encode(frame.kind, frame.id, frame.number, &frame.payload).len());
    assert_eq!(lengths.sum::<usize>(), bytes.len(), "whole frames alone");
    frames
}

/// Bytes of an answer's line: up to as long as the longest piece may be.
const LONGEST_ANSWER: usize = 12_000;

/// Answers the command that waits, with a line of so many bytes, below `most`. Says whether there was one.
fn answer(link: &mut Link, length: u16, most: usize) -> bool {
    for frame in said(&drain(link)) {
        assert_eq!(frame.kind, Kind::Unusable);
    }
    assert!(link.is_idle());
    if link.greet() {
        let greeting = said(&drain(link));
        assert!(matches!(&greeting[..], [Frame { kind: Kind::Greeting, .. }]));
    }
    let Some(line) = link.request() else { return false };
    assert!(line.len() <= MAX_COMMAND);
    let text = "x".repeat(usize::from(length) % most);
    let refused = length & 1 != 0;
    if refused {
        link.refuse(format_args!("{text}"));
    } else {
        link.answer(format_args!("{text}"));
    }
    link.end();
    let frames = said(&drain(link));
    let mut exchange = Exchange::new(frames[0].id);
    let heard = frames.iter().map(|frame| exchange.take(frame).expect("its own answer"));
    let heard: Vec<_> = heard.flatten().collect();
    let [line, end] = if refused {
        [Ok(Said::Reason(text)), Err(End::Refused)]
    } else {
        [Ok(Said::Line(text)), Err(End::Done)]
    };
    assert_eq!(heard, [line, end]);
    true
}

/// Takes all that waits, in pieces as a port does.
fn drain(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !link.is_idle() {
        let piece = link.waiting();
        let piece = &piece[..piece.len().min(16)];
        bytes.extend_from_slice(piece);
        let count = piece.len();
        link.sent(count);
    }
    bytes
}
