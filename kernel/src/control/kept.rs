//! The newest lines of the log, kept for whoever did not read the port.

/// Bytes that are kept.
pub const SIZE: usize = 8 << 10;
/// Most bytes of a line that are given.
pub const LONGEST: usize = 512;

/// A ring of the log's bytes, counted from its first.
pub struct Kept {
    bytes: [u8; SIZE],
    /// How many there have been in all.
    written: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}

impl Kept {
    /// Before the first.
    pub const fn new() -> Self {
        Self { bytes: [0; SIZE], written: 0 }
    }

    /// Another byte of the log.
    pub fn push(&mut self, byte: u8) {
        self.bytes[(self.written % SIZE as u64) as usize] = byte;
        self.written = self.written.saturating_add(1);
    }

    /// How many bytes there have been in all.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn byte(&self, at: u64) -> u8 {
        self.bytes[(at % SIZE as u64) as usize]
    }

    /// The first whole line from the byte number `from` on, as far as there is room for it: how long it is without its
    /// end, and where the next begins. A line of which the beginning is gone is left out.
    pub fn line(&self, from: u64, into: &mut [u8; LONGEST]) -> Option<(usize, u64)> {
        let mut at = from;
        let oldest = self.written.saturating_sub(SIZE as u64);
        if at < oldest {
            at = oldest;
            while at < self.written && self.byte(at) != b'\n' {
                at += 1;
            }
            at += 1;
        }
        let mut len = 0;
        while at < self.written {
            let byte = self.byte(at);
            at += 1;
            match byte {
                b'\n' => return Some((len, at)),
                // What marks a line for tools is no part of it.
                byte if byte < b' ' => {}
                byte => {
                    if let Some(place) = into.get_mut(len) {
                        *place = byte;
                        len += 1;
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn lines(kept: &Kept) -> Vec<String> {
        let (mut from, mut lines) = (0, Vec::new());
        let mut line = [0; LONGEST];
        while let Some((len, next)) = kept.line(from, &mut line) {
            lines.push(String::from_utf8_lossy(&line[..len]).into_owned());
            from = next;
        }
        lines
    }

    #[test]
    fn whole_lines_come_back() {
        let mut kept = Kept::new();
        b"one\r\n\x1etwo\nthr".iter().for_each(|&byte| kept.push(byte));
        assert_eq!(lines(&kept), ["one", "two"]);
        kept.push(b'\n');
        assert_eq!(lines(&kept), ["one", "two", "thr"]);
    }

    #[test]
    fn the_newest_are_kept_and_none_in_part() {
        let mut kept = Kept::new();
        for number in 0..10_000 {
            std::format!("line {number}\n").bytes().for_each(|byte| kept.push(byte));
        }
        let lines = lines(&kept);
        assert_eq!(lines.last().map(String::as_str), Some("line 9999"));
        assert_eq!(lines[0], std::format!("line {}", 10_000 - lines.len()));
        assert!(lines.len() > SIZE / 11);
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut kept = Kept::new();
        (0..600).for_each(|_| kept.push(b'x'));
        kept.push(b'\n');
        assert_eq!(lines(&kept), ["x".repeat(LONGEST)]);
        let mut without_end = Kept::new();
        (0..2 * SIZE).for_each(|_| without_end.push(b'x'));
        assert!(self::lines(&without_end).is_empty());
    }
}
