//! What the operator can do to a guest, and what not in which state.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, End, Guest, program, xtask};
use libtest_mimic::Trial;
use xtask::emulator::RECORD;

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
        trial("verbs::a_guest_is_destroyed_and_defined_with_other_cores_and_memory", define),
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
    let mut console = Boot::of_guests(name, &[obeys, echo("hears", "heard"), deaf])?.start()?;
    for guest in ["obeys", "hears", "deaf"] {
        console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    let asked = "is asked to power itself off, and is stopped in 30 s otherwise";
    answered(&mut console, "restart obeys", &format!("guest obeys {asked}; it is started again"))?;
    console.guest("obeys")?.wait_for("obeys: its button was pressed\r\n")?;
    console.wait_for("guest obeys: powered off\r\n")?;
    console.guest("obeys")?.wait_for("obeys: ready\r\n")?;
    answered(&mut console, "stop obeys", &format!("guest obeys {asked}"))?;
    console.wait_for("guest obeys: powered off\r\n")?;
    answered(&mut console, "info obeys", "guest obeys is powered off")?;

    // A pause calls it off.
    answered(&mut console, "stop hears", &format!("guest hears {asked}"))?;
    console.guest("hears")?.wait_for("hears: its button was pressed\r\n")?;
    answered(&mut console, "info hears", "guest hears is stopping")?;
    answered(&mut console, "resume hears", "cannot resume guest hears: it is stopping")?;
    answered(&mut console, "pause hears", "guest hears is paused, after ")?;
    answered(&mut console, "resume hears", "guest hears goes on")?;
    // Whoever asks twice does not wait; what ends it by force starts it again as well.
    answered(&mut console, "restart hears", &format!("guest hears {asked}; it is started"))?;
    let twice = "is told to stop, as it was asked before; it is started again then";
    answered(&mut console, "restart hears", &format!("guest hears {twice}"))?;
    console.wait_for("guest hears: stopped by the operator\r\n")?;
    console.guest("hears")?.wait_for("hears: ready\r\n")?;
    answered(&mut console, "stop hears --now", "guest hears is told to stop")?;
    console.wait_for("guest hears: stopped by the operator\r\n")?;
    answered(&mut console, "start hears", "guest hears is started")?;
    console.guest("hears")?.wait_for("hears: ready\r\n")?;

    let told = "guest deaf is told to stop, as it does not listen to its power button";
    answered(&mut console, "stop deaf", told)?;
    console.wait_for("guest deaf: stopped by the operator\r\n")?;

    console.limit_ticks(2 * PATIENCE);
    answered(&mut console, "power-off", "the machine is switched off when all guests")?;
    console.guest("hears")?.wait_for("hears: its button was pressed\r\n")?;
    console.wait_for("guest hears: has not powered itself off within 30 s: is stopped\r\n")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");
    Ok(())
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
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    let fault = "is put into quarantine: instruction fetch from where there is no RAM\r\n";
    console.wait_for(&format!("guest bad: {fault}"))?;
    console.wait_for("guest probes: is put into quarantine: ")?;
    let why = console.wait_for("\r\n")?;
    ensure!(why.contains(" denied accesses within a second, and its manifest allows 100"), "{why}");
    answered(&mut console, "info bad", "guest bad is quarantined")?;
    answered(&mut console, "info probes", "guest probes is quarantined")?;
    answered(&mut console, "registers bad 0", "guest bad, processor 0:")?;
    console.wait_for("console:   rip 00000000fed0")?;
    answered(&mut console, "examine bad 0xe0000", "guest bad, guest-physical memory:")?;
    // Let go on, it faults again.
    answered(&mut console, "release bad", "guest bad is paused")?;
    answered(&mut console, "resume bad", "guest bad goes on")?;
    console.wait_for(&format!("guest bad: {fault}"))?;
    answered(&mut console, "stop bad", "guest bad is told to stop")?;
    console.wait_for("guest bad: stopped by the operator\r\n")?;
    answered(&mut console, "destroy probes", "guest probes is told to stop, and is destroyed")?;
    echoes(&mut console, "hello")?;
    answered(&mut console, "power-off", "the machine is switched off")?;
    let end = console.wait_for_end()?;
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

/// So often a guest is defined, started and destroyed to see that nothing is lost.
const DEFINITIONS: u32 = 50;

/// Takes guests' places away and gives them others, as far as they may have them.
fn define(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let quota = "[[quota]]\nowner = \"tests\"\nmemory = \"64 MiB\"\n\n";
    let guests = [echo("one"), echo("two"), echo("idle").by_hand()];
    let mut console = Boot::of_guests_and(name, &guests, quota)?.start()?;
    for guest in ["one", "two"] {
        console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    let planned = "guest two: core 2 (APIC ID 2), 16 MiB at ";
    answered(&mut console, "plan", "hypervisor: core 0 (APIC ID 0), ")?;
    console.wait_for(planned)?;
    console.wait_for("console: left over: no core, ")?;
    let taken = "cannot define guest two: it is running; destroy it first";
    answered(&mut console, "define two", taken)?;
    answered(&mut console, "destroy two", "guest two is told to stop, and is destroyed then")?;
    console.wait_for("guest two: destroyed: core 2 and 16 MiB are free\r\n")?;
    answered(&mut console, "destroy two", "cannot destroy guest two: it is undefined")?;
    answered(&mut console, "start two", "cannot start guest two: it is undefined; define it")?;
    answered(&mut console, "info two", "guest two is undefined")?;
    console.wait_for("console:   no cores and no memory\r\n")?;

    // What it cannot have.
    for (options, why) in [
        ("--cores 2", "guest \"two\": cores = 2: 1 left for it, as this machine has 3 for guests"),
        ("--cores [1]", "guest \"two\": cores = [1]: core 1 is guest \"one\"'s already"),
        ("--cores [9]", "guest \"two\": cores = [9]: core 9 is not there"),
        (
            "--memory 40MiB",
            "guest \"two\" is too much for its owner \"tests\": 72 MiB would be in use, and the quota is 64 MiB",
        ),
    ] {
        let refused = format!("cannot define guest two: {why}");
        answered(&mut console, &format!("define two {options}"), &refused)?;
    }
    answered(&mut console, "define two 2", "define takes the name of one guest, and what is")?;
    // And what it can.
    answered(
        &mut console,
        "define two --cores [2] --memory 32MiB",
        "guest two is defined: core 2, 32 MiB at 0x",
    )?;
    answered(&mut console, "start two", "guest two is started")?;
    console.guest("two")?.wait_for("two: ready\r\n")?;
    echoes(&mut console, "hello")?;
    answered(&mut console, "examine two 0", "cannot examine guest two: it is running; pause it")?;

    // One that was never started, and one in quarantine, give their cores to it.
    answered(&mut console, "destroy idle", "guest idle is destroyed")?;
    answered(&mut console, "quarantine two", "guest two is quarantined")?;
    answered(&mut console, "destroy two", "guest two is told to stop, and is destroyed then")?;
    console.wait_for("guest two: destroyed: core 2 and 32 MiB are free\r\n")?;
    answered(&mut console, "define two --cores 2", "guest two is defined: cores 2, 3, 16 MiB")?;
    answered(&mut console, "start two", "guest two is started")?;
    console.guest("two")?.wait_for("two: ready\r\n")?;
    answered(&mut console, "pause two", "guest two is paused")?;
    // Its second processor is there.
    answered(&mut console, "registers two 1", "guest two, processor 1:")?;
    answered(&mut console, "resume two", "guest two goes on")?;
    echoes(&mut console, "again")?;
    answered(&mut console, "destroy two", "guest two is told to stop, and is destroyed then")?;
    console.wait_for("guest two: destroyed: cores 2, 3 and 16 MiB are free\r\n")?;

    let mut after = Vec::new();
    for number in 0..DEFINITIONS {
        let cores = 1 + number % 2;
        answered(&mut console, &format!("define two --cores {cores}"), "guest two is defined")?;
        answered(&mut console, "start two", "guest two is started")?;
        console.guest("two")?.wait_for("two: ready\r\n")?;
        answered(&mut console, "destroy two", "guest two is told to stop")?;
        console.wait_for("guest two: destroyed: ")?;
        if number == 1 || number == DEFINITIONS - 1 {
            console.control("audit")?;
            after.push(console.control("memory")?);
        }
    }
    ensure!(after[0] == after[1], "{after:?}");
    answered(&mut console, "plan", "hypervisor: core 0 (APIC ID 0), ")?;
    console.wait_for("console: left over: core 2, core 3, ")?;
    answered(&mut console, "power-off", "the machine is switched off")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");
    Ok(())
}

/// Gives a command, and fails unless its answer begins with a text.
fn answered(console: &mut Console, command: &str, answer: &str) -> Result<()> {
    let said = console.control(command)?;
    ensure!(said.starts_with(answer), "`{command}`: {said}");
    Ok(())
}

/// Types to the guest `two` and sees that it answers.
fn echoes(console: &mut Console, text: &str) -> Result<()> {
    console.guest("two")?.send(&format!("{text}\r"))?;
    console.guest("two")?.wait_for(&format!("two: got \"{text}\"\r\n")).map(|_| ())
}

fn verbs(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let boot = Boot::of_guests(name, &[echo("one"), echo("two").by_hand()])?;
    let folder = boot.machine.folder.clone();
    let mut console = boot.start()?;
    console.guest("one")?.wait_for("one: ready\r\n")?;
    for verb in ["pause", "resume", "stop", "quarantine", "release"] {
        let refused = format!("cannot {verb} guest two: it is defined");
        answered(&mut console, &format!("{verb} two"), &refused)?;
    }
    // There is one that can still be started.
    answered(&mut console, "stop one", "guest one is told to stop, as it does not listen")?;
    console.wait_for("guest one: stopped by the operator\r\n")?;
    answered(&mut console, "start two", "guest two is started")?;
    console.guest("two")?.wait_for("two: ready\r\n")?;
    answered(&mut console, "start two", "cannot start guest two: it is running")?;
    answered(&mut console, "release two", "cannot release guest two: it is running")?;
    echoes(&mut console, "hello")?;
    answered(&mut console, "examine two 0", "cannot examine guest two: it is running; pause it")?;

    answered(&mut console, "quarantine two", "guest two is quarantined, after ")?;
    for verb in ["start", "pause", "resume", "quarantine"] {
        let refused = format!("cannot {verb} guest two: it is quarantined");
        answered(&mut console, &format!("{verb} two"), &refused)?;
    }
    answered(&mut console, "registers two 0", "guest two, processor 0:")?;
    console.wait_for("console:   rip 00000000002")?;
    answered(
        &mut console,
        "registers two 1",
        "cannot examine guest two: it has no such processor; they are 0 to 0",
    )?;
    answered(&mut console, "examine two 0xe0000", "guest two, guest-physical memory:")?;
    // What begins the ACPI tables.
    console.wait_for("52 53 44 20 50 54 52 20 ")?;
    console.wait_for("  RSD PTR ")?;
    answered(&mut console, "examine two 0xfee00000", "guest two has no RAM there")?;
    console.guest("two")?.send("lost")?;
    answered(&mut console, "release two", "guest two is paused")?;
    answered(&mut console, "resume two", "guest two goes on")?;
    // What was typed in between has not come in.
    echoes(&mut console, "again")?;

    answered(&mut console, "restart two --now", "guest two is told to stop; it is started again")?;
    console.guest("two")?.wait_for("two: ready\r\n")?;
    answered(&mut console, "info two", "guest two is running")?;
    console.wait_for("console:   start by-hand, restart never\r\n")?;
    inventory(&mut console)?;
    answered(&mut console, "restart one", "guest one is started")?;
    console.guest("one")?.wait_for("one: ready\r\n")?;
    // Also from quarantine.
    answered(&mut console, "quarantine one", "guest one is quarantined, after ")?;
    answered(&mut console, "stop one", "guest one is told to stop")?;
    answered(&mut console, "stop two", "guest two is told to stop")?;
    let (records, digest) = {
        let said = console.control("audit")?;
        let (records, digest) = said
            .split_once(" records; the digest of the last is ")
            .with_context(|| said.clone())?;
        (records.to_string(), digest.to_string())
    };
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    audited(&folder.join(RECORD), &records, &digest)
}

/// What exists, for people and for programs.
fn inventory(console: &mut Console) -> Result<()> {
    let digest = blake3(&fs::read(program("echo")?)?);
    answered(console, "inventory", "one: stopped, owner tests, test, expires never: a test")?;
    console.wait_for(&format!("console:   kernel       {digest}  echo\r\n"))?;
    let line = blake3(b"name=two");
    console.wait_for(&format!("console:   command line {line}  name=two\r\n"))?;
    answered(
        console,
        "inventory --json",
        &format!(
            "{{\"name\":\"one\",\"state\":\"stopped\",\"owner\":\"tests\",\
             \"purpose\":\"a test\",\"classification\":\"test\",\"expires\":\"never\",\
             \"on_expiry\":\"report\",\"expired\":false,\"kernel\":{{\"name\":\"echo\",\"blake3\":\"{digest}\"}},\"initrd\":null,"
        ),
    )?;
    let listed = console.control("list --json")?;
    let listed: serde_json::Value = serde_json::from_str(&listed).context(listed)?;
    ensure!(listed["state"] == "stopped" && listed["memory"] == 16 << 20, "{listed}");
    ensure!(listed["cores"] == serde_json::json!([1]) && listed["uptime"].is_null(), "{listed}");
    answered(console, "list all", "list takes nothing but --json")
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
        " tester@console: pause two: refused: cannot pause guest two: it is defined ",
        " guest: two is running ",
        " tester@console: quarantine two: guest two is quarantined, after ",
        " guest: two is quarantined ",
        " tester@console: restart two --now: guest two is told to stop; it is started again then ",
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
