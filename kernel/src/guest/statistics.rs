//! A counter for each exit reason, and the time spent serving it.

use crate::vmx::exit::ExitReason;
use core::fmt;

/// Basic exit reasons are below this.
const REASONS: usize = ExitReason::COUNT;

/// Exits of one virtual processor.
#[derive(Clone, Debug)]
pub struct Statistics {
    counts: [u64; REASONS],
    ticks: [u64; REASONS],
}

impl Statistics {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self { counts: [0; REASONS], ticks: [0; REASONS] }
    }

    /// Counts an exit that took `ticks` of the TSC to serve.
    #[inline(always)]
    pub fn record(&mut self, reason: u32, ticks: u64) {
        // An unknown reason is counted with the last.
        let index = (reason as usize).min(REASONS - 1);
        // A TSC that steps back must not be our fault.
        self.counts[index] = self.counts[index].wrapping_add(1);
        self.ticks[index] = self.ticks[index].wrapping_add(ticks);
    }

    /// Exits in all.
    pub fn exits(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Ticks in all.
    pub fn ticks(&self) -> u64 {
        self.ticks.iter().fold(0, |sum, ticks| u64::wrapping_add(sum, *ticks))
    }

    /// What was counted: reason, exits, ticks; most frequent first.
    pub fn rows(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let mut order: heapless::Vec<usize, REASONS> = (0..REASONS).collect();
        order.sort_unstable_by_key(|&reason| (core::cmp::Reverse(self.counts[reason]), reason));
        order
            .into_iter()
            .filter(|&reason| self.counts[reason] > 0)
            .map(|reason| (reason as u32, self.counts[reason], self.ticks[reason]))
    }
}

impl Default for Statistics {
    fn default() -> Self {
        Self::new()
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
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
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
        let mut statistics = Statistics::new();
        for (reason, ticks) in [(10, 100), (30, 50), (10, 300), (4_000_000, 7)] {
            statistics.record(reason, ticks);
        }
        let rows: std::vec::Vec<_> = statistics.rows().collect();
        assert_eq!(rows, [(10, 2, 400), (30, 1, 50), (79, 1, 7)]);
        assert_eq!((statistics.exits(), statistics.ticks()), (4, 457));
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
