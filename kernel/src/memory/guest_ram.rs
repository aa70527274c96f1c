//! A guest's RAM, as the core that runs the guest sees it.

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

use super::{FrameRange, GuestMemory, GuestPhysical, HostPhysical, HostVirtual, NotRam, RamLayout};
use crate::arch::copy;

/// RAM that belongs to one guest. The frames are contiguous; the guest sees them as `layout` says.
#[derive(Debug)]
pub struct GuestRam {
    frames: FrameRange,
    view: RamView,
}

impl GuestRam {
    /// Makes `frames` the RAM of a guest, and wipes them: nothing of an earlier owner's is left.
    ///
    /// # Safety
    /// The frames must be mapped writable, in order, from `window` on the cores that use this
    /// value, for as long as it lives.
    pub unsafe fn new(frames: FrameRange, window: HostVirtual) -> Self {
        let view = RamView { window, layout: RamLayout::new(frames.len()) };
        let mut ram = Self { frames, view };
        ram.scrub();
        ram
    }

    /// Where the guest sees its RAM.
    pub fn layout(&self) -> RamLayout {
        self.view.layout
    }

    /// First host-physical byte.
    pub fn host_start(&self) -> HostPhysical {
        self.frames.start()
    }

    /// The RAM as one of the guest's cores reads and writes it.
    ///
    /// # Safety
    /// The view may be used only on cores that have the same window to these frames, and only while
    /// this value lives.
    pub unsafe fn view(&self) -> RamView {
        self.view
    }

    /// Sets all of the RAM to zero.
    pub fn scrub(&mut self) {
        // SAFETY: the window maps exactly these frames, by `new`'s contract.
        unsafe { copy::zero(self.view.window.as_u64() as *mut u8, self.frames.len() as usize) };
    }

    /// Wipes the RAM and gives the frames up.
    pub fn into_frames(mut self) -> FrameRange {
        self.scrub();
        self.frames
    }
}

/// A guest's RAM as one of its cores reads and writes it; its owner is a [`GuestRam`]. Accesses race
/// with the guest's own by nature: each is a copy, in assembly.
#[derive(Clone, Copy, Debug)]
pub struct RamView {
    /// Mapped on the guest's cores alone, to the same frames on each.
    window: HostVirtual,
    layout: RamLayout,
}

impl RamView {
    /// Where the guest sees its RAM.
    pub fn layout(&self) -> RamLayout {
        self.layout
    }

    fn host(&self, at: GuestPhysical, len: u64) -> Result<*mut u8, NotRam> {
        let offset = self.layout.offset_of(at, len).ok_or(NotRam { at, len })?;
        Ok(self.window.as_u64().wrapping_add(offset) as *mut u8)
    }
}

impl GuestMemory for RamView {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        let from = self.host(at, into.len() as u64)?;
        // SAFETY: the range was checked to be inside the window; `into` is ours.
        unsafe { copy::copy(into.as_mut_ptr(), from, into.len()) };
        Ok(())
    }

    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam> {
        let to = self.host(at, from.len() as u64)?;
        // SAFETY: the range was checked to be inside the window; `from` is ours.
        unsafe { copy::copy(to, from.as_ptr(), from.len()) };
        Ok(())
    }

    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        let to = self.host(at, len)?;
        // SAFETY: the range was checked to be inside the window.
        unsafe { copy::zero(to, len as usize) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FramePool;
    use super::*;

    #[test]
    fn ram_is_wiped_and_bounded() {
        let mut backing = std::vec![0xAAu8; 3 << 20];
        let window = HostVirtual::new((backing.as_mut_ptr() as u64).next_multiple_of(4096));
        let mut pool = FramePool::empty();
        // SAFETY: the numbers are never used as memory.
        unsafe { pool.add(0..2 << 20) };
        let frames = pool.take(2 << 20, 2 << 20, u64::MAX).unwrap();
        // SAFETY: the vector holds the window and outlives it.
        let ram = unsafe { GuestRam::new(frames, window) };
        // SAFETY: as above.
        let mut view = unsafe { ram.view() };
        let mut word = [0xFF; 8];
        let last = GuestPhysical::new((2 << 20) - 8);
        view.read(last, &mut word).unwrap();
        assert_eq!(word, [0; 8], "a former owner's bytes");
        view.write_u64(last, 42).unwrap();
        assert_eq!(view.read_u64(last), Ok(42));
        let beyond = GuestPhysical::new((2 << 20) - 7);
        assert_eq!(view.read(beyond, &mut word), Err(NotRam { at: beyond, len: 8 }));
        assert_eq!(ram.into_frames().len(), 2 << 20);
        let end = window.as_u64() as usize - backing.as_ptr() as usize + (2 << 20);
        assert_eq!(backing[end - 8..end], [0; 8], "scrubbed when given up");
        assert_eq!(backing[end], 0xAA, "nothing beyond was touched");
    }
}
