//! What a guest does to its cores, its interrupts and its registers stays with that guest.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, End, Guest};
use libtest_mimic::{Failed, Trial};

use crate::verbs::answered;
use crate::{of, trial};

/// Runs of the guest `remains` that are looked at, the first of which has nothing to find.
const RUNS: usize = 4;

/// How a line of the guest `remains` begins that tells what it found.
const FOUND: &str = "remains: processor ";

/// What a guest does on all its cores, without end: the storms of the guest `storm`.
const STORMS: [&str; 16] = [
    "cli",
    "cli-hlt",
    "self-ipi",
    "ipi",
    "icr",
    "timer",
    "timer-vectors",
    "nmi",
    "init",
    "console",
    "exits",
    "devices",
    "db",
    "ac",
    "pf",
    "triple",
];
/// The one that ends its guest, again and again.
const TRIPLE: &str = "triple";
/// So many share a boot, on two cores each: with the service core and the heart they take the eight cores
/// that Bochs has.
const AT_A_TIME: usize = 3;

/// What the heart was told, in ticks, and what it may be late beside neighbours that misbehave. Beside
/// neighbours that sleep its largest interval was 50,000 ticks, not one late. An exit costs more than
/// this bound.
const PERIOD: u64 = 50_000;
const BEATS: u64 = 400;
const LATE: u64 = 100;

/// What was said in each of the boots with all storms.
static STORMY: [LazyLock<Result<String, String>>; STORMS.len().div_ceil(AT_A_TIME)] = [
    LazyLock::new(|| stormy(0).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| stormy(1).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| stormy(2).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| stormy(3).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| stormy(4).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| stormy(5).map_err(|error| format!("{error:#}"))),
];

fn heart() -> Guest {
    Guest::new("heartbeat").with(&format!("wait=1 period={PERIOD} beats={BEATS}"))
}

/// Boots some of the storms and a heart, which begins when all storms are under way. Gives what the heart
/// said of its beats.
fn stormy(number: usize) -> Result<String> {
    let chosen = STORMS.iter().copied().skip(number * AT_A_TIME).take(AT_A_TIME);
    let storms = chosen.clone().map(|storm| {
        let guest = Guest::new("storm").named(storm).with(&format!("storm={storm}")).on_cores(2);
        if storm == TRIPLE { guest.restarting() } else { guest }
    });
    let guests: Vec<_> = std::iter::once(heart()).chain(storms).collect();
    let mut console =
        Boot::of_guests(&format!("containment::storms_{number}"), &guests)?.start()?;
    for storm in chosen.clone() {
        console.guest(storm)?.wait_for(&format!("storm {storm} on 2 processors"))?;
    }
    let said = beats(&mut console)?;
    // They all go on, and let themselves be stopped.
    for storm in chosen.filter(|&storm| storm != TRIPLE) {
        let answer = console.control(&format!("stop {storm} --now"))?;
        ensure!(answer == format!("guest {storm} is told to stop"), "{answer}");
        console.wait_for(&format!("guest {storm}: stopped by the operator"))?;
    }
    Ok(said)
}

/// Lets the heart begin, and gives what it says at its end.
fn beats(console: &mut Console) -> Result<String> {
    let mut heart = console.guest("heartbeat")?;
    heart.wait_for("type to begin")?;
    heart.send("x")?;
    heart.wait_for("intervals: ")?;
    heart.wait_for("\r\n")
}

/// The heart's beats were in time.
fn in_time(said: &str) -> Result<()> {
    in_time_of(said, PERIOD)
}

/// The same with another period, where it is said `least N, largest N, mean N; missed beats: N`.
fn in_time_of(said: &str, period: u64) -> Result<()> {
    let number = |name: &str| -> Result<u64> {
        let rest = said.split_once(name).with_context(|| format!("no `{name}` in {said}"))?.1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("no number behind `{name}` in {said}"))
    };
    ensure!(number("missed beats: ")? == 0, "{said}");
    let largest = number("largest ")?;
    ensure!(largest <= period + LATE, "an interval of {largest} ticks, {said}");
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    let storm = |(index, name): (usize, &'static str)| {
        Trial::test(
            format!("containment::beside_a_storm_of_{}", name.replace('-', "_")),
            move || {
                let beats = of(&STORMY[index / AT_A_TIME]).and_then(|said| in_time(said));
                beats.map_err(|error| Failed::from(format!("{error:#}")))
            },
        )
    };
    let others = [
        trial("containment::nothing_remains_after_a_reset", |_| clean("reset")),
        trial("containment::nothing_remains_after_a_triple_fault", |_| clean("triple")),
        trial("containment::what_would_remain_is_seen", seen),
        trial("containment::nothing_remains_on_two_cores", |_| clean("two")),
        trial("containment::beside_neighbours_that_sleep", |name| {
            let idle = |number: usize| {
                Guest::new("idle").named(&format!("idle-{number}")).with("ticks=10000 quiet=1")
            };
            let guests: Vec<_> = std::iter::once(heart()).chain((0..6).map(idle)).collect();
            let mut console = Boot::of_guests(name, &guests)?.start()?;
            in_time(&beats(&mut console)?)
        }),
        trial("containment::a_panic_on_one_core_stops_its_guest_alone", panic),
        trial("containment::nobody_is_given_what_a_panic_may_still_use", lost),
    ];
    STORMS.into_iter().enumerate().map(storm).chain(others).collect()
}

/// A defect of the hypervisor's on one of a guest's cores costs that guest, and nobody else.
fn panic(name: &str) -> Result<()> {
    let guests = [
        Guest::new("heartbeat").with("period=100000 beats=300"),
        Guest::new("spin").with("others=panic").on_cores(2),
    ];
    let mut console = Boot::of_guests(name, &guests)?.under_test().start()?;
    console.expect_panic();
    let end = console.wait_for_end()?;
    let transcript = console.transcript();
    ensure!(end == End::Stopped { powered_off: 1, faulted: 1 }, "{end:?}:\n{transcript}");
    let (before, after) = transcript
        .split_once("guest spin: stopped: the hypervisor failed on its core 3")
        .context("nothing is said of the guest")?;
    ensure!(before.contains("panic: core 3: "), "{before}");
    ensure!(before.contains("round 2 at "), "it did not run: {before}");
    ensure!(!after.contains("round "), "its other processor went on: {after}");
    in_time_of(after, 100_000)
}

/// The core on which the hypervisor has failed, and the memory of its guest, are nobody's until the next boot; the guest's
/// other core is given away, and runs.
fn lost(name: &str) -> Result<()> {
    let guests = [
        Guest::new("echo").named("two").with("name=two"),
        Guest::new("spin").with("others=panic").on_cores(2),
    ];
    let mut console = Boot::of_guests(name, &guests)?.under_test().start()?;
    console.expect_panic();
    console.guest("spin")?.wait_for("round 2 at ")?;
    console.wait_for("guest spin: stopped: the hypervisor failed on its core 3")?;
    answered(&mut console, "start spin", "cannot start guest spin: it cannot be started")?;
    let place = console.control("plan --json")?;
    ensure!(place.starts_with("{\"hypervisor\":"), "{place}");
    console.wait_for("console: {\"guest\":\"spin\",")?;
    let before = console.wait_for("\r\n")?;
    answered(&mut console, "destroy spin", "guest spin is destroyed")?;
    console.wait_for("16 MiB are lost until the next boot, as a core has failed\r\n")?;
    let two = "cannot define guest spin: guest \"spin\": cores = 2: 1 left for it";
    answered(&mut console, "define spin", two)?;
    let failed = "cannot define guest spin: guest \"spin\": cores = [3]: core 3 cannot run guests";
    answered(&mut console, "define spin --cores [3]", failed)?;
    answered(&mut console, "define spin --cores 1", "guest spin is defined: core 2, 16 MiB at 0x")?;
    answered(&mut console, "plan --json", "{\"hypervisor\":")?;
    console.wait_for("console: {\"guest\":\"spin\",")?;
    let after = console.wait_for("\r\n")?;
    ensure!(start(&before)?.abs_diff(start(&after)?) >= 16 << 20, "{before} {after}");
    answered(&mut console, "start spin", "guest spin is started")?;
    console.wait_for("guest spin: first instruction ")?;
    console.guest("spin")?.wait_for("round 2 at ")?;
    console.guest("two")?.send("hello\r")?;
    console.guest("two")?.wait_for("two: got \"hello\"\r\n")?;
    answered(&mut console, "power-off --now", "the machine is switched off")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    Ok(())
}

/// Where the memory of a guest's share begins, as `plan --json` has it.
fn start(share: &str) -> Result<u64> {
    let digits = share.split_once("\"start\":").and_then(|(_, rest)| rest.split_once(','));
    digits.with_context(|| share.to_string())?.0.parse().with_context(|| share.to_string())
}

/// What guests said that looked for what their earlier runs had left, by their names.
static REMAINS: LazyLock<Result<Vec<(&str, String)>, String>> =
    LazyLock::new(|| remains().map_err(|error| format!("{error:#}")));

fn remains() -> Result<Vec<(&'static str, String)>> {
    let guests = [
        Guest::new("remains").named("reset").restarting(),
        Guest::new("remains").named("triple").with("end=triple").restarting(),
        Guest::new("remains").named("two").on_cores(2).restarting(),
    ];
    let mut console = Boot::of_guests("containment::remains", &guests)?.start()?;
    // Those that would go on for ever are stopped.
    console.wait_for_end()?;
    let mut said = |name| Ok((name, console.guest(name)?.transcript()));
    ["reset", "triple", "two"].into_iter().map(&mut said).collect()
}

/// A guest was started often enough, and never found anything.
fn clean(guest: &str) -> Result<()> {
    let said = of(&REMAINS)?.iter().find(|(name, _)| *name == guest);
    let (_, said) = said.with_context(|| format!("nothing of {guest}"))?;
    let runs = said.lines().filter(|&line| line == "clean").count();
    ensure!(runs >= RUNS && runs == said.lines().count(), "{guest}: {runs} clean runs in:\n{said}");
    Ok(())
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
