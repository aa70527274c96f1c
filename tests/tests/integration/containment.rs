//! What a guest does to its cores, its interrupts and its registers stays with that guest.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Guest, said_of};
use libtest_mimic::Trial;

use crate::{of, trial};

/// Runs of the guest `remains` that are looked at, the first of which has nothing to find.
const RUNS: usize = 4;

/// How a line of the guest `remains` begins that tells what it found.
const FOUND: &str = "remains: processor ";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("containment::nothing_remains_after_a_reset", |_| clean(of(&REMAINS)?, "reset")),
        trial("containment::nothing_remains_after_a_triple_fault", |_| {
            clean(of(&REMAINS)?, "triple")
        }),
        trial("containment::what_would_remain_is_seen", seen),
        trial("containment::nothing_remains_on_two_cores", |_| clean(of(&REMAINS)?, "two")),
    ]
}

/// What was said where guests looked for what their earlier runs had left.
static REMAINS: LazyLock<Result<String, String>> =
    LazyLock::new(|| remains().map_err(|error| format!("{error:#}")));

fn remains() -> Result<String> {
    let guests = [
        Guest::new("remains").named("reset").restarting(),
        Guest::new("remains").named("triple").with("end=triple").restarting(),
        Guest::new("remains").named("two").on_cores(2).restarting(),
    ];
    let mut console = Boot::of_guests("containment::remains", &guests)?.start()?;
    // Those that would go on for ever are stopped.
    console.wait_for_end()?;
    Ok(console.transcript())
}

/// A guest was started often enough, and never found anything.
fn clean(transcript: &str, guest: &str) -> Result<()> {
    let starts = said_of(transcript, guest).filter(|line| line.starts_with("starting")).count();
    ensure!(starts >= RUNS, "{guest}: {starts} starts");
    let found: Vec<_> = transcript.lines().filter(|line| line.starts_with(FOUND)).collect();
    ensure!(found.is_empty(), "{}", found.join("\n"));
    let clean = transcript.lines().filter(|line| line.ends_with("clean")).count();
    let all = transcript.matches(": starting on core").count();
    (clean == all).then_some(()).with_context(|| format!("{all} starts, {clean} clean runs"))
}

/// The guest that looks for remains sees what it leaves itself, of every kind.
fn seen(name: &str) -> Result<()> {
    /// In memory, registers, vector state, APIC and devices.
    const KINDS: [&str; 8] = [
        "MSR 0x174",
        "DR0",
        "XCR0",
        "byte 576 of the XSAVE area",
        "any bit of ISR",
        "memory at 0x100000",
        "the scratch register",
        "the count of interrupts that came by themselves",
    ];
    let guest = Guest::new("remains").with("end=look");
    let mut console = Boot::of_guests(name, &[guest])?.start()?;
    let before = console.wait_for("clean\r\n")?;
    ensure!(!before.contains(FOUND), "{before}");
    let after = console.wait_for(" remains\r\n")?;
    for kind in KINDS {
        ensure!(after.contains(&format!(": {kind} is ")), "{kind} is not in:\n{after}");
    }
    console.expect_power_off(1)
}
