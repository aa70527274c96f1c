//! Frames out of the bytes of a line.

use crate::frame::{Frame, Unusable, Why};
use crate::{END, ESCAPE, MAX_BODY, START};
use heapless::Vec;

/// Finds frames, whatever comes between them.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    body: Vec<u8, MAX_BODY>,
    /// There was no room for all bytes; the end is looked for.
    too_long: bool,
    within: bool,
    /// The last byte was an [`ESCAPE`].
    escaped: bool,
}

impl Decoder {
    /// Takes the next byte. A frame is given with its last byte; with the begin of another, or whatever else there is
    /// behind an [`ESCAPE`], it was broken off.
    pub fn feed(&mut self, byte: u8) -> Option<Result<Frame, Unusable>> {
        if !core::mem::take(&mut self.escaped) {
            if byte == ESCAPE {
                self.escaped = true;
            } else if self.within {
                self.too_long |= self.body.push(byte).is_err();
            }
            return None;
        }
        if byte == ESCAPE {
            // It may still begin something.
            self.escaped = true;
        }
        let found = match (self.within, byte) {
            (false, _) => None,
            (true, END) if !self.too_long => Some(Frame::decode(&self.body)),
            (true, byte) => {
                let long = self.too_long && byte == END;
                let why = if long { Why::TooLong } else { Why::Damaged };
                Some(Err(Unusable { why, id: 0, version: 0 }))
            }
        };
        self.within = false;
        if byte == START {
            self.begin();
        }
        found
    }

    /// A frame begins: somebody else has read [`ESCAPE`] and [`START`].
    pub fn begin(&mut self) {
        self.body.clear();
        (self.within, self.too_long, self.escaped) = (true, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_PAYLOAD;
    use crate::frame::{Kind, encode};
    extern crate std;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn feed(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Frame, Unusable>> {
        bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect()
    }

    fn unusable(why: Why) -> Result<Frame, Unusable> {
        Err(Unusable { why, id: 0, version: 0 })
    }

    #[test]
    fn what_is_not_within_a_frame_is_nothing() {
        let mut decoder = Decoder::default();
        let bytes = b"[one] $ \x1d\r\n[two] x\x1d\x1f\x03\x1d\x03\x02\x1dlist\r\x1d\x1d";
        assert_eq!(feed(&mut decoder, bytes), []);
        // The byte before it was an escape, too.
        assert_eq!(feed(&mut decoder, &encode(Kind::Hello, 1, 0, &[])).len(), 1);
    }

    #[test]
    fn what_is_broken_off_is_damaged() {
        let hello = encode(Kind::Hello, 1, 0, &[]);
        let (begun, rest) = hello.split_at(hello.len() - 2);
        let mut decoder = Decoder::default();
        let found = feed(&mut decoder, &[begun, &hello].concat());
        assert!(matches!(&found[..], [broken, Ok(_)] if *broken == unusable(Why::Damaged)));
        assert_eq!(
            feed(&mut decoder, &[begun, b"\x1d\x1f", rest].concat()),
            [unusable(Why::Damaged)]
        );
        assert_eq!(feed(&mut decoder, b"\x1d\x02\x1d\x03"), [unusable(Why::Damaged)]);
    }

    #[test]
    fn what_has_no_end_takes_no_more_room() {
        let mut decoder = Decoder::default();
        assert_eq!(feed(&mut decoder, &[ESCAPE, START]), []);
        assert_eq!(feed(&mut decoder, &[7; 10 * MAX_BODY]), []);
        assert_eq!(feed(&mut decoder, &[ESCAPE, END]), [unusable(Why::TooLong)]);
        let found = feed(&mut decoder, &encode(Kind::Hello, 7, 0, &[]));
        assert!(matches!(&found[..], [Ok(Frame { kind: Kind::Hello, .. })]), "{found:?}");
    }

    proptest! {
        /// Frames with garbage between them: each is found, and none that was not sent.
        #[test]
        fn after_garbage_the_next_frame_is_found(
            pieces in prop::collection::vec((
                prop::collection::vec(prop_oneof![Just(ESCAPE), Just(START), Just(END), any::<u8>()], 0..300),
                prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD),
            ), 1..8),
        ) {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for (id, (garbage, payload)) in pieces.iter().enumerate() {
                found.extend(feed(&mut decoder, garbage));
                found.extend(feed(&mut decoder, &encode(Kind::Line, id as u32, 0, payload)));
            }
            let whole: Vec<_> = found.into_iter().flatten().collect();
            prop_assert_eq!(whole.len(), pieces.len());
            for (id, (frame, (_, payload))) in whole.iter().zip(&pieces).enumerate() {
                prop_assert_eq!((frame.id, frame.payload.as_slice()), (id as u32, payload.as_slice()));
            }
        }

        #[test]
        fn any_bytes_can_come(bytes: Vec<u8>) {
            feed(&mut Decoder::default(), &bytes);
        }
    }
}
