//! What the hypervisor says of a guest that has stopped.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use xtask::console::text;

/// What a guest has cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Ticks from its start to its end.
    pub ran: u64,
    /// Ticks that the hypervisor took of them.
    pub in_exits: u64,
    /// All exits.
    pub exits: u64,
    /// Exits by reason.
    pub by_reason: BTreeMap<String, u64>,
}

impl Summary {
    /// Exits for one reason.
    pub fn of(&self, reason: &str) -> u64 {
        self.by_reason.get(reason).copied().unwrap_or(0)
    }
}

/// The lines of a transcript in which the hypervisor speaks of a guest, without time and name.
pub fn said_of<'a>(transcript: &'a str, guest: &str) -> impl Iterator<Item = &'a str> {
    let of_guest = format!("guest {guest}: ");
    transcript.lines().filter_map(move |line| {
        let text = text(line)?;
        text.strip_prefix("error: ").unwrap_or(text).strip_prefix(&of_guest)
    })
}

/// The last summary of a guest in a transcript.
pub fn summary(transcript: &str, guest: &str) -> Result<Summary> {
    let mut found = None;
    for line in said_of(transcript, guest) {
        if let Some(totals) = line.strip_prefix("ran ") {
            found = Some(totals_in(totals).with_context(|| format!("not a summary: {line}"))?);
        } else if let (Some(summary), Some((reason, exits))) = (&mut found, row(line)) {
            summary.by_reason.insert(reason, exits);
        }
    }
    found.with_context(|| format!("no summary of guest {guest} in:\n{transcript}"))
}

/// Of `ran R ticks, of which T in N exits`, what follows `ran `.
fn totals_in(line: &str) -> Option<Summary> {
    let (ran, rest) = line.split_once(" ticks, of which ")?;
    let (in_exits, exits) = rest.strip_suffix(" exits")?.split_once(" in ")?;
    Some(Summary {
        ran: number(ran)?,
        in_exits: number(in_exits)?,
        exits: number(exits)?,
        by_reason: BTreeMap::new(),
    })
}

/// A reason and its exits, of `  N REASON  T ticks,  T each`.
fn row(line: &str) -> Option<(String, u64)> {
    let (count, rest) = line.strip_prefix("  ")?.trim_start().split_once(' ')?;
    let (reason, _) = rest.split_once("  ")?;
    Some((reason.trim().to_string(), number(count)?))
}

/// A number with a comma between each three digits.
fn number(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSCRIPT: &str = "\
        hello\r\n\
        [   1.000000] guest one: starting on core 1\r\n\
        [   1.500000] guest other: ran 1 ticks, of which 1 in 1 exits\r\n\
        guest one: ran 7 ticks, of which 7 in 7 exits\r\n\
        [   2.000000] error: guest one: stopped: triple fault\r\n\
        [   2.000000] guest one: ran 1,234,567 ticks, of which 1,000 in 12 exits\r\n\
        [   2.000001] guest one:              10 CPUID                               900 ticks,      90 each\r\n\
        [   2.000002] guest one:               2 I/O instruction                     100 ticks,      50 each\r\n\
        [   2.000003] guest one: absent devices: 0 port accesses, 0 memory accesses\r\n";

    #[test]
    fn a_summary_is_read() {
        let summary = summary(TRANSCRIPT, "one").unwrap();
        let by_reason = [("CPUID".to_string(), 10), ("I/O instruction".to_string(), 2)].into();
        assert_eq!(summary, Summary { ran: 1_234_567, in_exits: 1000, exits: 12, by_reason });
        assert_eq!((summary.of("CPUID"), summary.of("HLT")), (10, 0));
    }

    #[test]
    fn what_a_guest_says_is_not_said_of_it() {
        let lines: Vec<_> = said_of(TRANSCRIPT, "one").collect();
        assert_eq!(lines[..2], ["starting on core 1", "stopped: triple fault"]);
        assert!(summary(TRANSCRIPT, "two").is_err());
    }
}
