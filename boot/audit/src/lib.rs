//! The audit trail: records of what was done to a machine, each with a digest over itself and all before it.
//!
//! The hypervisor writes each record as a line of its log, once and in order:
//!
//! ```text
//! audit: 7 2026-11-26T16:04:05Z console: pause web: guest web is paused, after 3,120 ticks 5d41…
//! ```
//!
//! The word behind the last space is the record's digest: the SHA-256 of the 32 bytes of the digest before it and of
//! the text between `audit: ` and that space. Before the first record, number 0, the digest is 32 zeros. Whoever
//! changes a record, leaves one out or puts one in has to change all digests behind it; so who knows the last digest
//! knows that all is as it was. [`verify()`] looks for the place.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod verify;

pub use verify::{Broken, Verified, verify};

use alloc::string::String;
use core::fmt::{self, Write};
use sha2::{Digest as _, Sha256};

/// What a record's line begins with, behind what the log puts before it.
pub const MARK: &str = "audit: ";
/// Most bytes of a record's text; more is cut off.
pub const MOST: usize = 320;
/// Bytes of the longest line: mark, text, a space and a digest in hexadecimal.
pub const LONGEST: usize = MARK.len() + MOST + 1 + 2 * 32;
/// What the last record of a machine that ended as it should says.
pub const END: &str = "hypervisor: end";

/// A digest in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Before the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of the record with this text that follows.
    pub fn then(self, text: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(text).finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The end of the chain, to which records are added.
#[derive(Clone, Debug)]
pub struct Chain {
    next: u64,
    digest: Digest,
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 0, digest: Digest::ZERO }
    }
}

impl Chain {
    /// Adds a record, and gives its line. Line ends, and whatever else would drive a terminal, are escaped.
    pub fn add(&mut self, time: impl fmt::Display, who: &str, what: impl fmt::Display) -> String {
        let mut line = String::with_capacity(LONGEST);
        // Writing to a string does not fail; to a limited one it does where the rest is to be cut off.
        let _ = write!(line, "{MARK}{} {time} {who}: ", self.next);
        let _ = write!(Limited(&mut line), "{what}");
        self.digest = self.digest.then(&line[MARK.len()..]);
        self.next += 1;
        let digest = self.digest;
        let _ = write!(line, " {digest}");
        line
    }

    /// How many records there are, and the digest of the last.
    pub fn end(&self) -> (u64, Digest) {
        (self.next, self.digest)
    }
}

/// A line that is being written: what drives a terminal is escaped, and what is beyond its length refused.
struct Limited<'a>(&'a mut String);

impl Write for Limited<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut put = |character: char| {
            let fits = self.0.len() + character.len_utf8() <= MARK.len() + MOST;
            fits.then(|| self.0.push(character)).ok_or(fmt::Error)
        };
        text.chars().try_for_each(|character| {
            if character.is_control() {
                character.escape_default().try_for_each(&mut put)
            } else {
                put(character)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_records_digest_is_what_the_documentation_says() {
        let mut chain = Chain::default();
        let first = chain.add("T0", "console", "list: done");
        // printf '%64s' | … : sha256 of 32 zero bytes and "0 T0 console: list: done".
        let (text, digest) = first.rsplit_once(' ').unwrap();
        assert_eq!(text, "audit: 0 T0 console: list: done");
        let expected = Sha256::digest([&[0; 32][..], b"0 T0 console: list: done"].concat());
        assert_eq!(digest, Digest(expected.into()).to_string());
        let second = chain.add("T1", "guest a", "is running");
        let expected = Sha256::digest([&expected[..], b"1 T1 guest a: is running"].concat());
        assert!(second.ends_with(&Digest(expected.into()).to_string()));
        assert_eq!(chain.end(), (2, Digest(expected.into())));
    }

    #[test]
    fn the_algorithm_is_sha_256() {
        // FIPS 180-4's example for "abc".
        let abc: [u8; 32] = Sha256::digest("abc").into();
        let shown = Digest(abc).to_string();
        assert_eq!(shown, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_record_is_one_line_of_limited_length() {
        let line = Chain::default().add("T", "console", "a\r\n\u{1b}[2J\u{1d}x");
        assert!(line.contains("a\\r\\n\\u{1b}[2J\\u{1d}x "), "{line}");
        let long = "é".repeat(MOST);
        let line = Chain::default().add("T", "console", long);
        assert!(
            (LONGEST - 1..=LONGEST).contains(&line.len()) && line.lines().count() == 1,
            "{line}"
        );
        assert!(line.capacity() <= LONGEST, "it allocates once");
    }
}
