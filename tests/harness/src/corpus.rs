//! Inputs as text: what a repository shows and compares, where files of bytes would not do.
//!
//! A case is a comment and lines with its bytes; a blank line ends it.
//!
//! ```text
//! # loaded, entered at 0x100200
//! 00 00 00 1f 8b 00*510
//! | [[guest]]
//! > a line without an end
//! ```
//!
//! A line is hexadecimal bytes, where `00*510` is 510 of the same; or, behind `| `, text and a line feed; or, behind `> `, text
//! alone.

use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// An input that is kept, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is, in a line.
    pub comment: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Most of the same byte that are written one by one.
const RUN: usize = 8;
/// Bytes in a line of hexadecimal ones.
const LINE: usize = 32;

/// Where the cases of a target are.
pub fn path(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    root.join("fuzz/corpus").join(format!("{target}.txt"))
}

/// The cases of a target; none where there is no file.
pub fn read(target: &str) -> Result<Vec<Case>> {
    let path = path(target);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).with_context(|| format!("in {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Writes the cases of a target.
pub fn write(target: &str, cases: &[Case]) -> Result<()> {
    let path = path(target);
    std::fs::write(&path, format(cases)).with_context(|| format!("writing {}", path.display()))
}

/// Reads cases.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut case: Option<Case> = None;
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() {
            cases.extend(case.take());
            continue;
        }
        if let Some(comment) = line.strip_prefix("# ") {
            cases.extend(case.replace(Case { comment: comment.into(), bytes: Vec::new() }));
            continue;
        }
        let Some(case) = &mut case else { bail!("line {number}: a case begins with a comment") };
        if let Some(text) = line.strip_prefix("| ") {
            case.bytes.extend_from_slice(text.as_bytes());
            case.bytes.push(b'\n');
        } else if line == "|" {
            case.bytes.push(b'\n');
        } else if let Some(text) = line.strip_prefix("> ") {
            case.bytes.extend_from_slice(text.as_bytes());
        } else {
            for word in line.split(' ') {
                let (byte, count) = word.split_once('*').unwrap_or((word, "1"));
                let byte = u8::from_str_radix(byte, 16);
                let byte = byte.with_context(|| format!("line {number}: `{word}` is no byte"))?;
                let count = count.parse();
                let count: usize = count.with_context(|| format!("line {number}: `{word}`"))?;
                case.bytes.resize(case.bytes.len() + count, byte);
            }
        }
    }
    cases.extend(case);
    Ok(cases)
}

/// Writes cases, each as text where it is.
pub fn format(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str("# ");
        text.extend(case.comment.chars().map(|c| if c.is_control() { '?' } else { c }));
        text.push('\n');
        for line in case.bytes.split_inclusive(|&byte| byte == b'\n') {
            match as_text(line) {
                Some(line) => text.push_str(&line),
                None => hexadecimal(&mut text, line),
            }
        }
    }
    text
}

/// A line as text, if nothing is lost by that: blanks at its end would be.
fn as_text(line: &[u8]) -> Option<String> {
    let printable = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
    let (content, mark) = match line.strip_suffix(b"\n") {
        Some(content) => (content, '|'),
        None => (line, '>'),
    };
    if !content.iter().all(printable) || content.last() == Some(&b' ') {
        return None;
    }
    let content = str::from_utf8(content).ok()?;
    match (content.len(), mark) {
        (0, '|') => Some("|\n".into()),
        // Short ones are no text by intent.
        (..4, _) => None,
        _ => Some(format!("{mark} {content}\n")),
    }
}

fn hexadecimal(text: &mut String, bytes: &[u8]) {
    let mut written = 0;
    for run in bytes.chunk_by(|a, b| a == b) {
        let words = if run.len() > RUN { 1 } else { run.len() };
        for _ in 0..words {
            text.push_str(if written == 0 {
                ""
            } else if written % LINE == 0 {
                "\n"
            } else {
                " "
            });
            written += 1;
            // Writing to a string does not fail.
            let _ = write!(text, "{:02x}", run[0]);
        }
        if run.len() > RUN {
            let _ = write!(text, "*{}", run.len());
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let of = |bytes: &[u8]| Case { comment: "a case".into(), bytes: bytes.to_vec() };
        let cases = [
            of(b""),
            of(b"\0"),
            of(&[0; 4096]),
            of(&[1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3]),
            of(b"[[guest]]\nname = \"a\"\n\n# comment\n"),
            of(b"no end"),
            of(b"blank \n| x\n> y\n\xff\n"),
            of(&(0..=255).collect::<Vec<u8>>()),
        ];
        assert_eq!(parse(&format(&cases)).unwrap(), cases);
    }

    #[test]
    fn text_stays_text_and_runs_are_short() {
        let case = |bytes: &[u8]| Case { comment: "it".into(), bytes: bytes.to_vec() };
        let cases = [case(b"name = 1\n"), case(&[[7; 2].as_slice(), &[0; 99]].concat())];
        assert_eq!(format(&cases), "# it\n| name = 1\n\n# it\n07 07 00*99\n");
    }

    #[test]
    fn what_is_no_case_is_said_with_its_line() {
        for (text, line) in [("00\n", 1), ("# a\n0g\n", 2), ("# a\n00*x\n", 2)] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {line}: ")), "{error}");
        }
    }
}
