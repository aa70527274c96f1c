//! Bytes, written for people, and amounts of memory as people write them.

use crate::limits;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
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

/// What a memory value has to look like, for messages.
pub const MEMORY_EXAMPLES: &str = "a string such as \"128 MiB\" or \"1 GiB\"";

/// Reads `"128 MiB"`: a whole number and one of MiB, GiB, TiB, with or without a space. The result is within the range of a
/// guest's memory.
///
/// # Errors
/// What the text must be instead, with a value that would do.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(MEMORY_EXAMPLES.to_owned());
    }
    let shift = match unit.trim_start() {
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        other => return Err(unit_message(number, other)),
    };
    let Some(bytes) = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift))
    else {
        return Err(format!("{}, for example \"512 GiB\"", limits::MEMORY_RULE));
    };
    if limits::is_memory(bytes) {
        Ok(bytes)
    } else {
        Err(format!("{}, for example \"{}\"", limits::MEMORY_RULE, Size(nearest(bytes))))
    }
}

/// The next amount up that a guest may have, or the largest.
fn nearest(bytes: u64) -> u64 {
    let rounded = bytes.checked_next_multiple_of(limits::MEMORY_GRANULE).unwrap_or(u64::MAX);
    rounded.clamp(limits::MIN_MEMORY, limits::MAX_MEMORY)
}

fn unit_message(number: &str, unit: &str) -> String {
    let meant = match unit.to_ascii_lowercase().as_str() {
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        "m" | "mb" | "mib" => "MiB",
        _ => return format!("{MEMORY_EXAMPLES}: a whole number and MiB, GiB or TiB"),
    };
    format!("in MiB, GiB or TiB, for example \"{number} {meant}\"")
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

    #[test]
    fn amounts() {
        assert_eq!(parse_memory("128 MiB"), Ok(128 << 20));
        assert_eq!(parse_memory("4MiB"), Ok(4 << 20));
        assert_eq!(parse_memory(" 1 GiB "), Ok(1 << 30));
        assert_eq!(parse_memory("512 GiB"), Ok(512 << 30));
    }

    #[test]
    fn what_would_be_right() {
        let range = "a multiple of 2 MiB from 4 MiB to 512 GiB, for example";
        let units = "in MiB, GiB or TiB, for example";
        let unknown =
            "a string such as \"128 MiB\" or \"1 GiB\": a whole number and MiB, GiB or TiB";
        for (text, expected) in [
            ("129 MiB", format!("{range} \"130 MiB\"")),
            ("0 MiB", format!("{range} \"4 MiB\"")),
            ("2 MiB", format!("{range} \"4 MiB\"")),
            ("3 TiB", format!("{range} \"512 GiB\"")),
            ("99999999999999999999 MiB", format!("{range} \"512 GiB\"")),
            ("17179869183 GiB", format!("{range} \"512 GiB\"")),
            ("100 MB", format!("{units} \"100 MiB\"")),
            ("2G", format!("{units} \"2 GiB\"")),
            ("1 tib", format!("{units} \"1 TiB\"")),
            ("128", unknown.to_owned()),
            ("1.5 GiB", unknown.to_owned()),
            ("128 pages", unknown.to_owned()),
            ("", MEMORY_EXAMPLES.to_owned()),
            ("lots", MEMORY_EXAMPLES.to_owned()),
            ("-4 MiB", MEMORY_EXAMPLES.to_owned()),
            ("٤ MiB", MEMORY_EXAMPLES.to_owned()),
        ] {
            assert_eq!(parse_memory(text), Err(expected), "{text}");
        }
    }
}
