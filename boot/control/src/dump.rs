//! How a guest's memory is streamed: a line for each piece that is not all zero, and one that sums them up.

use base64ct::{Base64, Encoding};
use core::fmt;
use core::str::FromStr;

/// Bytes of a piece.
pub const PIECE: usize = 512;
/// Characters of a piece in base64.
const TEXT: usize = PIECE.div_ceil(3) * 4;

/// A piece of memory that has a byte other than 0.
///
/// Displays as a line of a dump: the guest-physical address of its first byte, 16 hexadecimal digits, and its bytes in
/// base64 (RFC 4648, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Guest-physical address, a multiple of [`PIECE`].
    pub at: u64,
    /// What is there.
    pub bytes: [u8; PIECE],
}

/// A line of a dump is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPiece;

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT];
        let text = Base64::encode(&self.bytes, &mut text).map_err(|_| fmt::Error)?;
        write!(f, "{:016x} {text}", self.at)
    }
}

impl FromStr for Piece {
    type Err = NoPiece;

    fn from_str(line: &str) -> Result<Self, NoPiece> {
        let (at, text) = line.split_once(' ').ok_or(NoPiece)?;
        if at.len() != 16 || at.starts_with('+') {
            return Err(NoPiece);
        }
        let at = u64::from_str_radix(at, 16).map_err(|_| NoPiece)?;
        let mut bytes = [0; PIECE];
        let decoded = Base64::decode(text, &mut bytes).map_err(|_| NoPiece)?;
        if decoded.len() != PIECE || !at.is_multiple_of(PIECE as u64) {
            return Err(NoPiece);
        }
        Ok(Self { at, bytes })
    }
}

/// Sums the pieces of a dump up, in the order in which they come.
#[derive(Clone, Default)]
pub struct Pieces {
    count: u64,
    hasher: blake3::Hasher,
}

impl Pieces {
    /// Another piece.
    pub fn add(&mut self, piece: &Piece) {
        self.count += 1;
        self.hasher.update(&piece.at.to_le_bytes());
        self.hasher.update(&piece.bytes);
    }

    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// They were all, of memory that ends before the guest-physical address `end`.
    pub fn sum(&self, end: u64) -> Sum {
        Sum { count: self.count, end, digest: *self.hasher.finalize().as_bytes() }
    }
}

/// What a dump says of itself at its end.
///
/// Displays as the last line of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many pieces there were.
    pub count: u64,
    /// One past the last guest-physical address of memory.
    pub end: u64,
    /// BLAKE3 of the pieces, each behind its address in eight bytes, the lowest first.
    pub digest: [u8; 32],
}

/// What the last line begins with.
const SUM: &str = "dumped: ";

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, end, digest } = self;
        write!(
            f,
            "{SUM}{count} pieces of {PIECE} bytes, of memory that ends at {end:#x}, BLAKE3 "
        )?;
        digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Sum {
    /// Where memory ends, if a line is the last one of a dump.
    pub fn end_in(line: &str) -> Option<u64> {
        let (_, rest) = line.strip_prefix(SUM)?.split_once(" ends at 0x")?;
        u64::from_str_radix(rest.split_once(',')?.0, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn piece(at: u64, first: u8) -> Piece {
        let mut bytes = [0; PIECE];
        (bytes[0], bytes[PIECE - 1]) = (first, 0xA5);
        Piece { at, bytes }
    }

    #[test]
    fn a_line_is_the_piece_it_was_made_of() {
        for piece in [piece(0, 1), piece(0x1_0000_0000, 0xFF)] {
            let line = piece.to_string();
            assert_eq!(line.len(), 16 + 1 + 684);
            assert_eq!(line.parse(), Ok(piece));
        }
        let line = piece(0x200, 1).to_string();
        for bad in ["", "x", &line[1..], &line[..line.len() - 4], &line.replace("0200", "0201")] {
            assert_eq!(bad.parse::<Piece>(), Err(NoPiece), "{bad}");
        }
    }

    #[test]
    fn any_change_changes_the_sum() {
        let sum = |all: &[Piece]| {
            let mut pieces = Pieces::default();
            all.iter().for_each(|piece| pieces.add(piece));
            pieces.sum(0x40_0000)
        };
        let (one, two) = (piece(0, 1), piece(512, 1));
        let whole = sum(&[one, two]);
        assert_eq!(Sum::end_in(&whole.to_string()), Some(0x40_0000));
        assert_eq!(Sum::end_in("guest web is paused"), None);
        for other in [&[one][..], &[two, one], &[one, piece(1024, 1)], &[one, piece(512, 2)]] {
            assert_ne!(sum(other).digest, whole.digest);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line: std::string::String) {
            let _ = (line.parse::<Piece>(), Sum::end_in(&line));
        }
    }
}
