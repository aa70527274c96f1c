//! MSR and I/O bitmaps: all ones, so that everything exits, but for what is let through.

// On the way of every guest: no MSR number must stop the hypervisor.
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

use crate::memory::{FRAME_SIZE, HostPhysical};

/// Bytes of each of the four parts of an MSR bitmap (SDM Vol. 3C, 25.6.9).
const PART: usize = 1024;
/// MSRs that each part covers.
const COVERED: u32 = 0x2000;
/// First MSR of the high parts.
const HIGH_START: u32 = 0xC000_0000;

const _: () = assert!(4 * PART as u64 == FRAME_SIZE && PART * 8 == COVERED as usize);

/// Which MSR accesses exit. One frame, in the layout that the processor reads.
#[repr(C, align(4096))]
pub struct MsrBitmap([u8; 4 * PART]);

/// The MSR is not covered by the bitmap: accesses to it always exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCovered(pub u32);

impl MsrBitmap {
    /// Denies everything.
    pub fn deny_all(&mut self) {
        self.0.fill(u8::MAX);
    }

    /// Lets reads of an MSR through.
    pub fn allow_read(&mut self, msr: u32) -> Result<(), NotCovered> {
        self.clear(msr, 0)
    }

    /// Lets writes of an MSR through.
    pub fn allow_write(&mut self, msr: u32) -> Result<(), NotCovered> {
        self.clear(msr, 2 * PART)
    }

    fn clear(&mut self, msr: u32, base: usize) -> Result<(), NotCovered> {
        let (part, index) = match (msr, msr.checked_sub(HIGH_START)) {
            (0..COVERED, _) => (0, msr),
            (_, Some(index @ 0..COVERED)) => (PART, index),
            _ => return Err(NotCovered(msr)),
        };
        let at = base.saturating_add(part).saturating_add(index as usize / 8);
        let byte = self.0.get_mut(at).ok_or(NotCovered(msr))?;
        *byte &= !(1 << (index % 8));
        Ok(())
    }

    /// How many accesses are let through, reads and writes together.
    pub fn allowed(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_zeros()).sum()
    }
}

/// A frame that holds an [`MsrBitmap`] for as long as a VMCS may refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrBitmapFrame(HostPhysical);

impl MsrBitmapFrame {
    /// The bitmap in `frame`.
    ///
    /// # Safety
    /// The frame holds a bitmap that lets through what the guest may use and no more, until no VMCS refers to
    /// it any longer.
    pub const unsafe fn new(frame: HostPhysical) -> Self {
        Self(frame)
    }

    /// The frame.
    pub const fn address(self) -> HostPhysical {
        self.0
    }
}

/// Which of half the ports exit: a guest has two, for ports 0 to 0x7FFF and 0x8000 to
/// 0xFFFF (SDM Vol. 3C, 25.6.4).
#[repr(C, align(4096))]
pub struct IoBitmap([u8; FRAME_SIZE as usize]);

impl IoBitmap {
    /// Denies everything. No port of the physical machine is a guest's.
    pub fn deny_all(&mut self) {
        self.0.fill(u8::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    fn denied() -> Box<MsrBitmap> {
        let mut bitmap = Box::new(MsrBitmap([0; 4 * PART]));
        bitmap.deny_all();
        bitmap
    }

    #[test]
    fn nothing_passes_until_it_is_let_through() {
        let mut bitmap = denied();
        assert_eq!(bitmap.allowed(), 0);
        bitmap.allow_read(0x802).unwrap();
        assert_eq!(bitmap.allowed(), 1);
        assert_eq!(bitmap.0[0x802 / 8], !(1 << 2));
    }

    #[test]
    fn each_access_has_the_place_that_the_manual_gives_it() {
        let mut bitmap = denied();
        bitmap.allow_write(0x1FFF).unwrap();
        assert_eq!(bitmap.0[3071], 0x7F);
        bitmap.allow_read(0xC000_0100).unwrap();
        assert_eq!(bitmap.0[1024 + 0x20], 0xFE);
        bitmap.allow_write(0xC000_1FFF).unwrap();
        assert_eq!(bitmap.0[4095], 0x7F);
        assert_eq!(bitmap.allowed(), 3);
    }

    #[test]
    fn what_the_bitmap_does_not_cover_is_refused() {
        let mut bitmap = denied();
        for msr in [0x2000, 0xBFFF_FFFF, 0xC000_2000, u32::MAX] {
            assert_eq!(bitmap.allow_read(msr), Err(NotCovered(msr)));
        }
        assert_eq!(bitmap.allowed(), 0);
    }
}
