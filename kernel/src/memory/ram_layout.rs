//! Where a guest sees its RAM.

// Guests name the addresses: none of them must stop the hypervisor.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

use super::GuestPhysical;
use core::ops::Range;

/// End of the low part of guest RAM: what does not fit below goes above 4 GiB,
/// so that the MMIO hole holds the IOAPIC and the APIC page at their usual places.
pub const LOW_RAM_END: u64 = 0xC000_0000;
/// Start of the part of guest RAM above the MMIO hole.
pub const HIGH_RAM_START: u64 = 0x1_0000_0000;

/// Guest RAM in guest-physical terms: `[0, low)` and, above the hole, `[4 GiB, 4 GiB + high)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    size: u64,
}

impl RamLayout {
    /// The layout of `size` bytes of RAM.
    pub const fn new(size: u64) -> Self {
        Self { size }
    }

    /// Bytes of RAM in all.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// End of the low part, which starts at 0.
    pub const fn low_end(&self) -> u64 {
        if self.size < LOW_RAM_END { self.size } else { LOW_RAM_END }
    }

    /// The part above the hole; empty when all fits below.
    pub const fn high(&self) -> Range<u64> {
        // Neither wraps for a size that any machine has.
        let size = self.size.saturating_sub(self.low_end());
        HIGH_RAM_START..HIGH_RAM_START.saturating_add(size)
    }

    /// Offset into the guest's RAM of `len` bytes at `at`, or `None` where any of them is not RAM.
    pub fn offset_of(&self, at: GuestPhysical, len: u64) -> Option<u64> {
        let start = at.as_u64();
        let end = start.checked_add(len)?;
        let high = self.high();
        if end <= self.low_end() {
            Some(start)
        } else if start >= high.start && end <= high.end {
            start.checked_sub(high.start)?.checked_add(self.low_end())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_that_fits_below_the_hole_is_one_piece() {
        let ram = RamLayout::new(128 << 20);
        assert_eq!(ram.low_end(), 128 << 20);
        assert!(ram.high().is_empty());
        assert_eq!(ram.offset_of(GuestPhysical::new((128 << 20) - 4), 4), Some((128 << 20) - 4));
        assert_eq!(ram.offset_of(GuestPhysical::new((128 << 20) - 4), 5), None);
    }

    #[test]
    fn ram_beyond_the_hole_continues_at_4_gib() {
        let ram = RamLayout::new(4 << 30);
        assert_eq!(ram.low_end(), LOW_RAM_END);
        assert_eq!(ram.high(), HIGH_RAM_START..HIGH_RAM_START + (1 << 30));
        assert_eq!(ram.offset_of(GuestPhysical::new(HIGH_RAM_START), 1), Some(LOW_RAM_END));
        // An access may not straddle the hole, nor wrap around.
        assert_eq!(ram.offset_of(GuestPhysical::new(LOW_RAM_END - 1), 2), None);
        assert_eq!(ram.offset_of(GuestPhysical::new(u64::MAX), 2), None);
        assert_eq!(ram.offset_of(GuestPhysical::new(0xFEC0_0000), 4), None);
    }
}
