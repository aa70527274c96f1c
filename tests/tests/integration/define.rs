//! Guests that lose their place, and are given another.

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, End, Guest};
use libtest_mimic::Trial;

use crate::client::Client;
use crate::trial;
use crate::verbs::{answered, echoes};

pub fn trials() -> Vec<Trial> {
    vec![trial("define::a_guest_is_destroyed_and_defined_with_other_cores_and_memory", define)]
}

/// So often a guest is defined, started and destroyed to see that nothing is lost.
const DEFINITIONS: u32 = 50;

/// Takes guests' places away and gives them others, as far as they may have them.
fn define(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let quota = "[[quota]]\nowner = \"tests\"\nmemory = \"64 MiB\"\n\n";
    let guests = [echo("one"), echo("two"), echo("idle").by_hand()];
    let mut machine = Client::of(Boot::of_guests_and(name, &guests, quota)?)?;
    for guest in ["one", "two"] {
        machine.console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    let planned = "guest two: core 2 (APIC ID 2), 16 MiB at ";
    let hypervisor = "hypervisor: core 0 (APIC ID 0), ";
    machine.shows("plan", hypervisor, &[planned, "\nleft over: no core, "])?;
    let taken = "cannot define guest two: it is running; destroy it first";
    machine.refuses("define two", taken)?;
    machine.answers("destroy two", "guest two is told to stop, and is destroyed then")?;
    machine.console.wait_for("guest two: destroyed: core 2 and 16 MiB are free\r\n")?;
    machine.refuses("destroy two", "cannot destroy guest two: it is undefined")?;
    machine.refuses("start two", "cannot start guest two: it is undefined; define it")?;
    machine.shows("info two", "guest two is undefined\n", &["\n  no cores and no memory\n"])?;

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
        machine.refuses(&format!("define two {options}"), &refused)?;
    }
    machine.refuses("define two 2", "define takes the name of one guest, and what is")?;
    // And what it can.
    machine.answers(
        "define two --cores [2] --memory 32MiB",
        "guest two is defined: core 2, 32 MiB at 0x",
    )?;
    machine.answers("start two", "guest two is started")?;
    machine.console.guest("two")?.wait_for("two: ready\r\n")?;
    echoes(&mut machine.console, "hello")?;
    machine.refuses("examine two 0", "cannot examine guest two: it is running; pause it")?;

    // One that was never started, and one in quarantine, give their cores to it.
    machine.answers("destroy idle", "guest idle is destroyed")?;
    machine.answers("quarantine two", "guest two is quarantined")?;
    machine.answers("destroy two", "guest two is told to stop, and is destroyed then")?;
    machine.console.wait_for("guest two: destroyed: core 2 and 32 MiB are free\r\n")?;
    machine.answers("define two --cores 2", "guest two is defined: cores 2, 3, 16 MiB")?;
    machine.answers("start two", "guest two is started")?;
    machine.console.guest("two")?.wait_for("two: ready\r\n")?;
    machine.answers("pause two", "guest two is paused")?;
    // Its second processor is there.
    machine.answers("registers two 1", "guest two, processor 1:")?;
    machine.answers("resume two", "guest two goes on")?;
    echoes(&mut machine.console, "again")?;
    machine.answers("destroy two", "guest two is told to stop, and is destroyed then")?;
    machine.console.wait_for("guest two: destroyed: cores 2, 3 and 16 MiB are free\r\n")?;

    let console = &mut machine.console;
    let mut after = Vec::new();
    for number in 0..DEFINITIONS {
        let cores = 1 + number % 2;
        answered(console, &format!("define two --cores {cores}"), "guest two is defined")?;
        answered(console, "start two", "guest two is started")?;
        console.guest("two")?.wait_for("two: ready\r\n")?;
        answered(console, "destroy two", "guest two is told to stop")?;
        console.wait_for("guest two: destroyed: ")?;
        if number == 1 || number == DEFINITIONS - 1 {
            console.control("audit")?;
            after.push(console.control("memory")?);
        }
    }
    ensure!(after[0] == after[1], "{after:?}");
    machine.shows("plan", hypervisor, &["\nleft over: core 2, core 3, "])?;
    machine.answers("power-off", "the machine is switched off")?;
    let end = machine.console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");
    Ok(())
}
