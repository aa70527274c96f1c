//! The control protocol's near side: requests out of bytes that come, answers as bytes that wait for a port.
//!
//! Its memory is bounded. One request waits while another is answered; one that comes then takes its place. Answers wait in
//! a queue that has room for the longest piece of one, and the next piece is asked for when it is empty: so nothing is
//! ever waited for here.

use crate::device::queue::ByteQueue;
use bulkhead_control::{
    Decoder, END, ESCAPE, Encoded, Frame, Kind, MAX_COMMAND, MAX_PAYLOAD, Unusable, Why, encode,
};
use bulkhead_manifest::limits;
use core::fmt::{self, Write};
use heapless::Vec;

/// Bytes of frames that wait at most: nearly two seconds at 115,200 baud.
const QUEUE: usize = bulkhead_plan::footprint::CONTROL_QUEUE as usize;
/// Most bytes that are said of one guest: its texts, where each byte of its command line may be escaped to six, and
/// those of names to two, digests, and words between.
const LONGEST_PIECE: usize = 6 * limits::MAX_COMMAND_LINE
    + 2 * (2 * limits::MAX_BLOB_NAME
        + limits::MAX_OWNER
        + limits::MAX_PURPOSE
        + limits::MAX_CLASS
        + limits::MAX_NAME)
    + 1024;
/// While more bytes than these wait, frames that cannot be used are counted alone.
const MOST_BEFORE_UNUSABLE: usize = 256;
// An eighth for what each frame adds.
const _: () =
    assert!(LONGEST_PIECE + LONGEST_PIECE / 8 + MAX_PAYLOAD + MOST_BEFORE_UNUSABLE < QUEUE);
/// The answer to who is there.
const GREETING: &str = concat!("Bulkhead ", env!("CARGO_PKG_VERSION"));

/// A command line.
pub type Line = Vec<u8, MAX_COMMAND>;

/// The protocol's state.
pub struct Link {
    decoder: Decoder,
    out: ByteQueue,
    /// Who asked last who is there, and has not been told.
    greeted: Option<u32>,
    /// A command that has not been given on, and its id.
    next: Option<(u32, Line)>,
    /// The request that is answered, and how many frames of the answer there are.
    id: u32,
    number: u16,
    refused: bool,
    unusable: u64,
}

impl Link {
    /// Before the first byte. The only place that allocates.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            out: ByteQueue::new(QUEUE),
            greeted: None,
            next: None,
            id: 0,
            number: 0,
            refused: false,
            unusable: 0,
        }
    }

    /// A frame begins: somebody else has read what begins it.
    pub fn begin(&mut self) {
        self.decoder.begin();
    }

    /// Takes a byte that has come.
    pub fn receive(&mut self, byte: u8) {
        match self.decoder.feed(byte) {
            None => {}
            Some(Ok(Frame { kind: Kind::Hello, id, .. })) => self.greeted = Some(id),
            Some(Ok(Frame { kind: Kind::Command, id, payload, .. })) => {
                // The decoder knows how long a command may be.
                self.next = Vec::from_slice(&payload).ok().map(|line| (id, line));
            }
            Some(Ok(Frame { id, .. })) => self.unusable(id, Why::Kind),
            Some(Err(Unusable { why, id, .. })) => self.unusable(id, why),
        }
    }

    fn unusable(&mut self, id: u32, why: Why) {
        self.unusable = self.unusable.saturating_add(1);
        // Garbage shall not take the room of an answer.
        if self.out.len() < MOST_BEFORE_UNUSABLE {
            self.put(&encode(Kind::Unusable, id, 0, &[why as u8]));
        }
    }

    /// Frames that could not be used.
    pub fn unusable_frames(&self) -> u64 {
        self.unusable
    }

    /// Whether all that was said is on its way: there is room for the longest piece of an answer.
    pub fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    /// The request to be answered next, when [`is_idle`](Self::is_idle).
    pub fn request(&mut self) -> Option<Line> {
        let (id, line) = self.next.take()?;
        (self.id, self.number, self.refused) = (id, 0, false);
        Some(line)
    }

    /// Greets a client that has come, when [`is_idle`](Self::is_idle). Says whether one has.
    pub fn greet(&mut self) -> bool {
        let Some(id) = self.greeted.take() else { return false };
        self.put(&encode(Kind::Greeting, id, 0, GREETING.as_bytes()));
        true
    }

    /// Says a line of the answer.
    pub fn answer(&mut self, line: fmt::Arguments<'_>) {
        self.line(Kind::Line, line);
    }

    /// Says why the command is refused.
    pub fn refuse(&mut self, why: fmt::Arguments<'_>) {
        self.refused = true;
        self.line(Kind::Reason, why);
    }

    /// Ends the answer.
    pub fn end(&mut self) {
        self.say(if self.refused { Kind::Refused } else { Kind::Done }, &[]);
    }

    /// The oldest of the bytes that wait for the port; none only where none wait.
    pub fn waiting(&self) -> &[u8] {
        self.out.front()
    }

    /// Forgets the oldest bytes of [`waiting`](Self::waiting): the port has taken so many.
    pub fn sent(&mut self, count: usize) {
        self.out.forget(count);
    }

    /// Takes the oldest frame that waits for the port; none where none waits.
    pub fn take_frame(&mut self) -> Encoded {
        let mut frame = Encoded::new();
        while let Some(byte) = self.out.pop() {
            // Whole frames are in there, none of them longer.
            let _ = frame.push(byte);
            if frame.ends_with(&[ESCAPE, END]) {
                break;
            }
        }
        frame
    }

    fn line(&mut self, kind: Kind, line: fmt::Arguments<'_>) {
        let mut pieces = Pieces { link: self, piece: Vec::new() };
        // It does not fail.
        let _ = pieces.write_fmt(line);
        let piece = pieces.piece;
        self.say(kind, &piece);
    }

    fn say(&mut self, kind: Kind, payload: &[u8]) {
        let frame = encode(kind, self.id, self.number, payload);
        self.number = self.number.wrapping_add(1);
        self.put(&frame);
    }

    /// Queues a frame. One for which there is no room is lost as a whole, and its number tells.
    fn put(&mut self, frame: &[u8]) {
        if frame.len() <= self.out.room() {
            self.out.push_slice(frame);
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

/// A line on its way into frames: all but its end.
struct Pieces<'a> {
    link: &'a mut Link,
    piece: Vec<u8, MAX_PAYLOAD>,
}

impl Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.piece.push(byte).is_err() {
                self.link.say(Kind::Part, &self.piece);
                self.piece.clear();
                let _ = self.piece.push(byte);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    /// Gives the link bytes.
    fn receive(link: &mut Link, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| link.receive(byte));
    }

    /// What it says.
    fn said(link: &mut Link) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        while !link.is_idle() {
            let byte = link.waiting()[0];
            link.sent(1);
            frames.extend(decoder.feed(byte).map(|frame| frame.expect("no garbage is sent")));
        }
        frames
    }

    fn command(link: &mut Link, id: u32, line: &[u8]) -> Option<String> {
        receive(link, &encode(Kind::Command, id, 0, line));
        link.request().map(|line| String::from_utf8_lossy(&line).into())
    }

    #[test]
    fn an_answer_is_lines_and_an_end() {
        let mut link = Link::new();
        assert_eq!(command(&mut link, 7, b"list").as_deref(), Some("list"));
        assert_eq!(link.request(), None);
        let long = "x".repeat(MAX_PAYLOAD + 1);
        link.answer(format_args!("a{}", 1));
        link.answer(format_args!("{long}"));
        link.end();
        let frames = said(&mut link);
        assert!(frames.iter().enumerate().all(|(at, f)| (f.id, usize::from(f.number)) == (7, at)));
        let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.payload.len())).collect();
        let expected =
            [(Kind::Line, 2), (Kind::Part, MAX_PAYLOAD), (Kind::Line, 1), (Kind::Done, 0)];
        assert_eq!(kinds, expected);
        command(&mut link, 8, b"fly");
        link.refuse(format_args!("no"));
        link.end();
        let kinds: Vec<_> = said(&mut link).iter().map(|f| (f.kind, f.id, f.number)).collect();
        assert_eq!(kinds, [(Kind::Reason, 8, 0), (Kind::Refused, 8, 1)]);
        // That is forgotten with the next.
        command(&mut link, 9, b"list");
        link.end();
        assert_eq!(said(&mut link)[0].kind, Kind::Done);
    }

    #[test]
    fn frames_can_be_taken_one_by_one() {
        let mut link = Link::new();
        link.answer(format_args!("\x1d\x03"));
        link.end();
        let frames = [link.take_frame(), link.take_frame(), link.take_frame()];
        assert_eq!(frames[0], encode(Kind::Line, 0, 0, b"\x1d\x03"));
        assert_eq!(frames[1], encode(Kind::Done, 0, 1, &[]));
        assert!(frames[2].is_empty() && link.is_idle());
    }

    #[test]
    fn who_asks_is_greeted() {
        let mut link = Link::new();
        receive(&mut link, &encode(Kind::Hello, 5, 0, &[]));
        assert_eq!(link.request(), None);
        assert!(link.greet() && !link.greet(), "once");
        let frames = said(&mut link);
        assert_eq!((frames.len(), frames[0].kind, frames[0].id), (1, Kind::Greeting, 5));
        assert_eq!(frames[0].payload.as_slice(), GREETING.as_bytes());
    }

    #[test]
    fn the_newest_request_waits() {
        let mut link = Link::new();
        receive(&mut link, &encode(Kind::Command, 1, 0, b"one"));
        receive(&mut link, &encode(Kind::Command, 2, 0, b"two"));
        let two = Line::from_slice(b"two").unwrap();
        assert_eq!(link.request(), Some(two));
        link.end();
        assert_eq!(said(&mut link)[0].id, 2);
        assert_eq!(link.request(), None);
    }

    #[test]
    fn what_cannot_be_used_is_answered_and_counted() {
        let mut link = Link::new();
        receive(&mut link, b"list\r\x1dlist\r");
        receive(&mut link, b"\x1d\x02list\x1d\x03");
        receive(&mut link, &encode(Kind::Done, 3, 0, &[]));
        let frames = said(&mut link);
        let told: Vec<_> = frames.iter().map(|f| (f.kind, f.id, f.payload[0])).collect();
        let expected =
            [(Kind::Unusable, 0, Why::Damaged as u8), (Kind::Unusable, 3, Why::Kind as u8)];
        assert_eq!(told, expected);
        assert_eq!(link.unusable_frames(), 2);
        assert_eq!(link.request(), None);
    }

    #[test]
    fn garbage_takes_no_room_from_an_answer() {
        let mut link = Link::new();
        for _ in 0..10_000 {
            receive(&mut link, b"\x1d\x02x\x1d\x03");
        }
        assert!(link.out.len() < 2 * MOST_BEFORE_UNUSABLE);
        assert_eq!(link.unusable_frames(), 10_000);
        command(&mut link, 1, b"inventory --json");
        link.answer(format_args!("{}", "x".repeat(LONGEST_PIECE)));
        link.end();
        let frames = said(&mut link);
        assert_eq!(frames.last().map(|frame| frame.kind), Some(Kind::Done));
        let bytes = frames.iter().filter(|f| f.id == 1).map(|f| f.payload.len()).sum::<usize>();
        assert_eq!(bytes, LONGEST_PIECE);
    }

    #[test]
    fn what_has_no_room_is_lost_frame_by_frame_and_shows() {
        let mut link = Link::new();
        command(&mut link, 1, b"x");
        link.answer(format_args!("{}", "x".repeat(2 * QUEUE)));
        let frames = said(&mut link);
        link.end();
        let end = &said(&mut link)[0];
        assert_eq!(end.kind, Kind::Done);
        assert!(usize::from(end.number) > frames.len());
    }

    proptest! {
        #[test]
        fn any_bytes_can_come(bytes: Vec<u8>) {
            let mut link = Link::new();
            receive(&mut link, &bytes);
            while link.request().is_some() {}
            said(&mut link);
            // It is as before.
            let line = command(&mut link, 4, b"list");
            prop_assert_eq!(line.as_deref(), Some("list"));
        }
    }
}
