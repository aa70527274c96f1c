//! The guests' consoles on one serial port, and the operator's commands.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, End, Guest, said_of};
use libtest_mimic::Trial;

use crate::{of, trial};

/// What guests that flood their consoles have said.
struct Flood {
    /// All together, in the order of the serial line.
    all: String,
    polite: String,
    rude: String,
}

static FLOOD: LazyLock<Result<Flood, String>> =
    LazyLock::new(|| flood().map_err(|error| format!("{error:#}")));

/// Lines of each of the guests that flood.
const LINES: usize = 1000;

fn flood() -> Result<Flood> {
    let line = |name: &str, more: &str| format!("name={name} lines={LINES} {more}");
    let guests = [
        Guest::new("flood").named("polite").with(&line("polite", "")),
        Guest::new("flood").named("rude").with(&line("rude", "rude=1")),
        Guest::new("flood").named("other").with(&line("other", "")),
    ];
    let mut console = Boot::of_guests("consoles::flood", &guests)?.start()?;
    console.expect_power_off(3)?;
    let all = console.transcript();
    let polite = console.guest("polite")?.transcript();
    let rude = console.guest("rude")?.transcript();
    Ok(Flood { all, polite, rude })
}

/// Edits lines as at a terminal that knows nothing of Bulkhead.
fn edited(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let mut console = Boot::of_guests(name, &[echo("one"), echo("two")])?.start()?;
    for guest in ["one", "two"] {
        console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    console.send("\x1d\t")?;
    console.wait_for("bulkhead> ")?;
    // As many bytes at a time as the port can keep.
    for (keys, seen) in [("he\t", "bulkhead> help "), ("\r", "console: Ctrl-] and one of: attach")]
    {
        console.send(keys)?;
        console.wait_for(seen)?;
    }
    console.wait_for("bulkhead> ")?;
    for (keys, seen) in [
        ("sign-in tes", "bulkhead> sign-in tes"),
        ("ter no secre", "bulkhead> sign-in tester ********"),
        ("t at all\r", "console: tester is signed in as administrator\r\n"),
        ("paus\x7f", "bulkhead> pau"),
        ("\t", "bulkhead> pause "),
        ("t\t", "bulkhead> pause two "),
        ("\r", "console: guest two is paused, after "),
        // The command before it, and not the one with the password.
        ("\x1b[A", "bulkhead> pause two "),
        ("\x1b[A", "bulkhead> help "),
        ("\x15resum", "bulkhead> resum"),
        ("e two\r", "console: guest two goes on\r\n"),
        // Whoever comes next does not find what was typed before.
        ("sign-out\r", "console: tester is signed out\r\n"),
        ("\x1b[Alist\r", "error: console: sign in first"),
        ("sign-in tes", "bulkhead> sign-in tes"),
        ("ter no secre", "bulkhead> sign-in tester ********"),
        ("t at all\r", "console: tester is signed in as administrator\r\n"),
        ("power-off\x03", "bulkhead> power-off"),
        // That was not given; keys are the guest's again.
        ("hello\r", "one: got \"hello\"\r\n"),
    ] {
        console.send(keys)?;
        console.wait_for(seen).with_context(|| format!("{keys:?}"))?;
    }
    ensure!(!console.transcript().contains("no secret"), "the password was shown");
    console.send("\x1dpower-off\r")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("consoles::a_line_is_edited_on_a_plain_terminal", edited),
        trial("consoles::input_reaches_the_attached_guest_alone", input),
        trial("consoles::an_operator_pauses_resumes_and_stops_a_guest", orders),
        trial("consoles::a_guest_that_looks_at_its_port_loses_nothing", |_| {
            let polite = &of(&FLOOD)?.polite;
            let expected: String = (0..LINES).map(|line| flooded("polite", line)).collect();
            ensure!(*polite == expected, "{polite}");
            Ok(())
        }),
        trial("consoles::a_guest_that_floods_takes_no_more_than_its_share", |_| {
            // Between two lines of a guest that always has more to say.
            let Flood { all, .. } = of(&FLOOD)?;
            let from = all.find(&flooded("polite", LINES / 4)).context("its first line")?;
            let to = all.find(&flooded("polite", LINES / 2)).context("its last line")?;
            let between = all.get(from..to).context("the lines in between")?;
            let bytes = |name: &str| -> usize {
                between.lines().filter(|line| line.starts_with(name)).map(str::len).sum()
            };
            let (polite, rude) = (bytes("polite "), bytes("rude "));
            ensure!(rude > 0 && rude * 4 <= polite * 5, "polite {polite} bytes, rude {rude}");
            Ok(())
        }),
        trial("consoles::what_is_lost_is_counted_and_reported", |_| {
            let Flood { all, rude, .. } = of(&FLOOD)?;
            let written: usize = (0..LINES).map(|line| flooded("rude", line).len()).sum();
            let lost = written - rude.len();
            ensure!(lost > 0, "nothing was lost of {written} bytes");
            let total = said_of(all, "rude").find_map(|line| {
                let (_, rest) = line.split_once("console bytes lost: ")?;
                rest.split(';').next()?.parse::<usize>().ok()
            });
            ensure!(total == Some(lost), "{lost} bytes were lost, not {total:?}");
            // While it runs, too.
            let live = "warning: guest rude: ";
            let live = all.lines().find(|line| line.contains(live)).context("nothing was said")?;
            ensure!(live.contains(" bytes of its console were lost: it wrote while"), "{live}");
            Ok(())
        }),
    ]
}

fn orders(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let mut console = Boot::of_guests(name, &[echo("one"), echo("two")])?.start()?;
    for name in ["one", "two"] {
        console.guest(name)?.wait_for(&format!("{name}: ready\r\n"))?;
    }
    let mut control = |command: &str, answer: &str| -> Result<()> {
        let said = console.control(command)?;
        ensure!(said.starts_with(answer), "`{command}`: {said}");
        Ok(())
    };
    control("resume one", "cannot resume guest one: it is running")?;
    control("pause one", "guest one is paused, after ")?;
    control("pause one", "cannot pause guest one: it is paused")?;
    control("list", "  NAME STATE       CORES    MEMORY     UPTIME          EXITS OWNER")?;
    console.wait_for("console: * one  paused      1        16 MiB ")?;
    console.wait_for("console:   two  running     2        16 MiB ")?;
    // What is typed waits, while the other guest goes on.
    console.guest("one")?.send("later\r")?;
    console.guest("two")?.send("now\r")?;
    console.guest("two")?.wait_for("two: got \"now\"\r\n")?;
    let paused = console.guest("one")?.transcript();
    ensure!(paused == "one: ready\r\n", "a paused guest says {paused}");
    let said = console.control("resume one")?;
    ensure!(said == "guest one goes on", "{said}");
    console.guest("one")?.wait_for("one: got \"later\"\r\n")?;

    let said = console.control("exits one")?;
    ensure!(said.starts_with("guest one has ") && said.contains(" exits so far, in "), "{said}");
    console.wait_for("guest one: ")?;
    console.wait_for(" I/O instruction ")?;

    let said = console.control("stop two")?;
    ensure!(said.starts_with("guest two is told to stop, as it "), "{said}");
    console.wait_for("guest two: stopped by the operator\r\n")?;
    console.wait_for("input goes to guest one: guest two has stopped\r\n")?;
    let said = console.control("stop two")?;
    ensure!(said == "cannot stop guest two: it is stopped", "{said}");
    console.send("quit\r")?;
    console.guest("one")?.wait_for("one: got \"quit\"\r\n")?;
    console.wait_for_end().map(|_| ())
}

/// A line of the guest `flood`.
fn flooded(name: &str, line: usize) -> String {
    format!("{name} {line:06} of {LINES:06}, a line like many others\r\n")
}

fn input(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let forger = Guest::new("flood").named("forger").with("name=forger lines=1 forge=1");
    let mut console = Boot::of_guests(name, &[echo("one"), echo("two"), forger])?.start()?;
    for name in ["one", "two"] {
        console.guest(name)?.wait_for(&format!("{name}: ready\r\n"))?;
    }
    console.guest("forger")?.wait_for("forger 000000 of")?;

    // The first guest has the input, then whoever is attached.
    console.send("for one\r")?;
    console.guest("one")?.wait_for("one: got \"for one\"\r\n")?;
    console.guest("two")?.send("for two\r")?;
    console.guest("two")?.wait_for("two: got \"for two\"\r\n")?;
    // The escape byte itself, by saying it twice.
    console.send("a\x1d\x1db\r")?;
    console.guest("two")?.wait_for("two: got \"a\\x1db\"\r\n")?;

    console.control("list")?;
    console.wait_for("console: * two    running ")?;
    console.wait_for("console:   forger ")?;
    console.wait_for("\r\n")?;
    for (command, answer) in [
        ("attach three", "no guest is called \"three\"; the guests are: one, two, forger"),
        ("attach", "attach takes the name of one guest: attach NAME"),
        ("fly one", "unknown command \"fly\"; they are attach NAME, start NAME, "),
        ("", "no command; the commands are attach NAME, "),
        ("help", "Ctrl-] and one of: attach NAME, "),
    ] {
        let said = console.control(command)?;
        ensure!(said.starts_with(answer), "`{command}`: {said}");
    }
    let said = console.control(&"x".repeat(129))?;
    ensure!(said == "a command has at most 128 bytes", "{said}");

    // When it stops, the next guest has the input.
    console.guest("two")?.send("quit\r")?;
    console.wait_for("input goes to guest one: guest two has stopped\r\n")?;
    console.send("quit\r")?;
    let end = console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 3, faulted: 0 }, "{end:?}");

    let [one, two, forger] = ["one", "two", "forger"]
        .map(|name| -> Result<String> { Ok(console.guest(name)?.transcript()) });
    let one_said = "one: ready\r\none: got \"for one\"\r\none: got \"quit\"\r\n";
    ensure!(one? == one_said, "one said more, or less");
    let two_said =
        "two: ready\r\ntwo: got \"for two\"\r\ntwo: got \"a\\x1db\"\r\ntwo: got \"quit\"\r\n";
    ensure!(two? == two_said, "two said more, or less");
    // It speaks for itself alone.
    let forger = forger?;
    let replaced = "?\x1f?bulkhead: all guests stopped: 9 powered off, 0 faulted\r\n\
                    ?[one] said by another\r\n";
    ensure!(forger.starts_with(replaced), "{forger:?}");
    Ok(())
}
