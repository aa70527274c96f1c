//! Checks a chain on a host.

use super::{Digest, END, MARK};
use alloc::string::{String, ToString};
use core::fmt;

/// A chain without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records it has.
    pub records: u64,
    /// The digest of the last, which stands for all of them.
    pub digest: String,
    /// Whether the last record is the machine's end. If not, records may have been cut off behind it.
    pub ended: bool,
}

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// There is no record.
    Empty,
    /// A line has the mark, but is no record.
    NoRecord {
        /// Its number in the file, from 1 on.
        line: usize,
    },
    /// Another record was expected.
    Order {
        /// The line's number in the file, from 1 on.
        line: usize,
        /// The record that should be here.
        wanted: u64,
        /// The record that is here.
        found: u64,
    },
    /// The digest is not the one of this text.
    Altered {
        /// The line's number in the file, from 1 on.
        line: usize,
        /// The record.
        record: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                write!(
                    f,
                    "no line \"{MARK}…\" is in it; a machine's log has one for each record, once 32 have come \
                     together, or `audit` has asked for them, or the machine has ended by itself"
                )
            }
            Self::NoRecord { line } => {
                write!(f, "line {line} begins like a record and is none: it was altered")
            }
            Self::Order { line, wanted, found } if found > wanted => {
                let last = found - 1;
                write!(
                    f,
                    "cut at line {line}: record {found} is there, and {wanted} to {last} are missing before it"
                )
            }
            Self::Order { line, wanted, found } => {
                write!(
                    f,
                    "line {line}: record {found} is there where record {wanted} should be: it was put in or moved"
                )
            }
            Self::Altered { line, record } => {
                write!(f, "line {line}: record {record} was altered, or its digest")
            }
        }
    }
}

/// Checks the records in a log, among other lines.
///
/// # Errors
/// The first place where the chain is broken.
pub fn verify(log: &str) -> Result<Verified, Broken> {
    let (mut wanted, mut digest, mut ended) = (0, Digest::ZERO, false);
    for (line, text) in (1..).zip(log.lines()) {
        let Some(record) = record_in(text) else { continue };
        let (text, found_digest) =
            record.trim_end().rsplit_once(' ').ok_or(Broken::NoRecord { line })?;
        let found = text.split(' ').next().and_then(|number| number.parse().ok());
        let found: u64 = found.ok_or(Broken::NoRecord { line })?;
        if found != wanted {
            return Err(Broken::Order { line, wanted, found });
        }
        digest = digest.then(text);
        if digest.to_string() != found_digest {
            return Err(Broken::Altered { line, record: found });
        }
        ended = text.contains(END);
        wanted += 1;
    }
    if wanted == 0 {
        return Err(Broken::Empty);
    }
    Ok(Verified { records: wanted, digest: digest.to_string(), ended })
}

/// A record, behind the mark: at the start of a line of the log, which has the time before it in brackets.
fn record_in(line: &str) -> Option<&str> {
    let line = match line.strip_prefix('[') {
        Some(rest) => rest.split_once("] ").filter(|(time, _)| is_time(time))?.1,
        None => line,
    };
    line.strip_prefix(MARK)
}

fn is_time(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chain;
    use alloc::format;
    use alloc::vec::Vec;

    fn lines(count: u64) -> Vec<String> {
        let mut chain = Chain::default();
        let mut lines: Vec<_> = (1..count)
            .map(|number| chain.add("T", "console", format_args!("command {number}: done")))
            .collect();
        lines.push(chain.add("T", "hypervisor", "end"));
        lines
    }

    fn log(lines: &[String]) -> String {
        let line = |line: &String| format!("[   1.000000] {line}\r\nguest: something else\r\n");
        lines.iter().map(line).collect()
    }

    #[test]
    fn a_whole_chain_is_found_among_other_lines() {
        let lines = lines(5);
        let verified = verify(&log(&lines)).unwrap();
        assert_eq!((verified.records, verified.ended), (5, true));
        assert!(lines[4].ends_with(&verified.digest));
        assert!(!verify(&log(&lines[..4])).unwrap().ended, "what was cut off at the end");
        assert_eq!(verify(&lines.join("\n")).unwrap(), verified, "without the log's times");
    }

    #[test]
    fn what_is_cut_out_put_in_or_changed_is_found() {
        let lines = lines(6);
        let without = [&lines[..2], &lines[4..]].concat();
        assert_eq!(verify(&log(&without)), Err(Broken::Order { line: 5, wanted: 2, found: 4 }));
        assert_eq!(verify(&log(&lines[1..])), Err(Broken::Order { line: 1, wanted: 0, found: 1 }));
        let twice = [&lines[..3], &lines[2..]].concat();
        assert_eq!(verify(&log(&twice)), Err(Broken::Order { line: 7, wanted: 3, found: 2 }));
        for record in 0..lines.len() {
            for (from, to) in
                [("T", "U"), (": ", "; "), (&lines[record][lines[record].len() - 1..], "g")]
            {
                let mut altered = lines.clone();
                let line = &altered[record]["audit: ".len()..];
                altered[record] =
                    format!("audit: {}", line.replacen(from, to, line.matches(from).count()));
                let found = verify(&log(&altered));
                assert!(
                    matches!(found, Err(Broken::Altered { line, .. } | Broken::NoRecord { line }) if line == 2 * record + 1),
                    "{record} {from}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chain_is_said_so() {
        assert_eq!(verify("a log"), Err(Broken::Empty));
        assert_eq!(verify("audit: x"), Err(Broken::NoRecord { line: 1 }));
        assert_eq!(verify("audit: one two three"), Err(Broken::NoRecord { line: 1 }));
        // What a guest writes is no record, as it does not begin a line of the log.
        assert_eq!(verify("[guest] audit: 0 T x: y 00"), Err(Broken::Empty));
    }
}
