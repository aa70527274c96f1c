//! What is answered to people who ask about guests.

use super::answers::{answer, refuse};
use super::consoles::{list as names, list_with};
use super::guest::Guest;
use super::plan::File;
use crate::guest::examine::{self, Answer, Question};
use crate::guest::statistics::Grouped;
use alloc::format;
use alloc::string::String;
use bulkhead_manifest::{Size, Tenure};
use core::fmt;

/// Widths of the columns of `list` that depend on the guests.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    name: usize,
    cores: usize,
}

impl Columns {
    /// Those in which these guests fit.
    pub fn of(guests: &[Guest]) -> Self {
        let widest = |head: &str, of: fn(&Guest) -> usize| {
            guests.iter().map(of).max().unwrap_or(0).max(head.len())
        };
        Self {
            name: widest("NAME", |guest| guest.name().len()),
            cores: widest("CORES", |guest| core_numbers(guest).len()),
        }
    }
}

fn core_numbers(guest: &Guest) -> String {
    if guest.cores().is_empty() {
        return "-".into();
    }
    names(guest.cores().iter().map(|core| core.index))
}

/// Begins the answer to `list`.
pub fn list_head(Columns { name, cores }: Columns) {
    answer(format_args!(
        "  {:name$} {:<11} {:cores$} {:>9} {:>10} {:>14} OWNER",
        "NAME", "STATE", "CORES", "MEMORY", "UPTIME", "EXITS"
    ));
}

/// Answers `list` for a guest: what is typed goes to the one with a star.
pub fn list(guest: &Guest, attached: bool, Columns { name, cores }: Columns) {
    answer(format_args!(
        "{} {:name$} {:<11} {:cores$} {:>9} {:>10} {:>14} {}{}",
        if attached { '*' } else { ' ' },
        guest.name(),
        guest.life(),
        core_numbers(guest),
        guest.memory().map_or_else(|| "-".into(), |memory| format!("{}", Size(memory))),
        guest.uptime().map_or_else(|| "-".into(), |seconds| format!("{seconds} s")),
        format!("{}", Grouped(guest.shared().exits().count())),
        guest.definition().tenure.owner,
        if guest.has_expired() { ", expired" } else { "" },
    ));
}

/// Answers `info`.
pub fn info(guest: &Guest) {
    answer(format_args!("guest {} is {}", guest.name(), guest.life()));
    let definition = guest.definition();
    let exits = guest.shared().exits();
    let Tenure { owner, purpose, classification, expires, on_expiry } = &definition.tenure;
    answer(format_args!("  owner {owner}, purpose {purpose}"));
    let expired = if guest.has_expired() { ", has expired" } else { "" };
    answer(format_args!(
        "  classification {classification}, expires {expires}, on_expiry {}{expired}",
        on_expiry.name()
    ));
    match guest.memory() {
        Some(memory) => {
            answer(format_args!("  cores {}", core_numbers(guest)));
            answer(format_args!("  memory {}", Size(memory)));
        }
        None => answer(format_args!("  no cores and no memory")),
    }
    answer(format_args!("  command line {}", definition.command_line.escape_debug()));
    let (start, restart) = (definition.start.name(), definition.restart.name());
    answer(format_args!("  start {start}, restart {restart}"));
    if let Some(seconds) = guest.uptime() {
        answer(format_args!("  up {seconds} s"));
    }
    let (count, ticks) = (Grouped(exits.count()), Grouped(exits.ticks()));
    answer(format_args!("  {count} exits in {ticks} ticks"));
    let denied = Grouped(guest.denied_accesses());
    answer(format_args!("  {denied} accesses denied, or without an answer"));
}

/// The answer to `examine` and `registers`.
pub fn found(name: &str, question: Question, found: &Answer) {
    match (question, found) {
        (_, Answer::Registers(report)) => {
            answer(format_args!("guest {name}, processor {}:", report.processor));
            report.lines(|line| answer(format_args!("  {line}")));
        }
        (Question::Memory(at), Answer::Memory(Ok(bytes))) => {
            answer(format_args!("guest {name}, guest-physical memory:"));
            for (at, bytes) in (at.as_u64()..).step_by(16).zip(bytes.chunks(16)) {
                let text: String = bytes.iter().map(|&byte| printable(byte)).collect();
                let bytes = list_with(" ", bytes.iter().map(|byte| format!("{byte:02x}")));
                answer(format_args!("  {at:016x}  {bytes}  {text}"));
            }
        }
        // Nobody asks for one here.
        (_, Answer::Piece(_)) => {}
        (_, Answer::Memory(_)) => refuse(format_args!(
            "guest {name} has no RAM there, or its end is nearer than {} bytes",
            examine::BYTES
        )),
    }
}

fn printable(byte: u8) -> char {
    if byte == b' ' || byte.is_ascii_graphic() { byte.into() } else { '.' }
}

/// Answers `inventory` for a guest: what it is made of, running or not.
pub fn inventory(guest: &Guest) {
    let definition = guest.definition();
    let Tenure { owner, purpose, classification, expires, .. } = &definition.tenure;
    let expired = if guest.has_expired() { ", has expired" } else { "" };
    answer(format_args!(
        "{}: {}, owner {owner}, {classification}, expires {expires}{expired}: {purpose}",
        guest.name(),
        guest.life()
    ));
    let file = |what, file: &File| {
        answer(format_args!("  {what:<12} {}  {}", Hex(&file.digest), file.name));
    };
    file("kernel", &definition.files.kernel);
    if let Some(initrd) = &definition.files.initrd {
        file("initrd", initrd);
    }
    let line = &definition.command_line;
    let digest = bulkhead_manifest::digest(line.as_bytes());
    answer(format_args!("  {:<12} {}  {}", "command line", Hex(&digest), line.escape_debug()));
}

/// A digest, as people compare it.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
