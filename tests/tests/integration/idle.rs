//! A guest in its steady state does not exit.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Guest, Summary, summary};
use libtest_mimic::Trial;

use crate::{of, trial};

/// Ticks of the timer between two wake-ups of the guest `idle`, and how often the two wake up.
const PERIOD: u64 = 100_000;
const SHORT: u64 = 10;
const LONG: u64 = 1000;

/// Two of the guest `idle`, which differ in nothing but how long they are idle.
static IDLE: LazyLock<Result<[Summary; 2], String>> =
    LazyLock::new(|| idle().map_err(|error| format!("{error:#}")));

fn idle() -> Result<[Summary; 2]> {
    // What it prints costs exits, and their number depends on how quickly the port takes it.
    let idle = |ticks| format!("quiet=1 period={PERIOD} ticks={ticks}");
    let guests = [
        Guest::new("idle").named("short").with(&idle(SHORT)),
        Guest::new("idle").named("long").with(&idle(LONG)),
    ];
    let mut console = Boot::of_guests("idle::guests", &guests)?.start()?;
    console.expect_power_off(2)?;
    let transcript = console.transcript();
    Ok([summary(&transcript, "short")?, summary(&transcript, "long")?])
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("idle::a_guest_that_wakes_up_and_sleeps_does_not_exit", |_| {
            let [short, long] = of(&IDLE)?;
            // That the guest ended says that its timer went on.
            let more = long.ran - short.ran;
            ensure!(more > (LONG - SHORT - 1) * PERIOD, "only {more} ticks longer");
            ensure!(short.by_reason == long.by_reason, "{short:?}\n{long:?}");
            Ok(())
        }),
        trial("idle::linux_asleep_for_a_minute_does_not_exit", linux),
    ]
}

/// Bochs repeats a run exactly but for the date, which no wait depends on: what the two boots
/// differ in is the minute.
fn linux(name: &str) -> Result<()> {
    let [second, minute] = std::thread::scope(|scope| {
        let runs = [1, 61].map(|seconds| scope.spawn(move || sleeping_linux(name, seconds)));
        runs.map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (second, minute) = (second?, minute?);
    // The timer went on: the kernel counts its interrupts, at least one in a second.
    let woken = minute.interrupts - second.interrupts;
    ensure!(woken >= 60, "only {woken} timer interrupts in a minute");
    // At the rate of 10 MHz that the machine has.
    let more = minute.summary.ran - second.summary.ran;
    ensure!(more > 59 * 10_000_000, "only {more} ticks longer");
    let (before, after) = (&second.summary.by_reason, &minute.summary.by_reason);
    ensure!(before == after, "{before:?}\n{after:?}");
    Ok(())
}

struct Slept {
    /// Timer interrupts while it slept.
    interrupts: u64,
    summary: Summary,
}

/// Boots Linux with a first process that sleeps, and nothing else.
fn sleeping_linux(name: &str, seconds: u64) -> Result<Slept> {
    // Of one length for both, whatever the numbers are.
    let script = format!(
        "#!/bin/sh\n\
         mount -t proc proc /proc\n\
         timer() {{ grep LOC: /proc/interrupts; }}\n\
         timer\n\
         sleep {seconds:02}\n\
         timer\n\
         poweroff -f\n"
    );
    let name = format!("{name}_{seconds}");
    let mut console = Boot::of_script(&name, &script)?.start()?;
    let mut timer = || -> Result<u64> {
        console.wait_for("LOC:")?;
        let line = console.wait_for("Local timer")?;
        let count = line.split_whitespace().next().and_then(|word| word.parse().ok());
        count.with_context(|| format!("no number of interrupts in {line}"))
    };
    let (before, after) = (timer()?, timer()?);
    console.expect_power_off(1)?;
    let summary = summary(&console.transcript(), "debian")?;
    Ok(Slept { interrupts: after - before, summary })
}
