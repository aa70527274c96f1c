//! Guests with several processors.

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Guest, Summary, summary};
use libtest_mimic::Trial;

use crate::trial;

/// Tests in the guest `smp`.
const TESTS: usize = 44;

/// Round trips of the guest `pingpong` in two runs that differ in nothing else.
const FEW: u64 = 100;
const MANY: u64 = 1100;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("smp::two_processors_get_what_they_are_promised", |name| suite(name, 2)),
        trial("smp::four_processors_get_what_they_are_promised", |name| suite(name, 4)),
        trial("smp::an_ipi_exits_at_its_sender_alone", |name| one_exit(name, "wait=spin")),
        trial("smp::an_ipi_wakes_a_processor_without_an_exit", |name| one_exit(name, "wait=halt")),
    ]
}

/// All tests of the guest `smp` pass, but those that need more processors.
fn suite(name: &str, cores: u32) -> Result<()> {
    let guest = Guest::new("smp").with(&format!("cores={cores}")).on_cores(cores);
    let mut console = Boot::of_guests(name, &[guest])?.start()?;
    console.expect_power_off(1)?;
    let transcript = console.guest("smp")?.transcript();
    let tests: Vec<_> = transcript.lines().filter(|line| line.starts_with("test ")).collect();
    let failed: Vec<_> = tests.iter().filter(|line| line.contains(" ... FAILED")).collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    let passed = tests.iter().filter(|line| line.ends_with(" ... ok")).count();
    let skipped: Vec<_> = tests.iter().filter(|line| line.contains(" ... skipped")).collect();
    ensure!(skipped.len() <= usize::from(cores == 2), "{skipped:#?}");
    ensure!(passed + skipped.len() == TESTS, "{passed} passed: {tests:#?}");
    transcript.contains(" passed, 0 failed").then_some(()).context("its last line is not there")
}

/// An IPI between two processors costs its sender one exit, and its receiver none.
fn one_exit(name: &str, wait: &str) -> Result<()> {
    let run = |name: &str, rounds: u64| {
        Guest::new("pingpong")
            .named(name)
            // Of one length for both, as its output exits.
            .with(&format!("{wait} rounds={rounds:04}"))
            .on_cores(2)
    };
    let guests = [run("few", FEW), run("many", MANY)];
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    console.expect_power_off(2)?;
    let transcript = console.transcript();
    let ended = transcript.matches(" ticks, ended: true").count();
    ensure!(ended == 2, "{ended} of 2 ended:\n{transcript}");
    let (few, many) = (summary(&transcript, "few")?, summary(&transcript, "many")?);
    let sent = 2 * (MANY - FEW);
    let of = |summary: &Summary| summary.of("WRMSR");
    ensure!(of(&many) - of(&few) == sent, "{sent} IPIs more:\n{few:?}\n{many:?}");
    // Nothing else exits more often, but what printing costs.
    let others = |summary: &Summary| summary.exits - of(summary) - summary.of("I/O instruction");
    ensure!(others(&many) == others(&few), "{few:?}\n{many:?}");
    Ok(())
}
