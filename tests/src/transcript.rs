//! What somebody has said, and how far it was searched.

/// Bytes, in the order they came.
#[derive(Debug, Default)]
pub struct Transcript {
    bytes: Vec<u8>,
    /// Up to here it has been searched.
    searched: usize,
}

impl Transcript {
    /// More was said.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// All that was said.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Looks for a text after what was found before. Gives all from there, up to the end of the text.
    pub fn find(&mut self, text: &str) -> Option<String> {
        let new = &self.bytes[self.searched..];
        let end = find(new, text.as_bytes())? + text.len();
        let found = String::from_utf8_lossy(&new[..end]).into_owned();
        self.searched += end;
        Some(found)
    }

    /// Lets all that was said so far be searched no more.
    pub fn skip(&mut self) {
        self.searched = self.bytes.len();
    }
}

/// The place of a text in bytes.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_among_bytes_that_are_none() {
        assert_eq!(find(b"\xff\x00login: ", b"login:"), Some(2));
        assert_eq!(find(b"log", b"login:"), None);
        assert_eq!(find(b"", b""), Some(0));
    }

    #[test]
    fn each_search_begins_where_the_last_ended() {
        let mut transcript = Transcript::default();
        transcript.push(b"one two one");
        assert_eq!(transcript.find("one").as_deref(), Some("one"));
        assert_eq!(transcript.find("one").as_deref(), Some(" two one"));
        assert_eq!(transcript.find("one"), None);
        transcript.push(b" one");
        transcript.skip();
        assert_eq!(transcript.find("one"), None);
    }
}
