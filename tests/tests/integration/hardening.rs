//! What the hypervisor protects itself with, on processors that have it and on processors that lack it.

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, Guest};
use libtest_mimic::Trial;

use crate::trial;

/// One with IBRS for all, which says that it is free of some defects.
const ICE_LAKE: &str = "corei7_icelake_u";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("hardening::each_core_tries_what_it_must_not_do", self_test),
        trial("hardening::what_the_processor_lacks_is_said", |name| {
            let mut console = Boot::of_guests(name, &[Guest::new("hello")])?.start()?;
            console.expect_power_off(1)?;
            let log = console.transcript();
            let on = "protection: on: WP, NX, SMEP, SMAP, return-stack refill\r\n";
            ensure!(log.contains(on), "{log}");
            for name in ["IBRS, IBPB", "MD_CLEAR", "L1D_FLUSH", "PSCHANGE_MC_NO"] {
                ensure!(missing(&log).contains(&format!("{name} (")), "no {name}: {log}");
            }
            Ok(())
        }),
        trial("hardening::a_processor_with_more_is_used_as_it_asks", |name| {
            // Another way out of the guest and back, and registers that the first lacks.
            let guests = [Guest::new("conformance"), Guest::new("hello").restarting()];
            let mut boot = Boot::of_guests(name, &guests)?.under_test();
            boot.machine.cpu = Some(ICE_LAKE.into());
            let mut console = boot.start()?;
            console.expect_power_off(2)?;
            let log = console.transcript();
            let on = "protection: on: WP, NX, SMEP, SMAP, UMIP, enhanced IBRS, IBPB\r\n";
            ensure!(log.contains(on), "{log}");
            ensure!(!missing(&log).contains("IBRS") && !missing(&log).contains("L1D"), "{log}");
            ensure!(log.contains(" 0 failed"), "{log}");
            Ok(())
        }),
    ]
}

/// The line of the log that says what is missing.
fn missing(log: &str) -> &str {
    let rest = log.split_once("protection: missing: ").map_or("", |(_, rest)| rest);
    rest.lines().next().unwrap_or_default()
}

/// What every core tries, and what must follow.
const TRIED: [(&str, &str); 20] = [
    ("a read of its own code", DONE),
    ("a call to its own code", DONE),
    ("a write to its own code", NO_WRITE),
    ("a write to read-only data", NO_WRITE),
    ("a call to read-only data", NO_FETCH),
    ("a write to data", DONE),
    ("a call to data", NO_FETCH),
    ("a call to the heap", NO_FETCH),
    ("a call to the stack", NO_FETCH),
    ("a read below the main stack", UNMAPPED_READ),
    ("a write below the main stack", UNMAPPED_WRITE),
    ("a read below the NMI stack", UNMAPPED_READ),
    ("a write below the NMI stack", UNMAPPED_WRITE),
    ("a read below the double-fault stack", UNMAPPED_READ),
    ("a write below the double-fault stack", UNMAPPED_WRITE),
    ("a read below the machine-check stack", UNMAPPED_READ),
    ("a write below the machine-check stack", UNMAPPED_WRITE),
    ("a read at address 0", UNMAPPED_READ),
    ("a read of a user's page", NO_USER_READ),
    ("a call to a user's page", NO_FETCH),
];

// Page faults with the error codes of SDM Vol. 3A, 4.7: bit 0, the page is there; bit 1, a write; bit 4, a fetch.
const DONE: &str = "done, as it must be";
const NO_WRITE: &str = "page fault (code 0x3), as it must be";
const NO_FETCH: &str = "page fault (code 0x11), as it must be";
const NO_USER_READ: &str = "page fault (code 0x1), as it must be";
const UNMAPPED_READ: &str = "page fault (code 0x0), as it must be";
const UNMAPPED_WRITE: &str = "page fault (code 0x2), as it must be";

/// Every core tries it, of its own and of its neighbours': the service core, too.
fn self_test(name: &str) -> Result<()> {
    let guests = [Guest::new("hello").named("one"), Guest::new("hello").named("two").on_cores(2)];
    let mut console = Boot::of_guests(name, &guests)?.under_test().start()?;
    console.expect_power_off(2)?;
    let log = console.transcript();
    let has = |core: usize, what: &str, followed: &str| {
        let line = format!("self-test: core {core}: {what}: {followed}\r\n");
        ensure!(log.contains(&line), "no `{}`:\n{log}", line.trim_end());
        Ok(())
    };
    for core in 0..4 {
        for (what, followed) in TRIED {
            has(core, what, followed)?;
        }
        // Core 1 is one's, cores 2 and 3 are two's, core 0 is nobody's.
        for (guest, cores) in [("one", 1..2), ("two", 2..4)] {
            let own = cores.contains(&core);
            let (read, write) = if own { (DONE, DONE) } else { (UNMAPPED_READ, UNMAPPED_WRITE) };
            has(core, &format!("a read of guest {guest}'s memory"), read)?;
            has(core, &format!("a write of guest {guest}'s memory"), write)?;
        }
        has(core, "a read behind its window", UNMAPPED_READ)?;
        ensure!(log.contains(&format!("self-test: core {core}: passed beside 2 guests")), "{log}");
        let compared = format!("self-test: core {core}: ");
        let registers = "model-specific registers are as at its start";
        let looked = log.lines().any(|line| line.contains(&compared) && line.contains(registers));
        ensure!(looked || core == 0, "core {core} has not looked at its registers:\n{log}");
    }
    Ok(())
}
