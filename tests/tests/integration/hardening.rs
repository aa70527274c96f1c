//! What the hypervisor protects itself with, on processors that have it and on processors that lack it.

use anyhow::ensure;
use bulkhead_tests::{Boot, Guest};
use libtest_mimic::Trial;

use crate::trial;

/// One with IBRS for all, which says that it is free of some defects.
const ICE_LAKE: &str = "corei7_icelake_u";

pub fn trials() -> Vec<Trial> {
    vec![
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
            let mut boot = Boot::of_guests(name, &guests)?;
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
