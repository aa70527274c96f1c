//! What a guest has cost: exits by reason, and the ticks spent in each.

use super::answers::{answer, answer_more};
use super::guest::Guest;
use crate::guest::statistics::{Exits, Grouped};
use crate::vmx::exit::ExitReason;
use core::fmt;
use core::sync::atomic::Ordering;
use log::info;

/// The rest of the answer to `exits`: what it is so far.
pub fn exits(guest: &Guest) {
    let exits = guest.shared().exits();
    answer(format_args!(
        "guest {} has {} exits so far, in {} ticks",
        guest.name(),
        Grouped(exits.count()),
        Grouped(exits.ticks())
    ));
    rows(guest.name(), &exits, answer_more);
}

fn rows(name: &str, exits: &Exits, say: fn(fmt::Arguments<'_>)) {
    for (reason, count, ticks) in exits.rows() {
        say(format_args!(
            "guest {name}:   {:>12} {:<28} {:>14} ticks, {:>7} each",
            Grouped(count),
            ExitReason::from(reason).name(),
            Grouped(ticks),
            Grouped(ticks / count.max(1))
        ));
    }
}

/// Says what a run has cost that has ended.
pub fn summarise(guest: &Guest) {
    let (name, shared) = (guest.name(), guest.shared());
    let exits = shared.exits();
    let ticks = shared.processors.iter().map(|slot| slot.ticks.load(Ordering::Relaxed));
    info!(
        "guest {name}: ran {} ticks, of which {} in {} exits",
        Grouped(ticks.max().unwrap_or(0)),
        Grouped(exits.ticks()),
        Grouped(exits.count())
    );
    rows(name, &exits, |line| info!("{line}"));
    let Some(platform) = guest.platform() else { return };
    let absent = platform.absent();
    info!(
        "guest {name}: absent devices: {} port accesses, {} memory accesses; console bytes \
         lost: {}; interrupts refused: {}",
        absent.port_accesses,
        absent.memory_accesses,
        platform.console_dropped(),
        platform.interrupts_refused(),
    );
}
