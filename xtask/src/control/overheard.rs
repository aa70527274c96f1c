//! Answers to another's commands, heard by the way: whoever shows the guests' states wants to know what they have
//! changed, and the log does not say it.

use bulkhead_control::{Decoder, Kind};

/// Most bytes of a line. What says something of a guest is shorter.
const LONGEST: usize = 512;

/// Finds the lines of answers in what a machine says.
#[derive(Debug, Default)]
pub struct Overheard {
    decoder: Decoder,
    /// Whose answer it is, by the number of its request.
    id: u32,
    /// What has come of a line.
    line: Vec<u8>,
}

impl Overheard {
    /// Takes what comes next. Gives lines that are whole, as the log would have them if the commands were typed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            // What is damaged is the client's to complain of.
            let Some(Ok(frame)) = self.decoder.feed(byte) else { continue };
            if frame.id != self.id {
                self.id = frame.id;
                self.line.clear();
            }
            let begin = match frame.kind {
                Kind::Part => None,
                Kind::Line => Some("console: "),
                Kind::Reason => Some("error: console: "),
                _ => continue,
            };
            self.line.extend_from_slice(&frame.payload);
            self.line.truncate(LONGEST);
            if let Some(begin) = begin {
                lines.push(format!("{begin}{}", String::from_utf8_lossy(&self.line)));
                self.line.clear();
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_control::encode;

    #[test]
    fn answers_are_heard_between_all_else() {
        let frames = [
            encode(Kind::Greeting, 1, 0, b"Bulkhead"),
            encode(Kind::Part, 2, 0, b"guest a is paused, "),
            encode(Kind::Line, 2, 1, b"after 5 ticks"),
            encode(Kind::Done, 2, 2, &[]),
            encode(Kind::Part, 3, 0, b"cut "),
            encode(Kind::Reason, 4, 0, b"cannot pause guest b: it is stopped"),
        ];
        let stream = [b"log\r\n\x1d[a] x", frames.concat().as_slice(), b"\x1d\x1flog"].concat();
        let expected = [
            "console: guest a is paused, after 5 ticks",
            "error: console: cannot pause guest b: it is stopped",
        ];
        assert_eq!(Overheard::default().feed(&stream), expected);
        let mut overheard = Overheard::default();
        let pieces = stream.chunks(1).flat_map(|piece| overheard.feed(piece));
        assert!(pieces.eq(expected));
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut overheard = Overheard::default();
        for number in 0..100 {
            overheard.feed(&encode(Kind::Part, 1, number, &[b'x'; 192]));
        }
        assert!(overheard.line.len() <= LONGEST);
    }
}
