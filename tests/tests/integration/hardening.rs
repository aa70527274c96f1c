//! What the hypervisor protects itself with.

use anyhow::ensure;
use bulkhead_tests::{Boot, Guest};
use libtest_mimic::Trial;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("hardening::what_the_processor_lacks_is_said", |name| {
        let mut console = Boot::of_guests(name, &[Guest::new("hello")])?.start()?;
        console.expect_power_off(1)?;
        let log = console.transcript();
        let on = "protection: on: WP, NX, SMEP, SMAP\r\n";
        ensure!(log.contains(on), "{log}");
        for name in ["IBRS, IBPB", "MD_CLEAR", "L1D_FLUSH", "PSCHANGE_MC_NO"] {
            ensure!(missing(&log).contains(&format!("{name} (")), "no {name}: {log}");
        }
        Ok(())
    })]
}

/// The line of the log that says what is missing.
fn missing(log: &str) -> &str {
    let rest = log.split_once("protection: missing: ").map_or("", |(_, rest)| rest);
    rest.lines().next().unwrap_or_default()
}
