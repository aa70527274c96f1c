//! Ownership of physical memory.

use super::{FRAME_SIZE, HostPhysical};
use core::ops::Range;
use heapless::Vec;

/// Most separate pieces of free memory that are kept track of; what would
/// break into more is left unused.
const MAX_PIECES: usize = 64;

/// Physical memory that has exactly one owner: this value. It cannot be copied,
/// and only [`FramePool`] makes it. Dropping it loses the memory, which is
/// safe; giving it back is [`FramePool::give_back`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "memory that is dropped is lost until the next boot"]
pub struct FrameRange {
    start: HostPhysical,
    len: u64,
}

impl FrameRange {
    /// First byte.
    pub fn start(&self) -> HostPhysical {
        self.start
    }

    /// Length in bytes, a multiple of the frame size.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it. Never so for what a pool hands out.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One past the last byte.
    pub fn end(&self) -> HostPhysical {
        HostPhysical::new(self.start.as_u64() + self.len)
    }

    /// Makes two of it, of which the first has `len` bytes: whole frames, and fewer than all of them.
    pub fn split(self, len: u64) -> Option<(Self, Self)> {
        let rest = self.len.checked_sub(len).filter(|&rest| rest > 0)?;
        if len == 0 || !len.is_multiple_of(FRAME_SIZE) {
            return None;
        }
        let middle = HostPhysical::new(self.start.as_u64() + len);
        Some((Self { start: self.start, len }, Self { start: middle, len: rest }))
    }
}

/// Free physical memory.
pub struct FramePool {
    free: Vec<Range<u64>, MAX_PIECES>,
}

impl FramePool {
    /// A pool without memory.
    pub const fn empty() -> Self {
        Self { free: Vec::new() }
    }

    /// Adds memory that nobody owns. Partial frames at its ends are left out.
    ///
    /// # Safety
    /// The memory must be RAM that nothing else uses, and must not be added twice.
    pub unsafe fn add(&mut self, range: Range<u64>) {
        let start = range.start.next_multiple_of(FRAME_SIZE);
        let end = range.end & !(FRAME_SIZE - 1);
        if start < end {
            self.insert(start..end);
        }
    }

    /// Takes `len` bytes at a multiple of `align` (a power of two) that end at
    /// or below `limit`; from the highest place there is, so that the scarce low memory stays free.
    pub fn take(&mut self, len: u64, align: u64, limit: u64) -> Option<FrameRange> {
        let len = len.checked_next_multiple_of(FRAME_SIZE).filter(|&len| len > 0)?;
        let (index, start) = self
            .free
            .iter()
            .enumerate()
            .filter_map(|(index, piece)| {
                let start = piece.end.min(limit).checked_sub(len)? & !(align - 1);
                (start >= piece.start).then_some((index, start))
            })
            .max_by_key(|&(_, start)| start)?;
        Some(self.split(index, start..start + len))
    }

    /// Takes exactly these bytes, whole frames, if all of them are free.
    pub fn take_at(&mut self, range: Range<u64>) -> Option<FrameRange> {
        let whole = |address: u64| address.is_multiple_of(FRAME_SIZE);
        if range.is_empty() || !whole(range.start) || !whole(range.end) {
            return None;
        }
        let inside = |piece: &Range<u64>| piece.start <= range.start && range.end <= piece.end;
        let index = self.free.iter().position(inside)?;
        Some(self.split(index, range))
    }

    /// Takes `taken` out of the piece at `index`, which it lies in.
    fn split(&mut self, index: usize, taken: Range<u64>) -> FrameRange {
        let piece = self.free.swap_remove(index);
        for rest in [piece.start..taken.start, taken.end..piece.end] {
            if !rest.is_empty() {
                self.insert(rest);
            }
        }
        FrameRange { start: HostPhysical::new(taken.start), len: taken.end - taken.start }
    }

    /// The free pieces, in no order. They neither overlap nor touch.
    pub fn pieces(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.free.iter().cloned()
    }

    /// Returns memory to the pool. Its contents must have been wiped by the owner.
    pub fn give_back(&mut self, range: FrameRange) {
        self.insert(range.start.as_u64()..range.start.as_u64() + range.len);
    }

    /// The most bytes, whole frames, that [`take`](Self::take) could give in one piece below `limit`.
    pub fn longest(&self, limit: u64) -> u64 {
        self.free
            .iter()
            .map(|piece| piece.end.min(limit).saturating_sub(piece.start))
            .max()
            .unwrap_or(0)
    }

    /// Free bytes in all.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|piece| piece.end - piece.start).sum()
    }

    fn insert(&mut self, mut range: Range<u64>) {
        // Joins the neighbours, so that what was split becomes whole again.
        while let Some(index) =
            self.free.iter().position(|piece| piece.end == range.start || piece.start == range.end)
        {
            let piece = self.free.swap_remove(index);
            range = range.start.min(piece.start)..range.end.max(piece.end);
        }
        if let Err(range) = self.free.push(range) {
            // Keeps the larger pieces.
            if let Some(least) = self.free.iter_mut().min_by_key(|piece| piece.end - piece.start)
                && least.end - least.start < range.end - range.start
            {
                *least = range;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pool(ranges: &[Range<u64>]) -> FramePool {
        let mut pool = FramePool::empty();
        for range in ranges {
            // SAFETY: the numbers are never used as memory.
            unsafe { pool.add(range.clone()) };
        }
        pool
    }

    #[test]
    fn what_is_taken_is_not_handed_out_again() {
        let mut pool = pool(core::slice::from_ref(&(MIB..16 * MIB)));
        let mut taken: std::vec::Vec<FrameRange> = std::vec::Vec::new();
        while let Some(range) = pool.take(2 * MIB, 2 * MIB, u64::MAX) {
            assert!(range.start().is_aligned(2 * MIB));
            assert!(taken.iter().all(|t| range.end() <= t.start() || t.end() <= range.start()));
            taken.push(range);
        }
        assert_eq!(taken.len(), 7);
        assert_eq!(pool.free_bytes(), MIB);
    }

    #[test]
    fn what_is_given_back_becomes_whole_again() {
        let mut pool = pool(core::slice::from_ref(&(0..8 * MIB)));
        let all: std::vec::Vec<_> =
            (0..4).map(|_| pool.take(2 * MIB, 2 * MIB, u64::MAX).unwrap()).collect();
        assert_eq!(pool.take(4096, 4096, u64::MAX), None);
        for range in all.into_iter().rev() {
            pool.give_back(range);
        }
        assert!(pool.pieces().eq(core::iter::once(0..8 * MIB)));
        assert_eq!(pool.take(8 * MIB, 2 * MIB, u64::MAX).map(|r| r.len()), Some(8 * MIB));
    }

    #[test]
    fn what_is_taken_by_address_is_not_handed_out_again() {
        let mut pool = pool(&[MIB..16 * MIB, 32 * MIB..48 * MIB]);
        let taken = pool.take_at(4 * MIB..8 * MIB).unwrap();
        assert_eq!((taken.start().as_u64(), taken.len()), (4 * MIB, 4 * MIB));
        for overlapping in [4 * MIB..8 * MIB, 2 * MIB..6 * MIB, 7 * MIB..9 * MIB, MIB..16 * MIB] {
            assert_eq!(pool.take_at(overlapping), None);
        }
        let mut pieces: std::vec::Vec<_> = pool.pieces().collect();
        pieces.sort_by_key(|piece| piece.start);
        assert_eq!(pieces, [MIB..4 * MIB, 8 * MIB..16 * MIB, 32 * MIB..48 * MIB]);
        // Both sides of it can still be taken, whole, and it itself once it is back.
        assert!(pool.take_at(MIB..4 * MIB).is_some() && pool.take_at(8 * MIB..16 * MIB).is_some());
        pool.give_back(taken);
        assert!(pool.take_at(4 * MIB..8 * MIB).is_some());
    }

    #[test]
    fn what_is_split_is_the_same_memory() {
        let mut pool = pool(core::slice::from_ref(&(0..8 * MIB)));
        assert_eq!((pool.longest(u64::MAX), pool.longest(3 * MIB)), (8 * MIB, 3 * MIB));
        let all = |pool: &mut FramePool| pool.take(8 * MIB, MIB, u64::MAX).unwrap();
        let (low, high) = all(&mut pool).split(FRAME_SIZE).unwrap();
        assert_eq!((low.start().as_u64(), low.end()), (0, high.start()));
        assert_eq!((high.end().as_u64(), high.len()), (8 * MIB, 8 * MIB - FRAME_SIZE));
        pool.give_back(high);
        pool.give_back(low);
        for bad in [0, 1, 8 * MIB, 9 * MIB] {
            let whole = all(&mut pool);
            let range = whole.start().as_u64()..whole.end().as_u64();
            assert_eq!(whole.split(bad), None);
            // SAFETY: the numbers are never used as memory; what was not split is lost.
            unsafe { pool.add(range) };
        }
    }

    #[test]
    fn only_whole_frames_that_are_all_free_are_taken_by_address() {
        let mut pool = pool(&[MIB..2 * MIB, 3 * MIB..4 * MIB]);
        for bad in [MIB + 1..2 * MIB, MIB..2 * MIB - 1, MIB..MIB, MIB..4 * MIB, 2 * MIB..3 * MIB] {
            assert_eq!(pool.take_at(bad), None);
        }
        assert_eq!(pool.free_bytes(), 2 * MIB);
    }

    #[test]
    fn a_limit_and_odd_ends_are_respected() {
        let mut pool = pool(&[100..0x9_FC00, MIB..64 * MIB]);
        let low = pool.take(FRAME_SIZE, FRAME_SIZE, MIB).unwrap();
        assert_eq!(low.start().as_u64(), 0x9_E000);
        assert_eq!(pool.take(2 * MIB, 2 * MIB, MIB), None);
        assert_eq!(pool.take(0, 1, u64::MAX), None);
        assert_eq!(pool.take(u64::MAX, 1, u64::MAX), None);
    }
}
