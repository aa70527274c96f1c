//! Guests that the operator pauses, resumes and stops, whatever their processors do.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail, ensure};
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
        Guest::new("spin").named(kind).with(&format!("period={ROUND} {options}")).on_cores(2)
    });
    // Its beats take longer than all that is tried.
    let heart = format!("period={PERIOD} beats=6000 say={BEATS}");
    let heart = Guest::new("heartbeat").named("heart").with(&heart);
    let guests: Vec<_> = std::iter::once(heart).chain(spins).collect();
    let mut console = Boot::of_guests(&format!("lifecycle::boot_{number}"), &guests)?.start()?;
    console.limit_ticks(TICKS);
    for (kind, _) in kinds {
        console.guest(kind)?.wait_for("round 2 at ")?;
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
    // Records that wait would be shown at some time, before what guests say.
    console.control("audit")?;
    answered(console, "resume", kind, &format!("cannot resume guest {kind}: it is running"))?;
    answered(console, "pause", kind, &format!("guest {kind} is paused"))?;
    let before = settled(console, kind)?;
    let &(last, at) = before.last().context("no rounds")?;
    answered(console, "pause", kind, &format!("cannot pause guest {kind}: it is paused"))?;
    // Longer than two rounds.
    pass(console, 2)?;
    let paused = rounds(console, kind)?;
    ensure!(paused == before, "it went on while it was paused: {paused:?} after {before:?}");
    answered(console, "resume", kind, &format!("guest {kind} goes on"))?;
    console.guest(kind)?.wait_for(&format!("round {} at ", last + 2))?;
    console.guest(kind)?.wait_for("\r\n")?;
    // From where it was, in order; and its TSC has gone on.
    let resumed = rounds(console, kind)?;
    ensure!(resumed.iter().map(|&(round, _)| round).eq(1..=resumed.len() as u64), "{resumed:?}");
    // The first may have been said before, and not have left the processor.
    let &(_, after) = resumed.get(paused.len() + 1).context("no two rounds after it")?;
    ensure!(after - at > 2 * BEATS * PERIOD, "the TSC was at {at} and is at {after}");
    Ok(())
}

fn stop(console: &mut Console, kind: &str) -> Result<()> {
    answered(console, "stop", kind, &format!("guest {kind} is told to stop"))?;
    console.wait_for(&format!("guest {kind}: stopped by the operator"))?;
    let before = rounds(console, kind)?;
    for command in ["pause", "resume", "stop"] {
        let answer = format!("cannot {command} guest {kind}: it is stopped");
        answered(console, command, kind, &answer)?;
    }
    pass(console, 2)?;
    let after = rounds(console, kind)?;
    ensure!(before == after, "it went on when it was stopped: {after:?} after {before:?}");
    Ok(())
}

/// Waits until the heart has said so many lines more.
fn pass(console: &mut Console, lines: u64) -> Result<()> {
    // Those that it has said already do not count.
    let mut heart = console.guest("heart")?;
    let said = heart.transcript().matches("beat ").count() as u64;
    heart.wait_for(&format!("beat {}\r\n", (said + lines) * BEATS)).map(|_| ())
}

/// The rounds of a guest that is paused. What it wrote before may still be on its way, behind the log; a guest that
/// goes on has another round each time.
fn settled(console: &mut Console, kind: &str) -> Result<Vec<(u64, u64)>> {
    let mut before = rounds(console, kind)?;
    for _ in 0..5 {
        pass(console, 1)?;
        let now = rounds(console, kind)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    bail!("it goes on while it is paused: {before:?}")
}

/// The rounds of a guest, and at which ticks they were.
fn rounds(console: &mut Console, kind: &str) -> Result<Vec<(u64, u64)>> {
    let transcript = console.guest(kind)?.transcript();
    let round = |line: &str| {
        let (round, at) = line.strip_prefix("round ")?.strip_suffix("\r\n")?.split_once(" at ")?;
        Some((round.parse().ok()?, at.parse().ok()?))
    };
    // Without the last line, as long as its end has not come.
    Ok(transcript.split_inclusive('\n').filter_map(round).collect())
}

/// Gives the hypervisor a command for a guest, and fails unless its answer begins with a text.
fn answered(console: &mut Console, command: &str, kind: &str, answer: &str) -> Result<()> {
    let said = console.control(&format!("{command} {kind}"))?;
    ensure!(said.starts_with(answer), "`{command} {kind}` was answered by: {said}");
    Ok(())
}
