//! The control protocol, through the client that an operator uses.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, End, Finished, Guest, xtask};
use libtest_mimic::Trial;
use xtask::control::socket;
use xtask::emulator::RECORD;

use crate::client::Client;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("control::a_client_commands_a_machine_by_its_second_port", |name| {
            commanded(name, true)
        }),
        trial("control::a_client_commands_a_machine_that_has_one_port", |name| {
            commanded(name, false)
        }),
        trial("control::the_memory_of_a_guest_that_stands_still_is_saved", dump),
        trial("control::the_longest_inventory_comes_whole", inventory),
        trial("control::a_port_without_a_machine_is_named", |_| {
            ctl("/nonexistent/control", "list")?
                .expect(1, &["/nonexistent/control: there is no such port; `cargo xtask run`"])?;
            ctl("Cargo.toml", "list")?
                .expect(1, &["Cargo.toml is no port: a socket of `cargo xtask run` is needed"])?;
            ctl("/dev/null", "list")?.expect(1, &["/dev/null: is that a serial device?"])
        }),
    ]
}

/// Gives a command at a port where there is no machine.
fn ctl(port: &str, command: &str) -> Result<Finished> {
    xtask(&["ctl", "--port", port, "--", command], "")
}

fn commanded(name: &str, second_port: bool) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let mut boot = Boot::of_guests(name, &[echo("one"), echo("two")])?;
    boot.machine.second_port = second_port;
    let folder = boot.machine.folder.clone();
    let mut machine = Client::of(boot)?;
    for name in ["one", "two"] {
        machine.console.guest(name)?.wait_for(&format!("{name}: ready\r\n"))?;
    }
    let by = if second_port { "COM2" } else { "COM1" };
    ensure!(machine.console.transcript().contains(&format!("control protocol on {by}\r\n")));

    // Garbage first: half a frame, one that is none, and what would be a command on the console.
    {
        let mut stream = socket::connect(&machine.port)?;
        stream.write_all(b"\x1d\x02half\x1d\x02none\x1d\x03")?;
        if second_port {
            stream.write_all(b"stop one\r\x1dstop one\r")?;
        }
        unusable(&mut machine.console, &mut stream)?;
    }
    let listed = machine.done("list")?;
    let mut lines = listed.lines();
    let [head, one, two] = [(); 3].map(|()| lines.next().unwrap_or_default());
    ensure!(head.starts_with("  NAME STATE       CORES "), "{listed}");
    ensure!(one.starts_with("* one  running     1 "), "{listed}");
    ensure!(two.starts_with("  two  running     2 ") && lines.next().is_none(), "{listed}");
    let listed = machine.json("list --json")?;
    ensure!(listed.len() == 2 && listed[1]["name"] == "two", "{listed:?}");

    let paused = machine.done("pause two")?;
    ensure!(paused.starts_with("guest two is paused, after "), "{paused}");
    machine.refuses("pause two", "cannot pause guest two: it is paused")?;
    machine.refuses("fly", "unknown command \"fly\"; they are ")?;
    machine.refuses("pause three", "no guest is called \"three\"")?;
    let long = "x".repeat(129);
    machine.ctl(&long)?.expect(1, &["a command has at most 128 bytes, not 129"])?;
    // The console's answers and the protocol's do not mix.
    let said = machine.console.control("resume two")?;
    ensure!(said == "guest two goes on", "{said}");
    let exits = machine.done("exits one")?;
    ensure!(exits.contains(" I/O instruction "), "{exits}");
    let log = machine.done("log")?;
    ensure!(log.contains("] guest two: starting on core 2\n"), "{log}");
    ensure!(!log.contains("console: guest two goes on"), "an answer: {log}");
    machine.done("attach two")?;
    machine.console.wait_for("input goes to guest two: told so by control\r\n")?;
    machine.console.send("hello\r")?;
    machine.console.guest("two")?.wait_for("two: got \"hello\"\r\n")?;

    let heard = machine.console.transcript();
    ensure!(!heard.contains("console: guest two is paused"), "an answer is in the log");
    let off = machine.done("power-off")?;
    ensure!(off.starts_with("the machine is switched off when"), "{off}");
    let end = machine.console.wait_for_end()?;
    ensure!(end == End::Stopped { powered_off: 2, faulted: 0 }, "{end:?}");
    let heard = machine.console.transcript();
    ensure!(heard.contains("control protocol: 2 frames could not be used\r\n"), "they are counted");
    audited(&folder.join(RECORD))
}

/// Saves a guest's memory, twice alike, and not while it runs.
fn dump(name: &str) -> Result<()> {
    let guest = Guest::new("echo").named("one").with("name=one").with_memory_mib(4);
    let mut boot = Boot::of_guests(name, &[guest])?;
    boot.machine.second_port = true;
    let folder = boot.machine.folder.clone();
    let mut machine = Client::of(boot)?;
    machine.console.guest("one")?.wait_for("one: ready\r\n")?;
    let files = ["first", "second"].map(|name| folder.join(name));
    for file in &files {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    let [first, second] = &files;
    let runs = "refused: cannot dump guest one: it is running; pause it or put it into quarantine";
    machine.save(first, "dump one")?.expect(1, &[runs])?;
    ensure!(!first.exists(), "of a refusal nothing is kept");
    machine.done("pause one")?;
    let said = machine.console.control("dump one")?;
    ensure!(said == "a dump is for a program: cargo xtask ctl --save FILE -- dump one", "{said}");
    let saved = machine.save(first, "dump one")?;
    saved.expect(0, &[])?;
    let again = machine.save(second, "dump one")?;
    again.expect(0, &[])?;
    ensure!(again.output == saved.output, "{} {}", again.output, saved.output);
    let bytes = std::fs::read(first)?;
    ensure!(bytes.len() == 4 << 20 && bytes == std::fs::read(second)?, "{}", bytes.len());
    // What begins the ACPI tables, and the guest's command line.
    ensure!(bytes[0xE_0000..].starts_with(b"RSD PTR "), "{:?}", &bytes[0xE_0000..0xE_0008]);
    ensure!(bytes.windows(8).any(|text| text == b"name=one"), "no command line");
    machine.save(first, "dump one")?.expect(1, &["which must not be there yet"])?;
    machine.save(&folder.join("third"), "list")?.expect(1, &["is no line of a dump; --save is"])?;
    machine.done("power-off")?;
    machine.console.wait_for_end()?;
    let record = String::from_utf8_lossy(&std::fs::read(folder.join(RECORD))?).into_owned();
    let digest = saved.output.trim();
    ensure!(record.contains(&format!(" guest: one was {digest}")), "no record of {digest}");
    // And nothing of the memory itself.
    let begun = " tester@control: dump one: the dump of guest one begins ";
    ensure!(record.contains(begun), "no record of the command");
    Ok(())
}

/// Waits until the machine has said that frames cannot be used.
fn unusable(console: &mut Console, stream: &mut UnixStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut decoder = bulkhead_control::Decoder::default();
    let mut said = 0;
    let mut byte = [0];
    // As long as a wait on the console may take.
    for _ in 0..3000 {
        console.listen(Duration::from_millis(10))?;
        while stream.read(&mut byte).is_ok_and(|length| length > 0) {
            let frame = decoder.feed(byte[0]).and_then(Result::ok);
            said += u32::from(frame.is_some_and(|f| f.kind == bulkhead_control::Kind::Unusable));
        }
        if said == 2 {
            return Ok(());
        }
    }
    anyhow::bail!("{said} frames were said to be unusable, not 2")
}

/// The trail names the channel, and is whole.
fn audited(record: &Path) -> Result<()> {
    let verified = xtask(&["audit".as_ref(), "verify".as_ref(), record.as_os_str()], "")?;
    verified.expect(0, &[])?;
    let log = String::from_utf8_lossy(&std::fs::read(record)?).into_owned();
    for told in [
        " control: sign-in tester: tester is signed in as administrator ",
        " tester@control: list:   NAME ",
        " tester@control: pause two: guest two is paused, after ",
        " tester@control: pause two: refused: cannot pause guest two: it is paused ",
        " tester@control: fly: refused: unknown command ",
        " tester@console: resume two: guest two goes on ",
        " hypervisor: tester@control is signed out: the next client came ",
    ] {
        ensure!(log.contains(told), "no record has \"{told}\"");
    }
    ensure!(!log.contains(": stop one"), "garbage was a command");
    Ok(())
}

/// As many guests as Bochs has cores for, with the longest command lines: far more than waits at a time.
fn inventory(name: &str) -> Result<()> {
    const GUESTS: usize = 7;
    let line = "\\u001b".repeat(2047);
    let guests: Vec<_> = (0..GUESTS)
        .map(|number| Guest::new("hello").named(&format!("guest-{number}")).with(&line).by_hand())
        .collect();
    let boot = Boot::of_guests(name, &guests)?;
    let mut machine = Client::of(boot)?;
    machine.console.wait_for(&format!("guest guest-{}: is started by hand", GUESTS - 1))?;
    let listed = machine.json("inventory --json")?;
    ensure!(listed.len() == GUESTS, "{} guests", listed.len());
    for guest in &listed {
        let text = guest["command_line"]["text"].as_str().context("a command line")?;
        ensure!(text.len() == 2047 && text.bytes().all(|byte| byte == 0x1b), "{text:?}");
    }
    machine.done("power-off")?;
    machine.console.wait_for_end().map(|_| ())
}
