//! Guests that nobody needs any more, and guests that may not be together.

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, Guest};
use libtest_mimic::Trial;

use crate::trial;
use crate::verbs::answered;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("sprawl::guests_that_have_expired_are_reported_or_not_started", expired),
        trial("sprawl::a_guest_whose_day_passes_while_it_runs_is_reported_or_stopped", passes),
        trial("sprawl::guests_that_may_not_be_together_are_refused_at_boot", apart),
    ]
}

fn expired(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let guests = [
        echo("needed").expiring("9999-12-31", "stop"),
        echo("old").expiring("2020-02-29", "report"),
        echo("over").expiring("2020-02-29", "stop"),
    ];
    let mut console = Boot::of_guests(name, &guests)?.start()?;
    console.wait_for("warning: guest old: has expired: tests needed it until 2020-02-29\r\n")?;
    console.wait_for("warning: guest over: has expired: tests needed it until 2020-02-29\r\n")?;
    console.wait_for("error: guest over: not started: has expired, and on_expiry is \"stop\"")?;
    console.guest("old")?.wait_for("old: ready\r\n")?;
    answered(&mut console, "list", "  NAME   STATE ")?;
    console.wait_for(" tests\r\n")?;
    console.wait_for(" tests, expired\r\n")?;
    console.wait_for(" tests, expired\r\n")?;
    for verb in ["start", "restart"] {
        let refused = format!("cannot {verb} guest over: it has expired, and on_expiry is");
        answered(&mut console, &format!("{verb} over"), &refused)?;
    }
    answered(&mut console, "info over", "guest over is defined")?;
    console.wait_for("classification test, expires 2020-02-29, on_expiry stop, has expired\r\n")?;
    answered(&mut console, "stop needed", "guest needed is told to stop")?;
    answered(&mut console, "stop old", "guest old is told to stop")?;
    // The one that may not be started is not waited for.
    console.expect_power_off(3)
}

/// Half a minute before the midnight that ends 2037, in seconds since 1970.
const BEFORE_MIDNIGHT: u32 = 2_145_916_770;
/// The day that ends then.
const LAST_DAY: &str = "2037-12-31";

fn passes(name: &str) -> Result<()> {
    let echo = |name: &str| Guest::new("echo").named(name).with(&format!("name={name}"));
    let guests = [
        echo("over").expiring(LAST_DAY, "stop").with_restart("always"),
        echo("old").expiring(LAST_DAY, "report"),
        echo("needed").expiring("2038-01-01", "stop"),
    ];
    let mut boot = Boot::of_guests(name, &guests)?;
    boot.machine.clock = Some(BEFORE_MIDNIGHT);
    let mut console = boot.start()?;
    // The boot does not take half a minute.
    for guest in ["over", "old", "needed"] {
        console.guest(guest)?.wait_for(&format!("{guest}: ready\r\n"))?;
    }
    ensure!(!console.transcript().contains("has expired"), "too early");
    console.wait_for("warning: guest over: has expired: tests needed it until 2037-12-31\r\n")?;
    console.wait_for("guest over: is stopped: it has expired\r\n")?;
    console.wait_for("warning: guest old: has expired: tests needed it until 2037-12-31\r\n")?;
    console.wait_for("guest over: stopped as it has expired\r\n")?;
    // It is not started again, whatever its restart policy.
    answered(&mut console, "info over", "guest over is stopped")?;
    answered(&mut console, "start over", "cannot start guest over: it has expired, and")?;
    answered(&mut console, "info old", "guest old is running")?;
    answered(&mut console, "info needed", "guest needed is running")?;
    answered(&mut console, "power-off --now", "the machine is switched off")?;
    console.expect_power_off(3)
}

fn apart(name: &str) -> Result<()> {
    let hello = |name: &str| Guest::new("hello").named(name).classified("open");
    let policy = "[policy]\nclasses = [\"open\", \"shut\"]\n\n";
    let boot = Boot::of_guests_with(name, &[hello("one"), hello("two")], policy)?;
    // The image writer refuses such guests: the second one's class is another in what it has written.
    let mut console = boot.start_with(|bundle| {
        let length =
            bundle[12..16].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (header, rest) = bundle.split_at_mut(56);
        let descriptor = &mut rest[..length];
        if let Some(at) = descriptor.windows(4).rposition(|bytes| bytes == b"open") {
            descriptor[at..at + 4].copy_from_slice(b"shut");
        }
        header[24..56].copy_from_slice(&bulkhead_manifest::digest(descriptor));
    })?;
    console.expect_refusal(&[
        "guests \"one\" (open) and \"two\" (shut) may not be on one machine: policy: no set of together has both",
    ])
}
