//! A guest that attacks, in one boot beside a neighbour: the table in `bulkhead_guests::attacks`, one after the other. Each has
//! to be contained in exactly the way that the table says, the hypervisor answers after each, and the neighbour notices nothing.

use std::fmt::Write;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bulkhead_guests::attacks::{self, Attack, GROUPS};
use bulkhead_tests::{Boot, Console, End, Guest};
use libtest_mimic::{Failed, Trial};

/// Who attacks, and who must not notice.
const ATTACKER: &str = "attacks";
const NEIGHBOUR: &str = "victim";
/// Of the neighbour's heart, in ticks, and what it may be late.
const PERIOD: u64 = 1_000_000;
const LATE: u64 = 100;
/// KiB of its memory that it looks at at every beat.
const GUARDED: u64 = 64;
/// Ticks that one attack may take: far more than the longest does.
const TICKS: u64 = 10_000_000_000;
/// Ticks that one without an end is left alone.
const ENDLESS: u64 = 20_000_000;

/// What was seen in the boot.
struct Seen {
    /// Of each attack, in the order of the table: what followed, or what is wrong with it.
    followed: Vec<Result<String, String>>,
    /// Of the neighbour.
    neighbour: Result<String, String>,
}

static SEEN: OnceLock<Result<Seen, String>> = OnceLock::new();

fn seen() -> Result<&'static Seen> {
    let seen = SEEN.get_or_init(|| run().map_err(|error| format!("{error:#}")));
    seen.as_ref().map_err(|error| anyhow!("{error}"))
}

/// All attacks, by their whole names.
fn all() -> impl Iterator<Item = (String, &'static Attack)> {
    GROUPS.iter().flat_map(|(group, attacks)| {
        attacks.iter().map(move |attack| (format!("{group}::{}", attack.name), attack))
    })
}

pub fn trials() -> Vec<Trial> {
    let attack = |(index, (name, _)): (usize, (String, &Attack))| {
        Trial::test(format!("attacks::{name}"), move || {
            let followed = seen().and_then(|seen| result(&seen.followed[index]));
            followed.map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    let neighbour = Trial::test("attacks::the_neighbour_notices_nothing", || {
        let neighbour = seen().and_then(|seen| result(&seen.neighbour));
        neighbour.map_err(|error| Failed::from(format!("{error:#}")))
    });
    all().enumerate().map(attack).chain([neighbour]).collect()
}

fn result(of: &Result<String, String>) -> Result<()> {
    match of {
        Ok(_) => Ok(()),
        Err(error) => bail!("{error}"),
    }
}

/// Prints what was tried and what followed, where that was looked at.
pub fn print_table() {
    let Some(Ok(seen)) = SEEN.get() else { return };
    let title = |name: &str| name.replace("::", ": ").replace('_', " ");
    let rows = all().zip(&seen.followed).map(|((name, attack), followed)| match followed {
        Ok(followed) => [title(&name), attack.tries.into(), followed.clone(), "contained".into()],
        Err(error) => {
            let first = error.lines().next().unwrap_or_default().to_string();
            [title(&name), attack.tries.into(), first, "ESCAPED".into()]
        }
    });
    let head = ["attack", "what it tries", "what followed", "result"].map(String::from);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::from("\n");
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            // To a string nothing can fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let contained = seen.followed.iter().filter(|followed| followed.is_ok()).count();
    println!("{text}{contained} of {} attacks contained", seen.followed.len());
    let (Ok(neighbour) | Err(neighbour)) = &seen.neighbour;
    println!("the neighbour: {neighbour}");
}

/// Where the others are, as the boot's log says.
struct Place {
    /// The hypervisor's memory, as the log has it: `START-END START-END`.
    hypervisor: String,
    /// Where the last of it begins.
    hypervisor_start: u64,
    neighbour_start: u64,
    neighbour_end: u64,
    image: String,
}

impl Place {
    fn of(log: &str) -> Result<Self> {
        let between = |start: &str, end: &str| -> Result<String> {
            let rest = log.split_once(start).with_context(|| format!("no `{start}` in {log}"))?.1;
            Ok(rest.split(end).next().unwrap_or_default().trim().to_string())
        };
        let hypervisor = between("thread bits 0, hypervisor ", ", free ")?;
        let last = hypervisor.rsplit(' ').next().unwrap_or_default();
        let hypervisor_start = number(last.split('-').next().unwrap_or_default())?;
        let neighbour = between(&format!("plan: guest {NEIGHBOUR}: "), "\n")?;
        let neighbour = neighbour.split_once(" MiB at ").context("no memory of the neighbour's")?.1;
        let neighbour_start = number(neighbour.split(',').next().unwrap_or_default())?;
        let image = between("image base ", "\n")?;
        let neighbour_end = neighbour_start + (16 << 20);
        Ok(Self { hypervisor, hypervisor_start, neighbour_start, neighbour_end, image })
    }

    /// As the guest is told.
    fn line(&self) -> String {
        let Self { hypervisor, neighbour_start, neighbour_end, image, .. } = self;
        format!(
            "place hypervisor={} neighbour={neighbour_start:#x}-{neighbour_end:#x} image={image} name={NEIGHBOUR}\r",
            hypervisor.replace(' ', ",")
        )
    }

    /// A part of the table with addresses in place of `{hypervisor}`, `{neighbour}`, and either with an offset.
    fn filled(&self, part: &str) -> Result<String> {
        let Some((before, rest)) = part.split_once('{') else { return Ok(part.to_string()) };
        let (inside, behind) = rest.split_once('}').context("no end of a place")?;
        let (who, offset) = inside.split_once('+').unwrap_or((inside, "0x0"));
        let start = match who {
            "hypervisor" => self.hypervisor_start,
            "neighbour" => self.neighbour_start,
            _ => bail!("{who}: nobody"),
        };
        Ok(format!("{before}{:#x}{behind}", start + number(offset)?))
    }
}

fn number(text: &str) -> Result<u64> {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16).with_context(|| format!("`{text}`: not an address"))
}

fn run() -> Result<Seen> {
    let heart = format!("period={PERIOD} beats=1000000000 until=1 guard={GUARDED}");
    let guests = [Guest::new("heartbeat").named(NEIGHBOUR).with(&heart), Guest::new(ATTACKER)];
    // A hypervisor that compares its registers when it is asked to, which is after each attack.
    let mut console = Boot::of_guests("attacks", &guests)?.under_test().start()?;
    console.limit_ticks(TICKS);
    console.guest(ATTACKER)?.wait_for("attacks: ready\r\n")?;
    console.guest(NEIGHBOUR)?.wait_for(" ticks\r\n")?;
    let place = Place::of(&console.transcript())?;
    tell(&mut console, &place)?;
    let mut followed: Vec<Result<String, String>> = Vec::new();
    let mut broken: Option<String> = None;
    for (name, attack) in all() {
        if let Some(why) = &broken {
            followed.push(Err(why.clone()));
            continue;
        }
        let seen = try_one(&mut console, &place, &name, attack);
        if let Err(error) = &seen {
            // The others are looked at all the same, as far as that can be.
            let again = again(&mut console, &place, "restart");
            broken = again.err().map(|_| format!("after {name}: {error:#}"));
        }
        followed.push(seen.map_err(|error| format!("{name}: {error:#}")));
    }
    let neighbour = conclude(&mut console).map_err(|error| format!("{error:#}"));
    Ok(Seen { followed, neighbour })
}

/// Tells the guest where the others are.
fn tell(console: &mut Console, place: &Place) -> Result<()> {
    let mut guest = console.guest(ATTACKER)?;
    guest.send(&place.line())?;
    guest.wait_for("attacks: placed\r\n").map(|_| ())
}

/// Starts the guest again.
fn again(console: &mut Console, place: &Place, verb: &str) -> Result<()> {
    let answer = console.control(&format!("{verb} {ATTACKER}"))?;
    ensure!(answer.starts_with(&format!("guest {ATTACKER} is started")), "{answer}");
    console.guest(ATTACKER)?.wait_for("attacks: ready\r\n")?;
    tell(console, place)
}

/// Has the guest try one; gives what followed.
fn try_one(console: &mut Console, place: &Place, name: &str, attack: &Attack) -> Result<String> {
    // An attack before that ended otherwise than it must may have left lines behind.
    console.skip();
    let mut guest = console.guest(ATTACKER)?;
    guest.send(&format!("{name}\r"))?;
    guest.wait_for(&format!("attack: {name} | "))?;
    match attack.end {
        attacks::End::GoesOn => {
            let said = guest.wait_while_it_runs("\r\n")?;
            let (followed, result) = said.trim_end().rsplit_once(" | ").context("no result")?;
            ensure!(result == "contained", "{followed}: {result}");
            // The hypervisor goes on.
            let answer = console.control("help")?;
            ensure!(answer.starts_with("Ctrl-]"), "{answer}");
            Ok(followed.to_string())
        }
        attacks::End::Report { stopped, exit, bytes } => {
            console.wait_for(&format!("guest {ATTACKER}: stopped: "))?;
            let why = console.wait_for("\r\n")?;
            ensure!(why.trim_end() == stopped, "stopped: {why}");
            console.wait_for(&format!("guest {ATTACKER}: exit reason "))?;
            let reason = console.wait_for("\r\n")?;
            for part in exit {
                let part = place.filled(part)?;
                ensure!(reason.contains(&part), "no `{part}` in {reason}");
            }
            console.wait_for("instruction bytes: ")?;
            let code = console.wait_for("\r\n")?;
            ensure!(code.starts_with(bytes), "instruction bytes: {code}");
            again(console, place, "start")?;
            let at = reason.split(", ").find(|part| part.starts_with("guest-physical"));
            let at = at.map(|at| format!(" ({})", at.trim_end())).unwrap_or_default();
            Ok(format!("stopped: {stopped}{at}"))
        }
        attacks::End::Never => {
            console.let_pass(ENDLESS)?;
            let answer = console.control(&format!("stop {ATTACKER} --now"))?;
            ensure!(answer == format!("guest {ATTACKER} is told to stop"), "{answer}");
            console.wait_for(&format!("guest {ATTACKER}: stopped by the operator\r\n"))?;
            again(console, place, "start")?;
            Ok("stopped by the operator".to_string())
        }
    }
}

/// Ends the boot: what the neighbour has noticed.
fn conclude(console: &mut Console) -> Result<String> {
    let answer = console.control(&format!("stop {ATTACKER} --now"))?;
    ensure!(answer == format!("guest {ATTACKER} is told to stop"), "{answer}");
    let mut neighbour = console.guest(NEIGHBOUR)?;
    neighbour.send("x")?;
    neighbour.wait_for("intervals: ")?;
    let beats = neighbour.wait_for("\r\n")?;
    let memory = neighbour.wait_for("\r\n")?;
    let others = neighbour.wait_for("\r\n")?;
    let transcript = neighbour.transcript();
    let said = [&beats, &memory, &others].map(|line| line.trim_end()).join("; ");
    let largest = beats.split_once("largest ").and_then(|(_, rest)| rest.split(',').next());
    let largest: u64 = largest.context("no largest interval")?.parse()?;
    ensure!(largest <= PERIOD + LATE && beats.contains("missed beats: 0"), "{said}");
    ensure!(memory.contains(": unchanged") && !transcript.contains("CHANGED"), "{transcript}");
    ensure!(others.trim_end() == "interrupts of others: 0", "{said}");
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    Ok(said)
}
