//! How far a fuzzer is, out of what libFuzzer says.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{process, progress};

/// Lines that are shown of a failure: the panic, and around it.
const SHOWN: usize = 30;
/// What libFuzzer says before the path of an input that fails.
const WRITTEN: &str = "Test unit written to ";

/// How the fuzzing of a target has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The time has passed.
    Passed {
        /// Inputs that were tried.
        executions: u64,
        /// Seconds that it took.
        seconds: u64,
        /// Branches that were seen taken.
        branches: u64,
    },
    /// An input has made it panic, hang, or use too much memory.
    Failed {
        /// Inputs that were tried before.
        executions: u64,
        /// The input, if libFuzzer has written it.
        input: Option<PathBuf>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { executions, seconds, branches } => {
                write!(f, "{executions} executions in {seconds} s, {branches} branches")
            }
            Self::Failed { executions, .. } => write!(f, "FAILED after {executions} executions"),
        }
    }
}

/// What a line of libFuzzer's says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    executions: Option<u64>,
    branches: Option<u64>,
    input: Option<PathBuf>,
}

/// Reads lines such as `#4194304 pulse  cov: 812 ft: 3004 corp: …`.
fn heard(line: &str) -> Heard {
    if let Some(path) = line.split_once(WRITTEN).map(|(_, path)| path) {
        return Heard { input: Some(path.into()), ..Heard::default() };
    }
    let Some(rest) = line.strip_prefix('#') else { return Heard::default() };
    let mut words = rest.split_whitespace();
    let executions = words.next().and_then(|word| word.parse().ok());
    let branches = words.skip_while(|word| *word != "cov:").nth(1);
    Heard { executions, branches: branches.and_then(|word| word.parse().ok()), input: None }
}

/// Runs a fuzzer, shows how far it is, and what it says of a failure.
pub fn watch(target: &str, seconds: u32, fuzzer: &mut Command) -> Result<Outcome> {
    let bar = progress::count(&format!("Fuzzing {target} for {seconds} s"));
    let start = Instant::now();
    fuzzer.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = fuzzer.spawn().with_context(|| process::line(fuzzer))?;
    let (mut executions, mut branches, mut input) = (0, 0, None);
    let mut last = VecDeque::new();
    if let Some(messages) = child.stderr.take() {
        for line in BufReader::new(messages).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            let heard = heard(&line);
            executions = heard.executions.unwrap_or(executions);
            branches = heard.branches.unwrap_or(branches);
            input = heard.input.or(input);
            bar.set_position(executions);
            if heard.executions.is_none() && !line.trim().is_empty() {
                last.push_back(line);
                last.drain(..last.len().saturating_sub(SHOWN));
            }
        }
    }
    let status = child.wait()?;
    bar.finish_and_clear();
    if status.success() {
        return Ok(Outcome::Passed { executions, seconds: start.elapsed().as_secs(), branches });
    }
    last.iter().for_each(|line| eprintln!("{line}"));
    Ok(Outcome::Failed { executions, input })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_lines_are_read() {
        let line =
            "#4194304\tpulse  cov: 812 ft: 3004 corp: 311/11Kb lim: 4096 exec/s: 99864 rss: 46Mb";
        let expected = Heard { executions: Some(4_194_304), branches: Some(812), input: None };
        assert_eq!(heard(line), expected);
        let line = "artifact_prefix='a/'; Test unit written to a/crash-0123";
        assert_eq!(heard(line).input, Some("a/crash-0123".into()));
        assert_eq!(heard("INFO: Seed: 1"), Heard::default());
    }

    #[test]
    fn a_fuzzer_that_fails_names_its_input() {
        let script = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let passed = "echo '#10 DONE cov: 3 ft: 1' >&2";
        let outcome = watch("x", 1, &mut script(passed)).unwrap();
        assert!(matches!(outcome, Outcome::Passed { executions: 10, branches: 3, .. }));
        let failed = "echo '#9 NEW cov: 3' >&2; echo 'Test unit written to a/b' >&2; exit 77";
        let outcome = watch("x", 1, &mut script(failed)).unwrap();
        assert_eq!(outcome, Outcome::Failed { executions: 9, input: Some("a/b".into()) });
    }
}
