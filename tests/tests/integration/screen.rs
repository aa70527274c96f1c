//! `cargo xtask run` on the whole screen of a terminal: what a user sees.

use std::ffi::OsStr;
use std::sync::{MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, Guest, OPERATOR, PASSWORD, Permit, Terminal, xtask};
use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::commands::ONE;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("screen::guests_their_states_and_the_chosen_console_are_seen", seen),
        trial("screen::what_went_wrong_is_left_on_the_terminal", refused),
        trial("screen::a_signal_ends_it_and_the_terminal_is_as_before", signal),
    ]
}

/// `cargo xtask run` with two guests, on a terminal.
struct Run {
    // In the order in which they are to be dropped.
    terminal: Terminal,
    _permit: Permit,
    _one: MutexGuard<'static, ()>,
}

fn start(name: &str, more: &[&str]) -> Result<Run> {
    let guests =
        ["one", "two"].map(|name| Guest::new("echo").named(name).with(&format!("name={name}")));
    let boot = Boot::of_guests(name, &guests)?;
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let permit = Permit::wait();
    let run: Vec<_> =
        ["run", "--emulator", "bochs"].iter().chain(more).copied().map(OsStr::new).collect();
    let run = [run.as_slice(), &[boot.manifest().as_os_str()]].concat();
    Ok(Run { terminal: Terminal::start(&run, (80, 24))?, _permit: permit, _one: one })
}

/// The same, with both guests running.
fn start_both(name: &str) -> Result<Run> {
    let mut run = start(name, &[])?;
    run.terminal.wait_until("both guests", |rows| {
        has(rows, ">1 one running     │one: ready") && has(rows, " 2 two running    *│")
    })?;
    Ok(run)
}

/// Whether a row begins with a text.
fn has(rows: &[String], text: &str) -> bool {
    rows.iter().any(|row| row.starts_with(text))
}

fn last(rows: &[String]) -> &str {
    rows.last().map_or("", String::as_str)
}

fn seen(name: &str) -> Result<()> {
    let mut run = start_both(name)?;
    let terminal = &mut run.terminal;
    ensure!(last(&terminal.rows()) == "keys go to one; Ctrl-] leads out");
    terminal.press("first\r")?;
    terminal.wait_until("an answer", |rows| has(rows, " 2 two running    *│one: got \"first\""))?;
    // The guest is addressed by name in the log alone.
    let rows = terminal.rows();
    ensure!(!rows.iter().any(|row| row.contains("plan: ")), "{rows:?}");

    terminal.press("\x1d")?;
    terminal.wait_until("the prompt", |rows| last(rows).starts_with("q quit  c back  ? help"))?;
    terminal.press("2")?;
    terminal.wait_until("the other console", |rows| {
        has(rows, " 1 one running     │two: ready") && has(rows, ">2 two running     │")
    })?;
    terminal.press("second\r")?;
    terminal
        .wait_until("its answer", |rows| has(rows, ">2 two running     │two: got \"second\""))?;

    // A guest of which a pause was refused is not taken for paused.
    terminal.press("\x1dp")?;
    terminal.wait_until("a refusal", |rows| rows[22] == "sign in first: sign-in NAME PASSWORD")?;
    ensure!(has(&terminal.rows(), ">2 two running "), "{:?}", terminal.rows());
    terminal.press(&format!("\x1d:sign-in {OPERATOR} {PASSWORD}"))?;
    let hidden = format!(": sign-in {OPERATOR} {}", "*".repeat(PASSWORD.len()));
    terminal.wait_until("a password unseen", |rows| last(rows) == hidden)?;
    terminal.press("\r")?;
    terminal.wait_until("an answer", |rows| rows[22].starts_with(OPERATOR))?;
    terminal.press("\x1dp")?;
    terminal.wait_until("a pause", |rows| has(rows, ">2 two paused "))?;
    terminal.press("\x1d")?;
    terminal.wait_until("the other meaning", |rows| last(rows).contains("p resume"))?;
    terminal.press("p")?;
    terminal.wait_until("it to go on", |rows| has(rows, ">2 two running "))?;

    // What another program has done to a guest is seen as well.
    let ctl = |command| {
        let arguments = ["ctl", "--operator", OPERATOR, "--", command, "one"];
        xtask(&arguments, &format!("{PASSWORD}\n"))?.expect(0, &[])
    };
    ctl("pause")?;
    terminal.wait_until("another's pause", |rows| has(rows, " 1 one paused "))?;
    ctl("resume")?;
    terminal.wait_until("its end", |rows| has(rows, " 1 one running "))?;

    terminal.resize((100, 30))?;
    terminal.wait_until("more rows", |rows| {
        rows.len() == 30
            && last(rows) == "keys go to two; Ctrl-] leads out"
            && rows[25].contains('│')
    })?;
    terminal.press("\x1d:who\r")?;
    // Here and by the other program: an answer of two lines is over the console, and not below it too.
    terminal.wait_until("an answer of two lines", |rows| {
        rows[26..28].iter().all(|row| row.contains(OPERATOR)) && rows[28].is_empty()
    })?;
    terminal.press("\x1dl")?;
    terminal.wait_until("the log", |rows| {
        last(rows) == "the log is shown; keys go to two; Ctrl-] leads out"
    })?;
    terminal.press("\x1d\x1b[1~")?;
    terminal.wait_until("its beginning", |rows| rows[0].contains("│Bulkhead "))?;
    terminal.press("c")?;

    // A guest that has stopped is seen as such, and keys go to the next.
    terminal.press("\x1d2quit\r")?;
    terminal.wait_until("the end of a guest", |rows| {
        has(rows, " 2 two powered off") && has(rows, ">1 one running ")
    })?;
    terminal.press("quit\r")?;
    let status = terminal.wait()?;
    ensure!(status == 0, "exit status {status}");
    terminal.expect_restored()?;
    let rows = terminal.rows();
    // The last that was seen of the consoles, too.
    ensure!(has(&rows, "one said last:") && has(&rows, "  one: got \"quit\""), "{rows:?}");
    let left = |text: &str| rows.iter().any(|row| row.ends_with(text));
    ensure!(left("guest two: powered off") && left("guest one: powered off"), "{rows:?}");
    ensure!(left("bulkhead: all guests stopped: 2 powered off, 0 faulted"), "{rows:?}");
    Ok(())
}

fn refused(name: &str) -> Result<()> {
    let mut run = start(name, &["--cores", "1"])?;
    let status = run.terminal.wait()?;
    ensure!(status == 1, "exit status {status}");
    run.terminal.expect_restored()?;
    let rows = run.terminal.rows();
    ensure!(has(&rows, "bulkhead: refused: this machine has one core"), "{rows:?}");
    Ok(())
}

fn signal(name: &str) -> Result<()> {
    let mut run = start_both(name)?;
    let terminal = &mut run.terminal;
    ensure!(terminal.screen().alternate_screen(), "{:?}", terminal.rows());
    terminal.signal(Signal::TERM)?;
    let status = terminal.wait()?;
    ensure!(status == 143, "exit status {status}");
    terminal.expect_restored()?;
    let rows = terminal.rows();
    ensure!(has(&rows, "guest one was running"), "{rows:?}");
    Ok(())
}
