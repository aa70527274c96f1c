//! Guests that do whatever comes to their mind, out of a seed: the hypervisor goes on, a neighbour notices nothing, and
//! the guest itself comes to its end.
//!
//! `cargo xtask fuzz` runs this with numbers of its own.

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, End, Guest};
use libtest_mimic::Trial;
use xtask::testing::{FUZZ_OPERATIONS, FUZZ_SEED};

use crate::trial;

/// Guests at a time, of seeds that follow each other.
const GUESTS: u64 = 3;
/// Operations of each, and the first seed, unless the environment says otherwise.
const OPERATIONS: u64 = 20_000;
const SEED: u64 = 1;
/// Operations between two lines of a guest's.
const STEP: usize = 10_000;
/// Of the heart, in ticks, and what it may be late.
const PERIOD: u64 = 1_000_000;
const LATE: u64 = 100;
/// Far more ticks than an operation takes, string instructions among them.
const TICKS: u64 = 60_000;
/// What else a boot takes.
const BOOT: u64 = 1_000_000_000;

pub fn trials() -> Vec<Trial> {
    vec![trial("random::nothing_that_guests_do_hurts_anybody", |name| {
        let operations = number(FUZZ_OPERATIONS, OPERATIONS * GUESTS)?.div_ceil(GUESTS);
        let seed = number(FUZZ_SEED, SEED)?;
        run(name, operations, seed)
    })]
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

fn run(name: &str, operations: u64, seed: u64) -> Result<()> {
    let of = |index: u64| format!("random-{index}");
    let randoms = (0..GUESTS).map(|index| {
        let options = format!("seed={} ops={operations}", seed.wrapping_add(index));
        Guest::new("random").named(&of(index)).with(&options)
    });
    let heart = format!("period={PERIOD} beats=1000000000 until=1");
    let heart = Guest::new("heartbeat").named("heart").with(&heart);
    let guests: Vec<_> = std::iter::once(heart).chain(randoms).collect();
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    console.limit_ticks(operations.saturating_mul(TICKS).saturating_add(BOOT));
    for index in 0..GUESTS {
        let seed = seed.wrapping_add(index);
        let mut guest = console.guest(&of(index))?;
        // Step by step: a wait has its limit.
        for step in (0..operations).step_by(STEP) {
            guest.wait_for(&format!("random: seed {seed}: {step} of "))?;
        }
        guest.wait_for(&format!("random: seed {seed}: "))?;
        let bytes = guest.wait_for(" instructions of random bytes")?;
        let bytes = bytes.trim_end_matches(" instructions of random bytes").rsplit(' ').next();
        let bytes: u64 = bytes.unwrap_or_default().parse()?;
        ensure!(bytes >= operations / 20, "{bytes} instructions of random bytes");
        guest
            .wait_for(&format!("random: seed {seed}: {operations} operations, "))
            .with_context(|| format!("seed {seed}; again by: cargo xtask fuzz --seed {seed}"))?;
        // Most of what it does is allowed, and a good part is not.
        let faults = guest.wait_for(" faults, next ")?;
        let faults: u64 = faults.trim_end_matches(" faults, next ").parse()?;
        ensure!(
            (operations / 20..operations).contains(&faults),
            "{faults} of {operations} faulted"
        );
    }
    let mut heart = console.guest("heart")?;
    heart.send("x")?;
    heart.wait_for(", largest ")?;
    let largest = heart.wait_for(", mean ")?;
    let largest: u64 = largest.trim_end_matches(", mean ").parse()?;
    ensure!(largest <= PERIOD + LATE, "an interval of {largest} ticks");
    heart.wait_for("; missed beats: 0\r\n")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: GUESTS as u32 + 1, faulted: 0 }, "{end:?}");
    let log = console.transcript();
    for name in (0..GUESTS).map(of) {
        ensure!(log.contains(&format!("guest {name}: powered off")), "guest {name} did not");
    }
    Ok(())
}
