//! The stream on the serial port: the hypervisor's log and the guests' consoles, so marked that a
//! plain terminal shows it well and a program can take it apart, and frames of the control protocol where that has no port
//! of its own. `docs/console.md` has the format.

use bulkhead_control::MAX_ENCODED;
use heapless::Vec;

/// GS: begins a switch to another speaker.
const SWITCH: u8 = 0x1D;
/// RS: begins each line of the log that tools look for.
pub const MARK: u8 = 0x1E;
/// US: ends a switch to the log.
const TO_LOG: u8 = 0x1F;
/// What guests' output has in place of [`SWITCH`] and [`MARK`], so that no guest can speak in
/// another's name.
const REPLACED: u8 = b'?';

/// Most bytes that are said at a time: a 16550's transmitter FIFO.
pub const PIECE: usize = 16;
/// Most bytes of a switch: `GS CR LF [ name ] SP`.
const LONGEST_SWITCH: usize = 6 + bulkhead_manifest::limits::MAX_NAME;
/// Bytes that wait for the port at most.
const CAPACITY: usize = 256;
const _: () = assert!(CAPACITY >= PIECE + LONGEST_SWITCH);
const _: () = assert!(CAPACITY >= PIECE + MAX_ENCODED);

/// Whose bytes they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaker<'a> {
    /// The hypervisor.
    Log,
    /// A guest, by its place in the manifest, and its name.
    Guest(usize, &'a str),
}

/// What has been said and is on its way to the port.
pub struct Wire {
    bytes: Vec<u8, CAPACITY>,
    /// The guest that speaks; without one, the log.
    guest: Option<usize>,
    at_line_start: bool,
}

impl Wire {
    /// The stream before its first byte: the log speaks.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), guest: None, at_line_start: true }
    }

    /// Bytes that [`say`](Self::say) takes now, 0 to [`PIECE`].
    pub fn room(&self) -> usize {
        PIECE.saturating_sub(self.bytes.len())
    }

    /// What waits for the port.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes
    }

    /// Says `bytes`, after a switch if somebody else spoke before. What is beyond
    /// [`room`](Self::room) is not taken. Returns how many bytes went into the stream, the switch
    /// included.
    pub fn say(&mut self, speaker: Speaker<'_>, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(self.room())];
        let Some(&last) = bytes.last() else { return 0 };
        let before = self.bytes.len();
        self.switch(speaker);
        for &byte in bytes {
            let forged = matches!(speaker, Speaker::Guest(..)) && matches!(byte, SWITCH | MARK);
            self.put(if forged { REPLACED } else { byte });
        }
        self.at_line_start = last == b'\n';
        self.bytes.len() - before
    }

    /// Puts a whole frame of the control protocol between what others say, if there is room for bytes. It is no switch:
    /// whoever spoke before goes on.
    pub fn frame(&mut self, frame: &[u8]) -> bool {
        self.room() > 0 && self.bytes.extend_from_slice(frame).is_ok()
    }

    /// Forgets the oldest bytes of [`waiting`](Self::waiting): the port has taken so many.
    pub fn sent(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.rotate_left(count);
        self.bytes.truncate(self.bytes.len() - count);
    }

    fn switch(&mut self, speaker: Speaker<'_>) {
        let (guest, name) = match speaker {
            Speaker::Log => (None, None),
            Speaker::Guest(index, name) => (Some(index), Some(name)),
        };
        if self.guest == guest {
            return;
        }
        self.put(SWITCH);
        if !self.at_line_start {
            self.put(b'\r');
            self.put(b'\n');
        }
        match name {
            None => self.put(TO_LOG),
            Some(name) => {
                self.put(b'[');
                name.bytes().for_each(|byte| self.put(byte));
                self.put(b']');
                self.put(b' ');
            }
        }
        self.guest = guest;
    }

    fn put(&mut self, byte: u8) {
        // There is room: fewer than PIECE bytes were there, and a name has its limit.
        let _ = self.bytes.push(byte);
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn stream(said: &[(Speaker<'_>, &[u8])]) -> Vec<u8> {
        let mut wire = Wire::new();
        let mut sent = Vec::new();
        for (speaker, bytes) in said {
            for piece in bytes.chunks(PIECE) {
                wire.say(*speaker, piece);
                sent.extend_from_slice(wire.waiting());
                wire.sent(usize::MAX);
            }
        }
        sent
    }

    #[test]
    fn a_switch_begins_a_line() {
        let one = Speaker::Guest(0, "one");
        let two = Speaker::Guest(1, "two");
        let said: [(_, &[u8]); 6] = [
            (Speaker::Log, b"log\r\n"),
            (one, b"$ "),
            (one, b"ls"),
            (two, b"hello\r\n"),
            (Speaker::Log, b"more\r\n"),
            (Speaker::Log, b""),
        ];
        let expected = b"log\r\n\x1d[one] $ ls\x1d\r\n[two] hello\r\n\x1d\x1fmore\r\n";
        assert_eq!(stream(&said), expected);
    }

    #[test]
    fn nothing_said_is_no_switch() {
        let mut wire = Wire::new();
        assert_eq!(wire.say(Speaker::Guest(0, "one"), b""), 0);
        assert!(wire.waiting().is_empty());
    }

    #[test]
    fn a_full_wire_takes_nothing() {
        let mut wire = Wire::new();
        assert_eq!(wire.say(Speaker::Log, &[b'x'; 99]), PIECE);
        assert_eq!(wire.room(), 0);
        assert_eq!(wire.say(Speaker::Guest(0, "one"), b"y"), 0);
        wire.sent(PIECE - 1);
        assert_eq!((wire.waiting(), wire.room()), (b"x".as_slice(), PIECE - 1));
        wire.sent(1);
        assert_eq!(wire.say(Speaker::Guest(0, "one"), b"y"), b"\x1d\r\n[one] y".len());
    }

    #[test]
    fn the_longest_name_fits_beside_a_piece() {
        let name = "n".repeat(bulkhead_manifest::limits::MAX_NAME);
        let mut wire = Wire::new();
        wire.say(Speaker::Log, b"x");
        wire.sent(1);
        let cost = wire.say(Speaker::Guest(0, &name), &[b'y'; PIECE]);
        assert_eq!(cost, LONGEST_SWITCH + PIECE);
    }

    #[test]
    fn a_frame_is_put_in_as_a_whole() {
        let mut wire = Wire::new();
        let one = Speaker::Guest(0, "one");
        wire.say(one, b"$ ");
        wire.sent(usize::MAX);
        wire.say(one, b"123456789012345");
        assert_eq!(wire.room(), 1);
        assert!(wire.frame(&[7; MAX_ENCODED]));
        assert!(!wire.frame(&[8]));
        assert_eq!(wire.say(one, b"x"), 0);
        wire.sent(15 + MAX_ENCODED);
        wire.say(one, b"ls");
        assert_eq!(wire.waiting(), b"ls", "the guest still speaks");
    }

    proptest! {
        #[test]
        fn no_guest_can_switch_or_mark(pieces in prop::collection::vec((0usize..3, prop::collection::vec(any::<u8>(), 1..40)), 1..20)) {
            let names = ["a", "b", "c"];
            let said: Vec<_> = pieces.iter().map(|(guest, bytes)| (Speaker::Guest(*guest, names[*guest]), bytes.as_slice())).collect();
            let sent = stream(&said);
            let mut switches = 0;
            let mut before = None;
            for (guest, _) in &pieces {
                switches += usize::from(before != Some(guest));
                before = Some(guest);
            }
            prop_assert_eq!(sent.iter().filter(|byte| **byte == SWITCH).count(), switches);
            prop_assert!(!sent.contains(&MARK));
        }
    }
}
