//! What the operator can do to a guest, and what not in which state.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, End, Guest, OPERATOR, program, xtask};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use xtask::emulator::RECORD;

use crate::client::Client;
use crate::trial;

/// So often a guest is started in one boot.
const STARTS: u32 = 500;
/// Ticks that they may take in all.
const TICKS: u64 = 20_000_000_000;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("verbs::each_does_what_it_says_or_says_why_not", verbs),
        trial("verbs::what_faults_starts_again_after_longer_and_longer_pauses", pauses),
        trial("verbs::stop_asks_a_guest_that_listens_and_tells_it_after_a_while", stop),
        trial("verbs::a_guest_that_is_being_loaded_is_paused_before_it_runs", loaded),
        trial("verbs::top_shows_who_is_halted_and_who_exits", top),
        trial("verbs::a_suspect_guest_is_put_into_quarantine_by_itself", suspicion),
        trial("verbs::power_off_ends_a_machine_whose_guests_were_never_started", |name| {
            let guests = ["one", "two"].map(|name| Guest::new("hello").named(name).by_hand());
            let mut console = Boot::of_guests(name, &guests)?.start()?;
            console.wait_for("guest two: is started by hand: start two\r\n")?;
            answered(&mut console, "power-off", "the machine is switched off when all guests")?;
            let end = console.wait_for_end()?;
            ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
            Ok(())
        }),
        trial("verbs::a_guest_that_starts_500_times_leaves_nothing_behind", soak),
    ]
}

/// Ticks that it takes until a guest that does not power itself off is stopped: 30 s.
const PATIENCE: u64 = 300_000_000;

/// The ways of `stop` and `restart` with guests that obey their power button, hear it, or are deaf.
fn stop(name: &str) -> Result<()> {
    let echo = |name: &str, button: &str| {
        Guest::new("echo").named(name).with(&format!("name={name} button={button}"))
    };
    // It would start again by itself, unless it was stopped.
    let obeys = echo("obeys", "obeyed").with_restart("always");
    let deaf = Guest::new("echo").named("deaf").with("name=deaf");
    let mut machine = Client::of(Boot::of_guests(name, &[obeys, echo("hears", "heard"), deaf])?)?;
    for guest in ["obeys", "hears", "deaf"] {
        machine.console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    let asked = "is asked to power itself off, and is stopped in 30 s otherwise";
    machine.answers("restart obeys", &format!("guest obeys {asked}; it is started again"))?;
    machine.console.guest("obeys")?.wait_for("obeys: its button was pressed\r\n")?;
    machine.console.wait_for("guest obeys: powered off\r\n")?;
    machine.console.guest("obeys")?.wait_for("obeys: ready\r\n")?;
    machine.answers("stop obeys", &format!("guest obeys {asked}"))?;
    machine.console.wait_for("guest obeys: powered off\r\n")?;
    machine.answers("info obeys", "guest obeys is powered off")?;

    // A pause calls it off. As its time runs, and much faster than a client starts, this is typed.
    answered(&mut machine.console, "stop hears", &format!("guest hears {asked}"))?;
    machine.console.guest("hears")?.wait_for("hears: its button was pressed\r\n")?;
    answered(&mut machine.console, "info hears", "guest hears is stopping")?;
    answered(&mut machine.console, "resume hears", "cannot resume guest hears: it is stopping")?;
    answered(&mut machine.console, "pause hears", "guest hears is paused, after ")?;
    answered(&mut machine.console, "resume hears", "guest hears goes on")?;
    // Whoever asks twice does not wait; what ends it by force starts it again as well.
    answered(
        &mut machine.console,
        "restart hears",
        &format!("guest hears {asked}; it is started"),
    )?;
    let twice = "is told to stop, as it was asked before; it is started again then";
    answered(&mut machine.console, "restart hears", &format!("guest hears {twice}"))?;
    machine.console.wait_for("guest hears: stopped by the operator\r\n")?;
    machine.console.guest("hears")?.wait_for("hears: ready\r\n")?;
    answered(&mut machine.console, "stop hears --now", "guest hears is told to stop")?;
    machine.console.wait_for("guest hears: stopped by the operator\r\n")?;
    answered(&mut machine.console, "start hears", "guest hears is started")?;
    machine.console.guest("hears")?.wait_for("hears: ready\r\n")?;

    let told = "guest deaf is told to stop, as it does not listen to its power button";
    machine.answers("stop deaf", told)?;
    machine.console.wait_for("guest deaf: stopped by the operator\r\n")?;

    machine.console.limit_ticks(2 * PATIENCE);
    machine.answers("power-off", "the machine is switched off when all guests")?;
    machine.console.guest("hears")?.wait_for("hears: its button was pressed\r\n")?;
    machine
        .console
        .wait_for("guest hears: has not powered itself off within 30 s: is stopped\r\n")?;
    let end = machine.console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");
    Ok(())
}

/// To wipe so much memory takes longer than to type a command.
const MUCH_MIB: u32 = 256;

fn loaded(name: &str) -> Result<()> {
    let guest = Guest::new("echo").named("two").with("name=two");
    let guest = guest.with_memory_mib(MUCH_MIB).by_hand();
    let mut console = Boot::of_guests(name, &[guest])?.start()?;
    console.wait_for("guest two: is started by hand: start two\r\n")?;
    answered(&mut console, "start two", "guest two is started")?;
    let later = "guest two is paused: it is being loaded, and stands still then";
    answered(&mut console, "pause two", later)?;
    answered(&mut console, "examine two 0", "cannot examine guest two: it is being started, and")?;
    // It stands still before its first instruction.
    let mut looks = 0;
    while !console.control("registers two 0")?.starts_with("guest two, processor 0:") {
        looks += 1;
        ensure!(looks < 10_000, "it never stood still");
    }
    ensure!(!console.transcript().contains("two: ready"), "it has run");
    answered(&mut console, "resume two", "guest two goes on")?;
    console.guest("two")?.wait_for("two: ready\r\n")?;
    answered(&mut console, "power-off --now", "the machine is switched off")?;
    console.wait_for_end().map(|_| ())
}

/// One that faults, one that tries everything, and one that behaves.
fn suspicion(name: &str) -> Result<()> {
    let suspected = "{ denied = 100, fault = true }";
    let guests = [
        // A reset would wipe what it did.
        Guest::new("faults").named("bad").with("fault=fetch").with_restart("always"),
        Guest::new("random").named("probes").with("seed=7 ops=1000000"),
        Guest::new("echo").named("two").with("name=two"),
    ];
    let guests = guests.map(|guest| guest.suspected(suspected));
    let mut machine = Client::of(Boot::of_guests(name, &guests)?)?;
    let fault = "is put into quarantine: instruction fetch from where there is no RAM\r\n";
    machine.console.wait_for(&format!("guest bad: {fault}"))?;
    machine.console.wait_for("guest probes: is put into quarantine: ")?;
    let why = machine.console.wait_for("\r\n")?;
    ensure!(why.contains(" denied accesses within a second, and its manifest allows 100"), "{why}");
    machine.answers("info bad", "guest bad is quarantined")?;
    machine.answers("info probes", "guest probes is quarantined")?;
    machine.shows("registers bad 0", "guest bad, processor 0:\n", &["  rip 00000000fed0"])?;
    machine.answers("examine bad 0xe0000", "guest bad, guest-physical memory:")?;
    // Let go on, it faults again.
    machine.answers("release bad", "guest bad is paused")?;
    machine.answers("resume bad", "guest bad goes on")?;
    machine.console.wait_for(&format!("guest bad: {fault}"))?;
    machine.answers("stop bad", "guest bad is told to stop")?;
    machine.console.wait_for("guest bad: stopped by the operator\r\n")?;
    machine.answers("destroy probes", "guest probes is told to stop, and is destroyed")?;
    echoes(&mut machine.console, "hello")?;
    machine.answers("power-off", "the machine is switched off")?;
    let end = machine.console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");
    Ok(())
}

/// One that sleeps, one that computes, one that has a processor that was never started, and one that exits all the time.
fn top(name: &str) -> Result<()> {
    let guests = [
        Guest::new("idle").named("sleeps").with("ticks=1000000"),
        Guest::new("spin").named("spins").with("others=off period=100000000").on_cores(2),
        Guest::new("spin").named("exits").with("others=exits period=100000000").on_cores(2),
    ];
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    console.wait_for("guest exits: starting on cores 4, 5\r\n")?;
    for guest in ["sleeps", "spins", "exits"] {
        console.guest(guest)?.wait_for("\n")?;
    }
    answered(&mut console, "top", "CORE GUEST  PROCESSOR  HALTED      EXITS/S")?;
    let mut lines = Vec::new();
    for core in 1..=5 {
        console.wait_for(&format!("console:    {core} "))?;
        lines.push(console.wait_for("\r\n")?);
    }
    let numbers = |line: &str| -> Vec<u64> {
        line.replace(',', "").split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let [sleeps, spins, other, exits] = [0, 1, 2, 4].map(|at| lines[at].as_str());
    ensure!(sleeps.starts_with("sleeps ") && numbers(sleeps)[1] > 90, "{lines:?}");
    ensure!(numbers(sleeps)[2] < 100, "{lines:?}");
    ensure!(spins.starts_with("spins ") && numbers(spins)[1] == 0, "{lines:?}");
    ensure!(other.trim_end() == "spins          1   waits to be started", "{lines:?}");
    ensure!(exits.starts_with("exits ") && numbers(exits)[2] > 1000, "{lines:?}");
    let first = console.control("top --json")?;
    let first: serde_json::Value = serde_json::from_str(&first).context(first)?;
    ensure!(first["guest"] == "sleeps" && first["core"] == 1, "{first}");
    ensure!(first["halted_percent"].as_u64() > Some(90), "{first}");
    console.wait_for("console: {\"core\":5,")?;
    console.wait_for("}\r\n")?;
    answered(&mut console, "power-off --now", "the machine is switched off")?;
    console.wait_for_end().map(|_| ())
}

/// Gives a command, and fails unless its answer begins with a text.
pub fn answered(console: &mut Console, command: &str, answer: &str) -> Result<()> {
    let said = console.control(command)?;
    ensure!(said.starts_with(answer), "`{command}`: {said}");
    Ok(())
}

/// Types to the guest `two` and sees that it answers.
pub fn echoes(console: &mut Console, text: &str) -> Result<()> {
    console.guest("two")?.send(&format!("{text}\r"))?;
    console.guest("two")?.wait_for(&format!("two: got \"{text}\"\r\n")).map(|_| ())
}

fn verbs(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let boot = Boot::of_guests(name, &[echo("one"), echo("two").by_hand()])?;
    let folder = boot.machine.folder.clone();
    let mut machine = Client::of(boot)?;
    machine.console.guest("one")?.wait_for("one: ready\r\n")?;
    for verb in ["pause", "resume", "stop", "quarantine", "release"] {
        let refused = format!("cannot {verb} guest two: it is defined");
        machine.refuses(&format!("{verb} two"), &refused)?;
    }
    // There is one that can still be started.
    machine.answers("stop one", "guest one is told to stop, as it does not listen")?;
    machine.console.wait_for("guest one: stopped by the operator\r\n")?;
    machine.answers("start two", "guest two is started")?;
    machine.console.guest("two")?.wait_for("two: ready\r\n")?;
    machine.refuses("start two", "cannot start guest two: it is running")?;
    machine.refuses("release two", "cannot release guest two: it is running")?;
    echoes(&mut machine.console, "hello")?;
    machine.refuses("examine two 0", "cannot examine guest two: it is running; pause it")?;

    machine.answers("quarantine two", "guest two is quarantined, after ")?;
    for verb in ["start", "pause", "resume", "quarantine"] {
        let refused = format!("cannot {verb} guest two: it is quarantined");
        machine.refuses(&format!("{verb} two"), &refused)?;
    }
    machine.shows("registers two 0", "guest two, processor 0:\n", &["  rip 00000000002"])?;
    machine.refuses(
        "registers two 1",
        "cannot examine guest two: it has no such processor; they are 0 to 0",
    )?;
    // What begins the ACPI tables.
    machine.shows(
        "examine two 0xe0000",
        "guest two, guest-physical memory:\n",
        &["52 53 44 20 50 54 52 20 ", "  RSD PTR "],
    )?;
    machine.refuses("examine two 0xfee00000", "guest two has no RAM there")?;
    machine.console.guest("two")?.send("lost")?;
    machine.answers("release two", "guest two is paused")?;
    machine.answers("resume two", "guest two goes on")?;
    // What was typed in between has not come in.
    echoes(&mut machine.console, "again")?;

    machine.answers("restart two --now", "guest two is told to stop; it is started again")?;
    machine.console.guest("two")?.wait_for("two: ready\r\n")?;
    machine.shows("info two", "guest two is running\n", &["\n  start by-hand, restart never\n"])?;
    inventory(&mut machine)?;
    json(&mut machine)?;
    machine.answers("restart one", "guest one is started")?;
    machine.console.guest("one")?.wait_for("one: ready\r\n")?;
    // Also from quarantine.
    machine.answers("quarantine one", "guest one is quarantined, after ")?;
    machine.answers("stop one", "guest one is told to stop")?;
    let said = machine.done("audit")?;
    let (records, digest) =
        said.split_once(" records; the digest of the last is ").with_context(|| said.clone())?;
    // With the last guest the machine ends.
    machine.answers("stop two", "guest two is told to stop")?;
    let end = machine.console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    audited(&folder.join(RECORD), records, digest.trim_end())
}

/// What exists, for people and for programs.
fn inventory(machine: &mut Client) -> Result<()> {
    let digest = blake3(&fs::read(program("echo")?)?);
    let line = blake3(b"name=two");
    machine.shows(
        "inventory",
        "one: stopped, owner tests, test, expires never: a test\n",
        &[
            &format!("  kernel       {digest}  echo\n"),
            "two: running, owner tests, test, expires never: a test\n",
            &format!("  command line {line}  name=two\n"),
        ],
    )?;
    let inventory = machine.json("inventory --json")?;
    let one = json!({
        "name": "one", "state": "stopped", "owner": "tests", "purpose": "a test",
        "classification": "test", "expires": "never", "on_expiry": "report", "expired": false,
        "kernel": {"name": "echo", "blake3": digest}, "initrd": null,
        "command_line": {"text": "name=one", "blake3": blake3(b"name=one")},
    });
    ensure!(inventory.len() == 2 && inventory[0] == one, "{inventory:?}");
    machine.refuses("list all", "list takes nothing but --json")
}

/// The other answers for programs.
fn json(machine: &mut Client) -> Result<()> {
    let mut one = |command: &str| -> Result<Value> {
        let mut objects = machine.json(command)?;
        ensure!(objects.len() == 1, "`{command}`: {objects:?}");
        Ok(objects.remove(0))
    };
    let stopped = one("info one --json")?;
    ensure!(stopped["state"] == "stopped" && stopped["uptime"].is_null(), "{stopped}");
    ensure!(stopped["cores"] == json!([1]) && stopped["memory"] == 16 << 20, "{stopped}");
    let info = one("info two --json")?;
    let is = |name: &str, value: Value| -> Result<()> {
        ensure!(info[name] == value, "{name}: {info}");
        Ok(())
    };
    is("state", json!("running"))?;
    is("command_line", json!("name=two"))?;
    is("start", json!("by-hand"))?;
    is("restart", json!("never"))?;
    is("expires", json!("never"))?;
    ensure!(info["exits"].as_u64() > Some(0) && info["denied"].is_u64(), "{info}");
    let memory = one("memory --json")?;
    let of = |name: &str| memory[name].as_u64().with_context(|| format!("{name}: {memory}"));
    ensure!(of("heap_used")? < of("heap")? && of("frames_used")? < of("frames")?, "{memory}");
    ensure!(of("heap_used")? > 0 && of("frames_used")? > 0, "{memory}");
    let audit = one("audit --json")?;
    ensure!(audit["records"].as_u64() > Some(30), "{audit}");
    ensure!(audit["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{audit}");

    let exits = machine.json("exits two --json")?;
    let by_reason = |reason: &str| exits.iter().find(|row| row["reason"] == reason);
    let io = by_reason("I/O instruction").with_context(|| format!("{exits:?}"))?;
    ensure!(io["number"] == 30 && io["exits"].as_u64() > Some(0), "{io}");
    ensure!(io["ticks"].as_u64() > io["exits"].as_u64(), "{io}");
    let listed = machine.json("list --json")?;
    ensure!(listed.len() == 2 && listed[0]["state"] == "stopped", "{listed:?}");
    ensure!(listed[0]["cores"] == json!([1]) && listed[0]["uptime"].is_null(), "{listed:?}");
    let who = machine.json("who --json")?;
    ensure!(who.len() == 2 && who[0]["channel"] == "console", "{who:?}");
    ensure!(who[1]["channel"] == "control" && who[1]["operator"] == OPERATOR, "{who:?}");
    ensure!(who[1]["role"] == "administrator" && who[1]["seconds"].is_u64(), "{who:?}");
    let plan = machine.json("plan --json")?;
    ensure!(plan.len() == 4, "{plan:?}");
    ensure!(plan[0]["hypervisor"]["cores"] == json!([{"number": 0, "apic_id": 0}]), "{plan:?}");
    ensure!(plan[2]["guest"] == "two" && plan[2]["initrd"] == false, "{plan:?}");
    ensure!(plan[2]["cores"] == json!([{"number": 2, "apic_id": 2}]), "{plan:?}");
    ensure!(plan[2]["memory"][0]["bytes"] == 16 << 20, "{plan:?}");
    ensure!(plan[3]["left_over"]["cores"] == json!([]), "{plan:?}");
    Ok(())
}

fn blake3(bytes: &[u8]) -> String {
    bulkhead_manifest::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trail tells what was done, and any change of it is found.
fn audited(record: &Path, records: &str, digest: &str) -> Result<()> {
    let verify = |path: &Path| xtask(&["audit".as_ref(), "verify".as_ref(), path.as_os_str()], "");
    let whole = verify(record)?;
    whole.expect(0, &[])?;
    ensure!(whole.output.contains(" records, unbroken; "), "{}", whole.output);
    ensure!(!whole.output.contains("not the machine's end"), "{}", whole.output);
    let log = String::from_utf8_lossy(&fs::read(record)?).into_owned();
    for told in [
        " hypervisor: Bulkhead ",
        " guest: one is starting ",
        " tester@control: pause two: refused: cannot pause guest two: it is defined ",
        " guest: two is running ",
        " tester@control: quarantine two: guest two is quarantined, after ",
        " guest: two is quarantined ",
        " tester@control: restart two --now: guest two is told to stop; it is started again then ",
        " guest: one is stopped ",
        digest,
    ] {
        ensure!(log.contains(told), "no record has \"{told}\"");
    }
    ensure!(records.parse::<u32>()? > 30, "{records} records");
    let altered = record.with_extension("altered");
    for (from, to, found) in [
        ("audit: 7 ", "audit 7 ", "record 8 is there, and 7 to 7 are missing before it"),
        (" guest: two is quarantined ", " guest: two is running ", " was altered, or its digest"),
    ] {
        fs::write(&altered, log.replacen(from, to, 1))?;
        verify(&altered)?.expect(1, &[found])?;
    }
    Ok(())
}

fn pauses(name: &str) -> Result<()> {
    let bad = Guest::new("faults").named("bad").with("fault=fetch").with_restart("on-fault");
    let mut console = Boot::of_guests(name, &[bad])?.start()?;
    for pause in [1, 2, 4] {
        console.wait_for(&format!("guest bad: starts again in {pause} s\r\n"))?;
        if pause < 4 {
            console.wait_for("guest bad: starting on core 1\r\n")?;
        }
    }
    answered(&mut console, "pause bad", "cannot pause guest bad: it is waiting")?;
    answered(&mut console, "stop bad", "guest bad is told to stop")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 1, faulted: 0 }, "{end:?}");
    Ok(())
}

fn soak(name: &str) -> Result<()> {
    let guest = |name: &str| Guest::new("hello").named(name).with_memory_mib(4).by_hand();
    // As long as the second is never started, the machine waits.
    let guests = [guest("often"), guest("never")];
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    console.limit_ticks(TICKS);
    console.wait_for("guest never: is started by hand")?;
    let mut after = Vec::new();
    for number in 0..STARTS {
        answered(&mut console, "start often", "guest often is started")
            .with_context(|| format!("start {number}"))?;
        console.wait_for("guest often: absent devices: ")?;
        if number == 0 || number == STARTS - 1 {
            // Records that wait to be shown are on the heap.
            console.control("audit")?;
            after.push(console.control("memory")?);
        }
    }
    ensure!(after[0].contains(" KiB of heap and ") && after[0] == after[1], "{after:?}");
    answered(&mut console, "power-off", "the machine is switched off")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    Ok(())
}
