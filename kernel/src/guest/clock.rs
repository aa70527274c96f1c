//! The time of day, kept by the TSC since the boot processor read the real clock.

use crate::arch::cpu::rdtsc;
use crate::arch::rates::Rates;
use crate::device::platform::Now;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Rates of this machine.
    pub rates: Rates,
    /// TSC when the real clock was read.
    pub tsc: u64,
    /// What it showed, in seconds since the start of 1970, UTC.
    pub unix_seconds: u64,
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Now {
        let tsc = rdtsc().wrapping_sub(self.tsc);
        let tsc_hz = self.rates.tsc_hz;
        let seconds = tsc.checked_div(tsc_hz).unwrap_or(0);
        Now { unix_seconds: self.unix_seconds.saturating_add(seconds), tsc, tsc_hz }
    }
}
