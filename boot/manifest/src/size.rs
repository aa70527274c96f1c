//! Bytes, written for people.

use core::fmt;

/// A number of bytes that displays in the largest unit that divides it, or else rounds down to whole MiB,
/// or to whole KiB where there are few: what is printed is never more than what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        const TIB: u64 = 1 << 40;
        /// From here on what is lost by whole MiB is below a hundredth.
        const MANY: u64 = 100 * MIB;
        match self.0 {
            b if b >= TIB && b.is_multiple_of(TIB) => write!(f, "{} TiB", b / TIB),
            b if b >= GIB && b.is_multiple_of(GIB) => write!(f, "{} GiB", b / GIB),
            b if b >= MANY || b >= MIB && b.is_multiple_of(MIB) => write!(f, "{} MiB", b / MIB),
            b if b >= KIB => write!(f, "{} KiB", b / KIB),
            1 => f.write_str("1 byte"),
            b => write!(f, "{b} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_largest_unit_that_fits_rounded_down() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (4096, "4 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (128 << 20, "128 MiB"),
            (1 << 30, "1 GiB"),
            (1 << 40, "1 TiB"),
            (1025 << 30, "1025 GiB"),
            (1536 << 20, "1536 MiB"),
            ((512 << 20) - 1, "511 MiB"),
            ((100 << 20) + 1, "100 MiB"),
            ((100 << 20) - 1, "102399 KiB"),
            (1112 << 10, "1112 KiB"),
            (1 << 20, "1 MiB"),
            (u64::MAX, "17592186044415 MiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
