//! What the processors of guests do just now: how much of the time they are halted, and how often they exit.
//!
//! A guest that halts does not exit, so nobody counts that. For half a second the service core looks every ten
//! milliseconds: an NMI makes the processor exit, and the VMCS says whether it was halted (SDM Vol. 3C, 24.4.2). These exits
//! are left out of what is shown.

use super::answers::answer;
use super::commands::Form;
use super::guest::{Guest, reached};
use super::json::Json;
use super::listing::Step;
use crate::arch::cpu;
use crate::guest::activity::Activity;
use crate::guest::shared::{Found, Slot};
use crate::guest::statistics::{Exits, Grouped};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_life::Life;
use core::fmt;

/// How often it is looked, and how many times in a second.
const LOOKS: u64 = 50;
const LOOKS_IN_A_SECOND: u64 = 100;

/// An answer to `top` on its way.
pub struct Top {
    form: Form,
    /// The processors that are looked at, and what was counted of them at first.
    at_first: Vec<(Subject, Counted)>,
    began: u64,
    looks: u64,
    /// The TSC at the next look.
    due: u64,
    tsc_hz: u64,
}

/// A processor of a guest that runs.
#[derive(Clone)]
struct Subject {
    guest: usize,
    core: usize,
    slot: Arc<Slot>,
}

#[derive(Clone, Copy)]
struct Counted {
    exits: u64,
    found: Found,
}

impl Counted {
    fn of(slot: &Slot) -> Self {
        // What comes between the two is an exit more, not one less.
        let found = slot.found();
        let mut exits = Exits::none();
        slot.statistics.add_to(&mut exits);
        Self { exits: exits.count(), found }
    }
}

/// What a processor did in the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    /// Hundredths of the looks that found it halted.
    halted: u64,
    /// Exits in a second, those of the looks left out.
    exits: u64,
}

impl Done {
    /// Between two counts, in so many ticks of the TSC. Others may look as well: their looks count like one's own.
    fn between(first: Counted, last: Counted, ticks: u64, tsc_hz: u64) -> Self {
        let found = last.found.all.wrapping_sub(first.found.all);
        let halted = last.found.halted.wrapping_sub(first.found.halted);
        let exits = last.exits.wrapping_sub(first.exits).saturating_sub(found);
        let in_a_second = u128::from(exits) * u128::from(tsc_hz) / u128::from(ticks.max(1));
        Self {
            halted: halted.saturating_mul(100).checked_div(found).unwrap_or(0).min(100),
            exits: u64::try_from(in_a_second).unwrap_or(u64::MAX),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} % {:>12}", self.halted, Grouped(self.exits))
    }
}

impl Top {
    /// Begins to look at the guests that run now.
    pub fn new(form: Form, guests: &[Guest], tsc_hz: u64) -> Self {
        let runs = |guest: &Guest| matches!(guest.life(), Life::Running | Life::Stopping);
        let mut at_first = Vec::new();
        for (position, guest) in guests.iter().enumerate().filter(|(_, guest)| runs(guest)) {
            for (core, slot) in guest.cores().iter().zip(&guest.shared().processors) {
                let slot = slot.clone();
                let counted = Counted::of(&slot);
                at_first.push((Subject { guest: position, core: core.index, slot }, counted));
            }
        }
        let began = cpu::rdtsc();
        Self { form, at_first, began, looks: 0, due: began, tsc_hz }
    }

    /// Looks, when it is time; says it all, when it has looked often enough.
    pub fn step(&mut self, guests: &[Guest]) -> Step {
        if !reached(self.due) {
            return Step::Later;
        }
        if self.looks == LOOKS {
            self.say(guests);
            return Step::Done;
        }
        self.looks += 1;
        self.due = self.due.wrapping_add(self.tsc_hz / LOOKS_IN_A_SECOND);
        for (Subject { slot, .. }, _) in &self.at_first {
            slot.look();
        }
        Step::Later
    }

    fn say(&self, guests: &[Guest]) {
        let ticks = cpu::rdtsc().wrapping_sub(self.began);
        let names = self.at_first.iter().filter_map(|(subject, _)| guests.get(subject.guest));
        let width = names.map(|guest| guest.name().len()).max().unwrap_or(0).max("GUEST".len());
        match self.form {
            Form::Table if self.at_first.is_empty() => {
                answer(format_args!("no guest runs"));
            }
            Form::Table => {
                answer(format_args!("CORE {:width$} PROCESSOR  HALTED      EXITS/S", "GUEST"));
            }
            Form::Json => {}
        }
        for (Subject { guest, core, slot }, first) in &self.at_first {
            let Some(guest) = guests.get(*guest) else { continue };
            let (name, id) = (guest.name(), slot.id);
            let done = Done::between(*first, Counted::of(slot), ticks, self.tsc_hz);
            let started = slot.activity.now() == Activity::Running;
            match self.form {
                Form::Table if started => {
                    answer(format_args!("{core:>4} {name:width$} {id:>9} {done}"));
                }
                Form::Table => {
                    answer(format_args!("{core:>4} {name:width$} {id:>9}   waits to be started"));
                }
                Form::Json => answer(format_args!(
                    "{{\"core\":{core},\"guest\":{},\"processor\":{id},\"started\":{started},\
                     \"halted_percent\":{},\"exits_per_second\":{}}}",
                    Json(name),
                    done.halted,
                    done.exits
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_no_exits_of_the_guest() {
        let first = Counted { exits: 1000, found: Found { all: 7, halted: 3 } };
        let last = Counted { exits: 1080, found: Found { all: 57, halted: 43 } };
        // Half a second of 10 MHz, with 50 looks.
        let done = Done::between(first, last, 5_000_000, 10_000_000);
        assert_eq!(done, Done { halted: 80, exits: 60 });
        assert_eq!(std::format!("{done}"), "   80 %           60");
        let none = Done::between(first, first, 0, 10_000_000);
        assert_eq!(none, Done { halted: 0, exits: 0 });
    }
}
