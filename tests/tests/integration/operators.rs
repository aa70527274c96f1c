//! Who may do what: signing in, roles, and a machine without operators.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulkhead_operators::{Cost, Role, make};
use bulkhead_tests::{Boot, Console, End, Guest};
use libtest_mimic::Trial;
use serde_json::json;
use xtask::emulator::RECORD;

use crate::client::{Client, refused};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("operators::without_one_guests_can_be_looked_at_and_not_touched", nobody),
        trial("operators::each_does_what_the_role_allows_once_signed_in", roles),
        trial("operators::each_command_is_refused_to_clients_below_its_role", by_client),
    ]
}

/// Every command, with the least role for it.
const COMMANDS: [(&str, Role); 22] = [
    ("list", Role::Viewer),
    ("inventory", Role::Viewer),
    ("info one", Role::Viewer),
    ("exits one", Role::Viewer),
    ("top", Role::Viewer),
    ("plan", Role::Viewer),
    ("memory", Role::Viewer),
    ("audit", Role::Viewer),
    ("start one", Role::Operator),
    ("pause one", Role::Operator),
    ("resume one", Role::Operator),
    ("quarantine one", Role::Operator),
    ("restart one --now", Role::Operator),
    ("stop one --now", Role::Operator),
    ("release one", Role::Administrator),
    ("destroy one", Role::Administrator),
    ("define one", Role::Administrator),
    ("log", Role::Administrator),
    ("examine one 0", Role::Administrator),
    ("registers one 0", Role::Administrator),
    ("dump one", Role::Administrator),
    ("power-off", Role::Administrator),
];

/// Whoever comes by the client is refused each command beyond his role, and none below it for that reason.
fn by_client(name: &str) -> Result<()> {
    let operators: String = PEOPLE.into_iter().map(|(name, role)| operator(name, role)).collect();
    let guest = Guest::new("echo").named("one").with("name=one");
    let mut machine = Client::of(Boot::of_guests_with(name, &[guest], &operators)?)?;
    machine.console.wait_for("one: ready\r\n")?;
    for (command, _) in COMMANDS {
        refused(&machine.ctl_as(None, command)?, "sign in first: sign-in NAME PASSWORD")?;
    }
    for (name, role) in PEOPLE {
        for (command, needed) in COMMANDS.into_iter().filter(|(_, needed)| *needed > role) {
            let finished = machine.ctl_as(Some((name, &format!("{name}'s own"))), command)?;
            let why = format!("this takes the role {needed}; you are signed in as {role}");
            refused(&finished, &why).with_context(|| format!("{name}: {command}"))?;
        }
    }
    // What was refused was not done.
    for (name, command, said) in [
        ("vera", "info one", "guest one is running\n"),
        ("olga", "pause one", "guest one is paused, after "),
        ("olga", "quarantine one", "guest one is quarantined, after "),
        ("anna", "registers one 0", "guest one, processor 0:\n"),
        ("anna", "destroy one", "guest one is told to stop, and is destroyed then"),
    ] {
        let finished = machine.ctl_as(Some((name, &format!("{name}'s own"))), command)?;
        finished.expect(0, &[]).with_context(|| format!("{name}: {command}"))?;
        ensure!(finished.output.starts_with(said), "{name}: {command}: {}", finished.output);
    }
    let nobody = json!({"channel": "console", "operator": null, "role": null, "seconds": null});
    let who = machine.ctl_as(None, "who --json")?.output;
    let console: serde_json::Value = serde_json::from_str(who.lines().next().unwrap_or_default())?;
    ensure!(console == nobody, "{who}");
    let wrong = machine.ctl_as(Some(("anna", "vera's own")), "list")?;
    refused(&wrong, "the name or the password is wrong; try again in 1 s")?;
    // Who comes by the console does not wait for that.
    expect(&mut machine.console, "sign-in anna anna's own", "anna is signed in")?;
    expect(&mut machine.console, "power-off", "the machine is switched off when")?;
    machine.console.expect_power_off(1)
}

fn expect(console: &mut Console, command: &str, answer: &str) -> Result<()> {
    let said = console.order(command)?;
    ensure!(said.starts_with(answer), "`{command}`: {said}");
    Ok(())
}

fn nobody(name: &str) -> Result<()> {
    let guest = Guest::new("echo").named("one").with("name=one");
    let mut console = Boot::of_guests_with(name, &[guest], "")?.start()?;
    console.wait_for("one: ready\r\n")?;
    for (command, answer) in [
        ("list", "  NAME STATE"),
        ("info one", "guest one is running"),
        ("who", "console: nobody"),
        ("attach one", "input goes to guest one"),
        ("sign-in anna secret enough", "nobody can sign in: the manifest has no [[operator]]"),
        ("pause one", "this takes the role operator, and the manifest has no [[operator]]"),
        ("examine one 0", "this takes the role administrator, and the manifest has no"),
        ("power-off", "this takes the role administrator, and the manifest has no [[operator]]"),
    ] {
        expect(&mut console, command, answer)?;
    }
    console.send("quit\r")?;
    console.expect_power_off(1)
}

/// One of each role.
const PEOPLE: [(&str, Role); 3] =
    [("vera", Role::Viewer), ("olga", Role::Operator), ("anna", Role::Administrator)];

/// The lines of a manifest for an operator whose password begins with the name.
fn operator(name: &str, role: Role) -> String {
    let hash = make(format!("{name}'s own").as_bytes(), b"sixteen bytes...", Cost::LEAST);
    let hash = hash.unwrap_or_default();
    format!("[[operator]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{hash}\"\n\n")
}

fn roles(name: &str) -> Result<()> {
    let operators: String = PEOPLE.into_iter().map(|(name, role)| operator(name, role)).collect();
    let guest = Guest::new("echo").named("one").with("name=one");
    let boot = Boot::of_guests_with(name, &[guest], &operators)?;
    let record = boot.machine.folder.join(RECORD);
    let mut console = boot.start()?;
    console.wait_for("one: ready\r\n")?;
    for (command, answer) in [
        ("list", "sign in first: sign-in NAME PASSWORD"),
        ("pause one", "sign in first"),
        ("sign-in vera", "sign-in takes your name and your password"),
        ("sign-in vera vera's own", "vera is signed in as viewer"),
        ("list", "  NAME STATE"),
        ("pause one", "this takes the role operator; you are signed in as viewer"),
        ("sign-in olga olga's own", "olga is signed in as operator"),
        ("pause one", "guest one is paused"),
        ("registers one 0", "this takes the role administrator; you are signed in as operator"),
        ("release one", "this takes the role administrator"),
        ("resume one", "guest one goes on"),
        // Who fails to sign in is nobody.
        ("sign-in anna olga's own", "the name or the password is wrong; try again in 1 s"),
        ("pause one", "sign in first"),
    ] {
        expect(&mut console, command, answer)?;
    }
    // Until a second has passed, which may be now.
    let mut tries = 0;
    while !console.order("sign-in anna anna's own")?.starts_with(
        "anna is signed in as administrator; wrong passwords were given here before: 1",
    ) {
        tries += 1;
        ensure!(tries < 10_000, "never signed in");
    }
    for (command, answer) in [
        ("who", "console: anna, administrator, for "),
        ("quarantine one", "guest one is quarantined"),
        ("examine one 0x1000", "guest one, guest-physical memory:"),
        ("release one", "guest one is paused"),
        ("sign-out", "anna is signed out"),
        ("sign-out", "nobody is signed in"),
        ("stop one", "sign in first"),
        ("sign-in olga olga's own", "olga is signed in as operator"),
        ("stop one", "guest one is told to stop"),
    ] {
        expect(&mut console, command, answer)?;
    }
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 1, faulted: 0 }, "{end:?}");
    let log = String::from_utf8_lossy(&fs::read(record)?).into_owned();
    for told in [
        " console: list: refused: sign in first",
        " vera@console: pause one: refused: this takes the role operator",
        " olga@console: pause one: guest one is paused",
        " olga@console: sign-in anna: refused: the name or the password is wrong",
        " console: sign-in (name not shown): refused: sign-in takes",
        " anna@console: examine one 0x1000: guest one, guest-physical memory:",
    ] {
        ensure!(log.contains(told), "no record has \"{told}\"");
    }
    ensure!(!log.contains("'s own"), "a password is in the log");
    Ok(())
}
