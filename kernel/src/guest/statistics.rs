//! A counter for each exit reason, and the time spent serving it.

use crate::vmx::exit::ExitReason;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Rows: one for each basic exit reason, and a power of two.
const REASONS: usize = ExitReason::COUNT.next_power_of_two();

/// Exits of one virtual processor. The core that runs it writes, others may read at any time: a
/// counter is whole, two of them may be of different moments.
#[derive(Debug)]
pub struct Statistics {
    counts: [AtomicU64; REASONS],
    ticks: [AtomicU64; REASONS],
}

/// Adds to a counter that has one writer.
#[inline(always)]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Statistics {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; REASONS],
            ticks: [const { AtomicU64::new(0) }; REASONS],
        }
    }

    /// Counts an exit that took `ticks` of the TSC to serve. To be called by one core alone.
    #[inline(always)]
    pub fn record(&self, reason: u32, ticks: u32) {
        // There are no reasons so high; should there be one, it is counted with another.
        let index = reason as usize % REASONS;
        if let (Some(count), Some(sum)) = (self.counts.get(index), self.ticks.get(index)) {
            add(count, 1);
            add(sum, ticks.into());
        }
    }

    /// The counters now, with those of `earlier` readings added.
    pub fn add_to(&self, sum: &mut Exits) {
        let counts = sum.counts.iter_mut().zip(&self.counts);
        for (sum, counter) in counts.chain(sum.ticks.iter_mut().zip(&self.ticks)) {
            *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
        }
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self::new()
    }
}

/// Exits as they were read from [`Statistics`], of one or several virtual processors.
#[derive(Clone, Debug)]
pub struct Exits {
    counts: [u64; REASONS],
    ticks: [u64; REASONS],
}

impl Exits {
    /// None.
    pub const fn none() -> Self {
        Self { counts: [0; REASONS], ticks: [0; REASONS] }
    }

    /// Exits in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| u64::wrapping_add(sum, *count))
    }

    /// Ticks in all.
    pub fn ticks(&self) -> u64 {
        self.ticks.iter().fold(0, |sum, ticks| u64::wrapping_add(sum, *ticks))
    }

    /// What was counted: reason, exits, ticks; most frequent first.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let mut order: heapless::Vec<usize, REASONS> = (0..REASONS).collect();
        order.sort_unstable_by_key(|&reason| (core::cmp::Reverse(self.counts.get(reason)), reason));
        order.into_iter().filter_map(|reason| {
            let (count, ticks) = (*self.counts.get(reason)?, *self.ticks.get(reason)?);
            (count > 0).then_some((reason as u32, count, ticks))
        })
    }
}

/// Shows a number with its thousands set apart.
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut text: heapless::String<32> = heapless::String::new();
        let mut digits: heapless::String<24> = heapless::String::new();
        write!(digits, "{}", self.0)?;
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
                text.push(',').map_err(|_| fmt::Error)?;
            }
            text.push(digit).map_err(|_| fmt::Error)?;
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn rows_come_by_frequency_and_add_up() {
        let statistics = Statistics::new();
        for (reason, ticks) in [(10, 100), (30, 50), (10, 300), (0x7F, 7)] {
            statistics.record(reason, ticks);
        }
        let mut sum = Exits::none();
        statistics.add_to(&mut sum);
        let rows: std::vec::Vec<_> = sum.rows().collect();
        assert_eq!(rows, [(10, 2, 400), (30, 1, 50), (127, 1, 7)]);
        assert_eq!((sum.count(), sum.ticks()), (4, 457));
        statistics.add_to(&mut sum);
        assert_eq!((sum.count(), sum.ticks()), (8, 914), "of two processors");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Grouped(number).to_string(), text);
        }
        assert_eq!(std::format!("{:>7}", Grouped(1000)), "  1,000");
        assert_eq!(Grouped(u64::MAX).to_string(), "18,446,744,073,709,551,615");
    }
}
