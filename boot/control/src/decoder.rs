//! Frames out of the bytes of a line.

use crate::frame::{Frame, Unusable, Why};
use crate::{END, MAX_ENCODED};
use heapless::Vec;

/// Finds frames, whatever comes between them.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8, MAX_ENCODED>,
    /// There was no room for all bytes; the end is looked for.
    too_long: bool,
}

impl Decoder {
    /// Takes the next byte. A frame is given with the [`END`] behind it. Nothing between two of them is no frame: a side
    /// that does not know what was on the line before begins with one.
    pub fn feed(&mut self, byte: u8) -> Option<Result<Frame, Unusable>> {
        if byte != END {
            self.too_long |= self.bytes.push(byte).is_err();
            return None;
        }
        let too_long = core::mem::take(&mut self.too_long);
        let frame = if too_long {
            Some(Err(Unusable { why: Why::TooLong, id: 0, version: 0 }))
        } else if self.bytes.is_empty() {
            None
        } else {
            Some(Frame::decode(&self.bytes))
        };
        self.bytes.clear();
        frame
    }

    /// Whether a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Whether the frame that has begun is too long for one.
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Kind, encode};
    use crate::{MAX_PAYLOAD, VERSION};
    extern crate std;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn feed(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Frame, Unusable>> {
        bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect()
    }

    #[test]
    fn nothing_is_no_frame() {
        let mut decoder = Decoder::default();
        assert_eq!(feed(&mut decoder, &[END; 3]), []);
        assert!(!decoder.is_within());
    }

    #[test]
    fn what_has_no_end_takes_no_more_room() {
        let mut decoder = Decoder::default();
        assert_eq!(feed(&mut decoder, &[7; 10 * MAX_ENCODED]), []);
        assert!(decoder.is_within() && decoder.is_too_long());
        let found = feed(&mut decoder, &[END]);
        assert_eq!(found, [Err(Unusable { why: Why::TooLong, id: 0, version: 0 })]);
        let found = feed(&mut decoder, &encode(Kind::Hello, VERSION.into(), 0, &[]));
        assert!(matches!(&found[..], [Ok(Frame { kind: Kind::Hello, .. })]), "{found:?}");
    }

    proptest! {
        /// Frames with garbage between them: each whole one is found, once, and none that was not sent.
        #[test]
        fn after_garbage_the_next_frame_is_found(
            pieces in prop::collection::vec((
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD),
            ), 1..8),
        ) {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for (id, (garbage, payload)) in pieces.iter().enumerate() {
                found.extend(feed(&mut decoder, garbage));
                found.extend(feed(&mut decoder, &[END]));
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
