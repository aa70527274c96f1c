//! Which memory: one run for each guest, aligned to a large page, from the highest place where it fits. So low memory,
//! which firmware and devices compete for, stays free, and the first guest's memory does not depend on the others'.

use alloc::vec::Vec;
use bulkhead_manifest::limits::MEMORY_GRANULE;
use core::ops::Range;

/// Free memory, as runs of host-physical addresses without overlap, ascending.
#[derive(Clone, Debug)]
pub struct Free(Vec<Range<u64>>);

impl Free {
    /// The runs of a machine; in any order, empty ones among them.
    pub fn new(runs: &[Range<u64>]) -> Self {
        let mut runs: Vec<_> = runs.iter().filter(|run| !run.is_empty()).cloned().collect();
        runs.sort_by_key(|run| run.start);
        Self(runs)
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|run| run.end - run.start).fold(0, u64::saturating_add)
    }

    /// Takes `len` bytes, a multiple of the granule and not 0, aligned to the granule, from the highest place there is.
    pub fn take(&mut self, len: u64) -> Option<Range<u64>> {
        let (index, start) = self.0.iter().enumerate().rev().find_map(|(index, run)| {
            let start = run.end.checked_sub(len)? / MEMORY_GRANULE * MEMORY_GRANULE;
            (start >= run.start).then_some((index, start))
        })?;
        let run = self.0.remove(index);
        let taken = start..start + len;
        let rest = [run.start..taken.start, taken.end..run.end];
        self.0.splice(index..index, rest.into_iter().filter(|rest| !rest.is_empty()));
        Some(taken)
    }

    /// The longest run of bytes that [`take`](Self::take) could give.
    pub fn longest(&self) -> u64 {
        let room = |run: &Range<u64>| {
            let start = run.start.checked_next_multiple_of(MEMORY_GRANULE)?;
            (run.end / MEMORY_GRANULE * MEMORY_GRANULE).checked_sub(start)
        };
        self.0.iter().filter_map(room).max().unwrap_or(0)
    }

    /// What is left.
    pub fn into_runs(self) -> Vec<Range<u64>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn from_the_top_and_aligned() {
        let mut free = Free::new(&[MIB..17 * MIB + 5, 32 * MIB..36 * MIB, 5..5]);
        assert_eq!((free.bytes(), free.longest()), (20 * MIB + 5, 14 * MIB));
        assert_eq!(free.take(4 * MIB), Some(32 * MIB..36 * MIB));
        assert_eq!(free.take(4 * MIB), Some(12 * MIB..16 * MIB));
        assert_eq!(free.take(12 * MIB), None);
        assert_eq!(free.take(10 * MIB), Some(2 * MIB..12 * MIB));
        assert_eq!(free.into_runs(), [MIB..2 * MIB, 16 * MIB..17 * MIB + 5]);
    }

    #[test]
    fn a_shorter_run_below_serves_when_those_above_are_too_short() {
        let mut free = Free::new(&[64 * MIB..66 * MIB, 0..16 * MIB]);
        assert_eq!(free.take(4 * MIB), Some(12 * MIB..16 * MIB));
        assert_eq!(free.take(u64::MAX / MEMORY_GRANULE * MEMORY_GRANULE), None);
    }
}
