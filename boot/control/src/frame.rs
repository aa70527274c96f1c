//! A frame, and its bytes.

use crate::{
    CHECKSUM, END, ESCAPE, HEADER, MAX_BODY, MAX_COMMAND, MAX_ENCODED, MAX_FRAME, MAX_PAYLOAD,
    START, VERSION,
};
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc};
use heapless::Vec;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A frame's bytes on the line, begin and end included.
pub type Encoded = Vec<u8, MAX_ENCODED>;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Of a client: who is there? No payload.
    Hello = 0x01,
    /// Of a client: a command line as it is typed on the console, of at most [`MAX_COMMAND`] bytes.
    Command = 0x02,
    /// The answer to [`Kind::Hello`]: the hypervisor's name and version as text.
    Greeting = 0x81,
    /// A part of a line of the answer, which goes on in the next frame.
    Part = 0x82,
    /// A line of the answer, or its last part.
    Line = 0x83,
    /// Why a command was refused: a line, or its last part.
    Reason = 0x84,
    /// The answer is whole. No payload.
    Done = 0x85,
    /// The command was refused. No payload.
    Refused = 0x86,
    /// A frame could not be used: a byte that says [`Why`]. The id is the frame's, or 0 where it was not known.
    Unusable = 0x87,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Command,
        Self::Greeting,
        Self::Part,
        Self::Line,
        Self::Reason,
        Self::Done,
        Self::Refused,
        Self::Unusable,
    ];

    /// How many bytes of payload it may have.
    pub fn payload(self) -> core::ops::RangeInclusive<usize> {
        match self {
            Self::Hello | Self::Done | Self::Refused => 0..=0,
            Self::Command => 0..=MAX_COMMAND,
            Self::Unusable => 1..=1,
            Self::Greeting | Self::Part | Self::Line | Self::Reason => 0..=MAX_PAYLOAD,
        }
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The client's number of the request; an answer has its request's.
    pub id: u32,
    /// Counts the frames of an answer from 0 on, and begins again after 65535. 0 in a request.
    pub number: u16,
    /// What it carries, of a length that its kind allows.
    pub payload: Vec<u8, MAX_PAYLOAD>,
}

/// Why a frame cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// Bytes of it were lost or altered on the way.
    Damaged = 1,
    /// It is longer than any frame.
    TooLong = 2,
    /// It is of another version of the protocol.
    Version = 3,
    /// Its kind is none, or none that goes this way.
    Kind = 4,
    /// Its payload has another length than its kind allows.
    Length = 5,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Damaged, Self::TooLong, Self::Version, Self::Kind, Self::Length];

    /// What [`Kind::Unusable`] carries.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&why| why as u8 == code)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "bytes were lost or altered on the way",
            Self::TooLong => "it is longer than any frame",
            Self::Version => "it is of another version of the protocol",
            Self::Kind => "it is of a kind that is not known, or does not go this way",
            Self::Length => "its payload has another length than its kind allows",
        })
    }
}

/// A frame that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Why.
    pub why: Why,
    /// Its id; 0 where it is not known.
    pub id: u32,
    /// Its version; 0 where it is not known.
    pub version: u8,
}

/// A frame's bytes for the line. What is beyond [`MAX_PAYLOAD`] of the payload is cut off.
pub fn encode(kind: Kind, id: u32, number: u16, payload: &[u8]) -> Encoded {
    let mut frame = Vec::<u8, MAX_FRAME>::new();
    // There is room for all of it.
    let _ = frame.extend_from_slice(&[VERSION, kind as u8]);
    let _ = frame.extend_from_slice(&id.to_le_bytes());
    let _ = frame.extend_from_slice(&number.to_le_bytes());
    let _ = frame.extend_from_slice(&payload[..payload.len().min(MAX_PAYLOAD)]);
    let checksum = CRC.checksum(&frame);
    let _ = frame.extend_from_slice(&checksum.to_le_bytes());
    let mut body = [0; MAX_BODY];
    let len = cobs::encode_with_sentinel(&frame, &mut body, ESCAPE);
    let mut encoded = Encoded::new();
    let _ = encoded.extend_from_slice(&[ESCAPE, START]);
    let _ = encoded.extend_from_slice(&body[..len]);
    let _ = encoded.extend_from_slice(&[ESCAPE, END]);
    encoded
}

impl Frame {
    /// Reads what is on the line between a frame's begin and end.
    ///
    /// # Errors
    /// If it is no frame, or none that can be used.
    pub fn decode(body: &[u8]) -> Result<Self, Unusable> {
        let damaged = Unusable { why: Why::Damaged, id: 0, version: 0 };
        let mut buffer = [0; MAX_BODY];
        let Some(bytes) = buffer.get_mut(..body.len()) else {
            return Err(Unusable { why: Why::TooLong, ..damaged });
        };
        bytes.copy_from_slice(body);
        let len = cobs::decode_in_place_with_sentinel(bytes, ESCAPE).map_err(|_| damaged)?;
        let frame = bytes.get(..len).ok_or(damaged)?;
        let (frame, checksum) = frame.split_last_chunk::<CHECKSUM>().ok_or(damaged)?;
        if CRC.checksum(frame) != u32::from_le_bytes(*checksum) {
            return Err(damaged);
        }
        let &[version, ref rest @ ..] = frame else { return Err(damaged) };
        if version != VERSION {
            // Where its id would be is not known either.
            return Err(Unusable { why: Why::Version, version, ..damaged });
        }
        let Some((header, payload)) = rest.split_first_chunk::<{ HEADER - 1 }>() else {
            return Err(damaged);
        };
        let [kind, a, b, c, d, e, f] = *header;
        let id = u32::from_le_bytes([a, b, c, d]);
        let unusable = |why| Unusable { why, id, version };
        let kind = Kind::ALL.into_iter().find(|&known| known as u8 == kind);
        let kind = kind.ok_or(unusable(Why::Kind))?;
        if !kind.payload().contains(&payload.len()) {
            return Err(unusable(Why::Length));
        }
        let payload = Vec::from_slice(payload).map_err(|_| unusable(Why::Length))?;
        Ok(Self { kind, id, number: u16::from_le_bytes([e, f]), payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use proptest::prelude::*;

    fn decode(encoded: &[u8]) -> Result<Frame, Unusable> {
        let body = body(encoded);
        assert!(!body.contains(&ESCAPE));
        Frame::decode(body)
    }

    fn body(encoded: &[u8]) -> &[u8] {
        let body = encoded.strip_prefix(&[ESCAPE, START]).unwrap();
        body.strip_suffix(&[ESCAPE, END]).unwrap()
    }

    /// A frame of bytes that need not be one.
    fn made(bytes: &[u8]) -> std::vec::Vec<u8> {
        let bytes = [bytes, &CRC.checksum(bytes).to_le_bytes()].concat();
        let mut encoded = std::vec![0; cobs::max_encoding_length(bytes.len())];
        let len = cobs::encode_with_sentinel(&bytes, &mut encoded, ESCAPE);
        encoded.truncate(len);
        encoded
    }

    #[test]
    fn a_frame_is_as_the_documentation_has_it() {
        let encoded = encode(Kind::Command, 0x0403_0201, 0, b"list");
        let frame = [1, 2, 1, 2, 3, 4, 0, 0, b'l', b'i', b's', b't'];
        assert_eq!(body(&encoded), made(&frame));
        // The distances to the two zeros and the end, and then everything exclusive-or 0x1D.
        let plain: std::vec::Vec<_> = body(&encoded).iter().map(|byte| byte ^ ESCAPE).collect();
        assert_eq!(plain[..10], [7, 1, 2, 1, 2, 3, 4, 1, 9, b'l']);
        // The checksum's name in the catalogues is CRC-32/ISO-HDLC, and this their check.
        assert_eq!(CRC.checksum(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_cannot_be_used_is_known_by_its_reason() {
        let unusable = |bytes: &[u8]| Frame::decode(&made(bytes)).unwrap_err();
        let of = |why, id, version| Unusable { why, id, version };
        assert_eq!(unusable(&[]), of(Why::Damaged, 0, 0));
        assert_eq!(unusable(&[1, 2, 3]), of(Why::Damaged, 0, 0));
        assert_eq!(unusable(&[2, 2, 7, 0, 0, 0, 0, 0]), of(Why::Version, 0, 2));
        assert_eq!(unusable(&[1, 0x7F, 7, 0, 0, 0, 0, 0]), of(Why::Kind, 7, 1));
        assert_eq!(unusable(&[1, 1, 7, 0, 0, 0, 0, 0, 9]), of(Why::Length, 7, 1));
        let long = [&[1, 2, 7, 0, 0, 0, 0, 0][..], &[b'x'; MAX_COMMAND + 1]].concat();
        assert_eq!(unusable(&long), of(Why::Length, 7, 1));
        assert_eq!(Frame::decode(&[1; MAX_BODY + 1]).unwrap_err(), of(Why::TooLong, 0, 0));
        for why in Why::ALL {
            assert_eq!(Why::of(why as u8), Some(why));
        }
        assert_eq!(Why::of(0), None);
    }

    proptest! {
        #[test]
        fn every_frame_arrives(
            kind in 0..Kind::ALL.len(),
            id: u32,
            number: u16,
            payload in prop::collection::vec(prop_oneof![Just(0), Just(ESCAPE), any::<u8>()], 0..=MAX_PAYLOAD),
        ) {
            let kind = Kind::ALL[kind];
            let len = payload.len().clamp(*kind.payload().start(), *kind.payload().end());
            let mut payload = payload;
            payload.resize(len, 0);
            let encoded = encode(kind, id, number, &payload);
            prop_assert!(encoded.len() <= MAX_ENCODED);
            let frame = decode(&encoded).unwrap();
            prop_assert_eq!((frame.kind, frame.id, frame.number), (kind, id, number));
            prop_assert_eq!(frame.payload.as_slice(), payload);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Frame::decode(&bytes);
            // Also behind a checksum that is right.
            let _ = Frame::decode(&made(&bytes[..bytes.len().min(MAX_FRAME - CHECKSUM)]));
        }

        #[test]
        fn no_damaged_byte_goes_unseen(
            payload in prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD),
            at: prop::sample::Index,
            change in 1u8..,
        ) {
            let encoded = encode(Kind::Line, 1, 2, &payload);
            let mut body = body(&encoded).to_vec();
            let at = at.index(body.len());
            body[at] ^= change;
            prop_assert!(Frame::decode(&body).is_err());
        }
    }
}
