//! The guests written for the tests.

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, End, Guest, said_of};
use libtest_mimic::Trial;
use xtask::bench::{self, Figures, Kind, cases, check, heard};

use crate::trial;

/// A guest that tests itself powers off with no test failed, and more than so many passed.
pub fn passes_its_tests(name: &str, program: &'static str, more_than: u64) -> Result<()> {
    let mut console = Boot::of_guests(name, &[Guest::new(program)])?.start()?;
    console.expect_power_off(1)?;
    let transcript = console.guest(program)?.transcript();
    let failed: Vec<_> = transcript.lines().filter(|line| line.contains("FAILED")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let passed = transcript.lines().find_map(|line| line.split_once(" passed, 0 failed"));
    let passed = passed.context("its last line is not there")?.0;
    ensure!(number_in(passed)? > more_than, "only {passed} tests");
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("guests::a_hand_written_elf_kernel_runs", |name| {
            let guest = Guest::new("hello").with("one two=3");
            let mut console = Boot::of_guests(name, &[guest])?.start()?;
            console.wait_for("hello from a hand-written guest\r\n")?;
            console.wait_for("command line: one two=3\r\n")?;
            // 16 MiB but for what lies between 640 KiB and 1 MiB.
            let ram = console.wait_for(" KiB\r\n")?;
            let ram: u64 = number_in(&ram)?;
            ensure!((15 << 10..=16 << 10).contains(&ram), "{ram} KiB of RAM");
            console.expect_power_off(1)
        }),
        trial("guests::get_what_a_guest_is_promised", |name| {
            passes_its_tests(name, "conformance", 50)
        }),
        trial("guests::operations_cost_no_more_than_is_committed", |name| {
            let guest = Guest::new("bench").on_cores(2).with_memory_mib(64);
            let mut console = Boot::of_guests(name, &[guest])?.start()?;
            console.expect_power_off(1)?;
            let transcript = console.transcript();
            ensure!(heard::error(&transcript).is_none(), "{transcript}");
            let committed = bench::read_committed()?;
            let mut now = Figures::default();
            now.extend(Kind::Bulkhead, heard::figures(&transcript));
            // That a tick is an instruction: all else stands on it.
            ensure!(now.get("control", Kind::Bulkhead) == Some(100.0), "{now:?}");
            let known =
                cases::operations().filter(|case| now.get(case.name, Kind::Bulkhead).is_some());
            ensure!(known.count() > 20, "{now:?}");
            let dearer = check::dearer(&committed, &now, cases::operations());
            ensure!(
                dearer.is_empty(),
                "dearer than in docs/performance.json:\n{}",
                dearer.join("\n")
            );
            Ok(())
        }),
        trial("guests::fault_behind_the_last_canonical_address", |name| {
            // It is the guest that faults, and not the VM entry, which is refused such a RIP.
            let guest = Guest::new("faults").named("edge").with("fault=edge");
            let mut console = Boot::of_guests(name, &[guest])?.start()?;
            console.wait_for("unexpected #GP(0x0) at 0x800000000000")?;
            console.expect_power_off(1)
        }),
        trial("guests::leave_nothing_pending_that_hurts", |name| {
            // Interrupts with every vector, those of exceptions too, wait when it ends.
            let guest = Guest::new("faults").named("leftover").with("fault=leftover");
            let mut console = Boot::of_guests(name, &[guest])?.start()?;
            console.wait_for("fault leftover: survived")?;
            console.expect_power_off(1)
        }),
        trial("guests::start_again_after_a_reset_where_the_manifest_says_so", |name| {
            let guests = [
                Guest::new("reset").named("once"),
                Guest::new("reset").named("again").restarting(),
                Guest::new("triple_fault").named("shut-down").restarting(),
            ];
            let mut console = Boot::of_guests(name, &guests)?.start()?;
            // Those that would go on for ever are stopped.
            let end = console.wait_for_end()?;
            ensure!(end == End::Stopped { powered_off: 1, faulted: 2 }, "{end:?}");
            let transcript = console.transcript();
            let count = |guest: &str, what: &str| {
                said_of(&transcript, guest).filter(|line| line.starts_with(what)).count()
            };
            let stopped = "asked for a reset; its restart policy is never: stopped";
            ensure!(count("once", stopped) == 1 && count("once", "starting on") == 1, "once");
            for (guest, why) in [("again", "reset"), ("shut-down", "stopped: triple fault")] {
                let (starts, ends) = (count(guest, "starting on"), count(guest, why));
                ensure!(starts > 2 && starts == ends, "{guest}: {starts} starts, {ends} ends");
                let given_up =
                    format!("stopped: {} restarts, and it never ran for 60 s", starts - 1);
                ensure!(count(guest, &given_up) == 1, "{guest}: {starts} starts:\n{transcript}");
            }
            let (used, size) = heard::heap(&transcript).context("what of the heap was in use")?;
            // What the operator's password is checked in is of the size that it takes.
            let operator = f64::from(bulkhead_operators::Cost::LEAST.memory);
            let (used, size) = (used - operator, size - operator);
            ensure!(used <= size * 0.8, "{used} of {size} KiB of the heap were in use");
            Ok(())
        }),
    ]
}

fn number_in(text: &str) -> Result<u64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no number in {text}"))
}
