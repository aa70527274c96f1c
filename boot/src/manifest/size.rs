//! Amounts of memory as a manifest writes them.

use bulkhead_manifest::{Size, limits};

/// What a memory value has to look like, for messages.
pub const RULE: &str = "a string such as \"128 MiB\" or \"1 GiB\"";

/// Reads `"128 MiB"`: a whole number and one of MiB, GiB, TiB, with or without a space. The result is within the range of a
/// guest's memory.
///
/// # Errors
/// What the text must be instead, with a value that would do.
pub fn parse(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(RULE.to_owned());
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
        _ => return format!("{RULE}: a whole number and MiB, GiB or TiB"),
    };
    format!("in MiB, GiB or TiB, for example \"{number} {meant}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!(parse("128 MiB"), Ok(128 << 20));
        assert_eq!(parse("4MiB"), Ok(4 << 20));
        assert_eq!(parse(" 1 GiB "), Ok(1 << 30));
        assert_eq!(parse("512 GiB"), Ok(512 << 30));
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
            ("", RULE.to_owned()),
            ("lots", RULE.to_owned()),
            ("-4 MiB", RULE.to_owned()),
            ("٤ MiB", RULE.to_owned()),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
