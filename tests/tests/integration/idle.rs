//! A guest in its steady state does not exit.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
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
    vec![trial("idle::a_guest_that_wakes_up_and_sleeps_does_not_exit", |_| {
        let [short, long] = of(&IDLE)?;
        // That the guest ended says that its timer went on.
        let more = long.ran - short.ran;
        ensure!(more > (LONG - SHORT - 1) * PERIOD, "only {more} ticks longer");
        ensure!(short.by_reason == long.by_reason, "{short:?}\n{long:?}");
        Ok(())
    })]
}
