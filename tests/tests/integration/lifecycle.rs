//! Guests that the operator pauses, resumes and stops, whatever their processors do.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, End, Guest, said_of};
use libtest_mimic::{Failed, Trial};

use crate::{of, trial};

/// What the second processor of the guest `spin` does while the first prints rounds, and whether the
/// first sleeps in between.
const KINDS: [(&str, &str); 6] = [
    ("cli", "others=cli"),
    ("cli-hlt", "others=cli-hlt sleep=1"),
    ("hlt", "others=hlt sleep=1"),
    ("jmp", "others=jmp"),
    ("exits", "others=exits"),
    ("nmi", "others=nmi"),
];
/// So many share a boot, on two cores each: with the service core and the heart they take the eight cores
/// that Bochs has.
const AT_A_TIME: usize = 3;

/// Ticks from one round to the next, and from one of the heart's lines to the next, by which the tests
/// measure time.
const ROUND: u64 = 3_000_000;
const PERIOD: u64 = 50_000;
const BEATS: u64 = 100;

/// Ticks that a wait may take: far more than all beats.
const TICKS: u64 = 2_000_000_000;

/// What was said in each of the boots with all kinds.
static BOOTS: [LazyLock<Result<String, String>>; KINDS.len() / AT_A_TIME] = [
    LazyLock::new(|| boot(0).map_err(|error| format!("{error:#}"))),
    LazyLock::new(|| boot(1).map_err(|error| format!("{error:#}"))),
];

pub fn trials() -> Vec<Trial> {
    let each = |(index, (kind, _)): (usize, (&'static str, &str))| {
        let name = format!("lifecycle::a_guest_is_paused_resumed_and_stopped_{kind}");
        Trial::test(name.replace('-', "_"), move || {
            let told = of(&BOOTS[index / AT_A_TIME]).and_then(|said| stopped(said, kind));
            told.map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    let others = [trial("lifecycle::other_guests_go_on_meanwhile", |_| {
        BOOTS.iter().try_for_each(|boot| {
            let transcript = of(boot)?;
            ensure!(transcript.contains("; missed beats: 0\r\n"), "beats were missed");
            Ok(())
        })
    })];
    KINDS.into_iter().enumerate().map(each).chain(others).collect()
}

/// The hypervisor said that the operator has stopped it, and nothing of a fault.
fn stopped(transcript: &str, kind: &str) -> Result<()> {
    let said: Vec<_> = said_of(transcript, kind).collect();
    let times = said.iter().filter(|line| **line == "stopped by the operator").count();
    ensure!(times == 1, "{said:#?}");
    ensure!(!said.iter().any(|line| line.starts_with("stopped: ")), "{said:#?}");
    Ok(())
}

fn boot(number: usize) -> Result<String> {
    let kinds = &KINDS[number * AT_A_TIME..][..AT_A_TIME];
    let spins = kinds.iter().map(|(kind, options)| {
        let options = format!("name={kind} period={ROUND} {options}");
        Guest::new("spin").named(kind).with(&options).on_cores(2)
    });
    // Its beats take longer than all that is tried, as long as no pause is.
    let heart = format!("period={PERIOD} beats=6000 say={BEATS}");
    let heart = Guest::new("heartbeat").named("heart").with(&heart);
    let guests: Vec<_> = std::iter::once(heart).chain(spins).collect();
    let mut console = Boot::of_guests(&format!("lifecycle::boot_{number}"), &guests)?.start()?;
    console.limit_ticks(TICKS);
    for (kind, _) in kinds {
        console.wait_for(&format!("{kind}: round 2 at "))?;
    }
    for (kind, _) in kinds {
        pause_and_resume(&mut console, kind)
            .and_then(|()| stop(&mut console, kind))
            .with_context(|| format!("guest {kind}:\n{}", console.transcript()))?;
    }
    let end = console.wait_for_end()?;
    let transcript = console.transcript();
    ensure!(matches!(end, End::Stopped { faulted: 0, .. }), "{end:?}:\n{transcript}");
    Ok(transcript)
}

fn pause_and_resume(console: &mut Console, kind: &str) -> Result<()> {
    refused(console, &format!("resume {kind}"), "is running")?;
    control(console, &format!("pause {kind}"))?;
    // What it wrote before may still be on its way.
    pass(console, 1)?;
    let before = rounds(&console.transcript(), kind);
    let &(last, at) = before.last().context("no rounds")?;
    refused(console, &format!("pause {kind}"), "is paused")?;
    // Longer than two rounds.
    pass(console, 2)?;
    let paused = rounds(&console.transcript(), kind);
    ensure!(paused == before, "it went on while it was paused: {paused:?} after {before:?}");
    control(console, &format!("resume {kind}"))?;
    console.wait_for(&format!("{kind}: round {} at ", last + 1))?;
    console.wait_for(&format!("{kind}: round {} at ", last + 2))?;
    let resumed = rounds(&console.transcript(), kind);
    // From where it was; and its TSC has gone on.
    let &(next, after) = resumed.get(paused.len()).context("no round after it")?;
    ensure!(next == last + 1, "round {next} after round {last}");
    ensure!(after - at > 2 * BEATS * PERIOD, "the TSC was at {at} and is at {after}");
    Ok(())
}

fn stop(console: &mut Console, kind: &str) -> Result<()> {
    control(console, &format!("stop {kind}"))?;
    console.wait_for(&format!("guest {kind}: stopped by the operator"))?;
    let before = rounds(&console.transcript(), kind);
    for command in ["pause", "resume", "stop"] {
        refused(console, &format!("{command} {kind}"), "is stopped")?;
    }
    pass(console, 2)?;
    let after = rounds(&console.transcript(), kind);
    ensure!(before == after, "it went on when it was stopped: {after:?} after {before:?}");
    Ok(())
}

/// Waits until the heart has said so many lines more.
fn pass(console: &mut Console, lines: u64) -> Result<()> {
    (0..lines).try_for_each(|_| console.wait_for("beat ").map(|_| ()))
}

/// The rounds of a guest, and at which ticks they were.
fn rounds(transcript: &str, kind: &str) -> Vec<(u64, u64)> {
    let start = format!("{kind}: round ");
    let round = |line: &str| {
        let (round, at) = line.strip_prefix(&start)?.split_once(" at ")?;
        Some((round.parse().ok()?, at.trim_end().parse().ok()?))
    };
    transcript.lines().filter_map(round).collect()
}

/// Gives the hypervisor a command. Gives its answer.
fn control(console: &mut Console, command: &str) -> Result<String> {
    console.send(&format!("\x1d{command}\r"))?;
    console.wait_for("console: ")?;
    console.wait_for("\r\n")
}

/// Gives the hypervisor a command that it has to refuse, for a reason.
fn refused(console: &mut Console, command: &str, reason: &str) -> Result<()> {
    let answer = control(console, command)?;
    ensure!(answer.contains(reason), "`{command}` was answered by: {answer}");
    Ok(())
}
