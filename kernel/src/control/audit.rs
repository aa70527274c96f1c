//! The audit trail of this boot: what was ordered, by whom, what came of it, and what guests went through.
//!
//! Records wait in a small store and are said in the log when it is full, when the operator asks for them, and at the
//! end of the machine: none is dropped. The log is the only place where they are kept, so what a machine that loses its
//! power had not said yet is lost, and the chain in the log just ends.

use crate::device::date_time::DateTime;
use crate::guest::clock::Clock;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_audit::Chain;
use core::fmt;
use log::info;
use spin::Mutex;

/// Most records that have not been said.
const MOST_WAITING: usize = 32;
/// The hypervisor itself.
pub const HYPERVISOR: &str = "hypervisor";

/// What its last record says.
const LAST: &str = "end";

struct Trail {
    clock: Clock,
    chain: Chain,
    /// Lines that have not been said, oldest first.
    waiting: Vec<String>,
    /// A command whose result is not known yet, and who gave it.
    command: Option<(String, String)>,
}

/// Used by the service core alone.
static TRAIL: Mutex<Option<Trail>> = Mutex::new(None);

impl Trail {
    fn add(&mut self, who: &str, what: impl fmt::Display) {
        if self.waiting.len() == MOST_WAITING {
            self.say();
        }
        let time = Iso(DateTime::from_unix(self.clock.now().unix_seconds));
        let line = self.chain.add(time, who, what);
        self.waiting.push(line);
    }

    fn say(&mut self) {
        for line in self.waiting.drain(..) {
            info!("{line}");
        }
    }

    fn complete(&mut self, result: fmt::Arguments<'_>) {
        if let Some((who, command)) = self.command.take() {
            self.add(&who, format_args!("{command}: {result}"));
        }
    }
}

/// Begins the trail.
pub fn start(clock: Clock) {
    let waiting = Vec::with_capacity(MOST_WAITING);
    *TRAIL.lock() = Some(Trail { clock, chain: Chain::default(), waiting, command: None });
    record(HYPERVISOR, concat!("Bulkhead ", env!("CARGO_PKG_VERSION"), " has booted"));
}

/// Adds a record. Without a trail there is none: nobody could order anything yet.
pub fn record(who: &str, what: impl fmt::Display) {
    if let Some(trail) = TRAIL.lock().as_mut() {
        trail.add(who, what);
    }
}

/// Notes that a command has been given, and by whom; the next [`result`] completes the record.
pub fn command(who: String, line: String) {
    if let Some(trail) = TRAIL.lock().as_mut() {
        trail.complete(format_args!("no answer"));
        trail.command = Some((who, line));
    }
}

/// What came of the command: the first line of its answer.
pub fn result(refused: bool, answer: fmt::Arguments<'_>) {
    if let Some(trail) = TRAIL.lock().as_mut().filter(|trail| trail.command.is_some()) {
        let refused = if refused { "refused: " } else { "" };
        trail.complete(format_args!("{refused}{answer}"));
    }
}

/// Says all that has not been said. Gives the number of records and the last one's digest.
pub fn say() -> (u64, impl fmt::Display) {
    let mut trail = TRAIL.lock();
    match trail.as_mut() {
        Some(trail) => {
            trail.say();
            trail.chain.end()
        }
        None => Chain::default().end(),
    }
}

/// Adds the last record, and says all that has not been said.
pub fn end() {
    record(HYPERVISOR, LAST);
    let _ = say();
}

/// As ISO 8601 writes it.
struct Iso(DateTime);

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DateTime { year, month, day, hour, minute, second } = self.0;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_last_record_is_known_as_such() {
        assert_eq!(bulkhead_audit::END, std::format!("{HYPERVISOR}: {LAST}"));
        assert_eq!(Iso(DateTime::from_unix(1_790_000_000)).to_string(), "2026-09-21T14:13:20Z");
    }
}
