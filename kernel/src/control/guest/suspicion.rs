//! Putting a guest into quarantine for what it does, where its manifest says so.

use super::Guest;
use crate::arch::cpu;
use crate::control::audit;
use crate::guest::statistics::Grouped;
use bulkhead_manifest::Suspicion;
use core::fmt;
use core::sync::atomic::Ordering;
use log::{error, warn};

/// How often in a second the count is looked at.
const LOOKS_IN_A_SECOND: u64 = 10;

/// Accesses that were denied, as they are counted in each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// The TSC at which the present second began; 0 before the first.
    since: u64,
    /// How many there had been then.
    before: u64,
    /// The TSC at the last look.
    looked: u64,
}

impl Denied {
    /// Whether it is time to look again.
    fn is_due(&self, now: u64, tsc_hz: u64) -> bool {
        self.since == 0 || now.wrapping_sub(self.looked) >= tsc_hz / LOOKS_IN_A_SECOND
    }

    /// Takes note of how many there have been in all; gives how many there were in the present second, if they are more
    /// than the limit.
    fn exceeds(&mut self, now: u64, tsc_hz: u64, all: u64, limit: u64) -> Option<u64> {
        self.looked = now;
        if self.since == 0 {
            // The run has just begun, and so has the count.
            self.since = now.max(1);
        }
        let in_this_second = all.saturating_sub(self.before);
        if now.wrapping_sub(self.since) >= tsc_hz {
            *self = Self { since: now.max(1), before: all, looked: now };
        }
        if in_this_second <= limit {
            return None;
        }
        // Once: whoever lets it go on knows of them.
        self.before = all;
        Some(in_this_second)
    }
}

impl Guest {
    /// To be called now and then, while it runs or not.
    pub(super) fn look_for_suspicion(&mut self) {
        if let Some((fault, report)) = self.shared().take_kept() {
            self.suspect(format_args!("{fault}"));
            report.lines(|line| error!("guest {}: {line}", self.name()));
        }
        let Suspicion { denied: Some(limit), .. } = self.definition.suspicion else { return };
        let (now, tsc_hz) = (cpu::rdtsc(), self.definition.clock.rates.tsc_hz);
        if !self.life.is_active() || !self.denied.is_due(now, tsc_hz) {
            return;
        }
        let all = self.denied_accesses();
        if let Some(count) = self.denied.exceeds(now, tsc_hz, all, limit.into()) {
            self.suspect(format_args!(
                "{} denied accesses within a second, and its manifest allows {}",
                Grouped(count),
                Grouped(limit.into())
            ));
        }
    }

    /// Accesses that were denied, or that nothing answered, in the present run or the last.
    pub fn denied_accesses(&self) -> u64 {
        let of_slots = self.shared().processors.iter();
        let msrs = of_slots
            .fold(0_u64, |sum, slot| sum.saturating_add(slot.denied.load(Ordering::Relaxed)));
        let devices = self.platform().map_or(0, |platform| {
            let absent = platform.absent();
            absent
                .port_accesses
                .saturating_add(absent.memory_accesses)
                .saturating_add(platform.interrupts_refused())
        });
        msrs.saturating_add(devices)
    }

    fn suspect(&mut self, why: fmt::Arguments<'_>) {
        match self.quarantine() {
            Ok(_) => {
                warn!("guest {}: is put into quarantine: {why}", self.name());
                audit::record("guest", format_args!("{} is suspect: {why}", self.name()));
            }
            // It is there already, or ends.
            Err(_) => {
                warn!("guest {}: was suspect: {why}", self.name());
                audit::record("guest", format_args!("{} was suspect: {why}", self.name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1000;

    #[test]
    fn each_second_is_counted_by_itself() {
        let mut denied = Denied::default();
        assert!(denied.is_due(5, HZ));
        assert_eq!(denied.exceeds(5, HZ, 10, 10), None);
        assert!(!denied.is_due(104, HZ) && denied.is_due(105, HZ));
        assert_eq!(denied.exceeds(500, HZ, 11, 10), Some(11), "before the second is over");
        assert_eq!(denied.exceeds(600, HZ, 12, 10), None, "it was let go on");
        assert_eq!(denied.exceeds(1005, HZ, 11, 20), None);
        // The next one begins with none.
        assert_eq!(denied.exceeds(1100, HZ, 31, 20), None);
        assert_eq!(denied.exceeds(1200, HZ, 32, 20), Some(21));
    }
}
