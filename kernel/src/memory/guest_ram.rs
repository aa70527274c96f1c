//! A guest's RAM, as the core that runs the guest sees it.

use super::{FrameRange, GuestMemory, GuestPhysical, HostPhysical, HostVirtual, NotRam, RamLayout};
use crate::arch::copy;

/// RAM that belongs to one guest, with the window through which the guest's
/// cores reach it. The frames are contiguous; the guest sees them as `layout` says.
#[derive(Debug)]
pub struct GuestRam {
    frames: FrameRange,
    window: HostVirtual,
    layout: RamLayout,
}

impl GuestRam {
    /// Makes `frames` the RAM of a guest, and wipes them: nothing of an earlier owner's is left.
    ///
    /// # Safety
    /// The frames must be mapped writable, in order, from `window` on the cores that use this
    /// value, for as long as it lives.
    pub unsafe fn new(frames: FrameRange, window: HostVirtual) -> Self {
        let layout = RamLayout::new(frames.len());
        let mut ram = Self { frames, window, layout };
        ram.scrub();
        ram
    }

    /// Where the guest sees its RAM.
    pub fn layout(&self) -> RamLayout {
        self.layout
    }

    /// First host-physical byte.
    pub fn host_start(&self) -> HostPhysical {
        self.frames.start()
    }

    /// Sets all of the RAM to zero.
    pub fn scrub(&mut self) {
        // SAFETY: the window maps exactly these frames, by `new`'s contract.
        unsafe { copy::zero(self.window.as_u64() as *mut u8, self.frames.len() as usize) };
    }

    /// Wipes the RAM and gives the frames up.
    pub fn into_frames(mut self) -> FrameRange {
        self.scrub();
        self.frames
    }

    fn host(&self, at: GuestPhysical, len: u64) -> Result<*mut u8, NotRam> {
        let offset = self.layout.offset_of(at, len).ok_or(NotRam { at, len })?;
        Ok((self.window.as_u64() + offset) as *mut u8)
    }
}

impl GuestMemory for GuestRam {
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
        let mut ram = unsafe { GuestRam::new(frames, window) };
        let mut word = [0xFF; 8];
        let last = GuestPhysical::new((2 << 20) - 8);
        ram.read(last, &mut word).unwrap();
        assert_eq!(word, [0; 8], "a former owner's bytes");
        ram.write_u64(last, 42).unwrap();
        assert_eq!(ram.read_u64(last), Ok(42));
        let beyond = GuestPhysical::new((2 << 20) - 7);
        assert_eq!(ram.read(beyond, &mut word), Err(NotRam { at: beyond, len: 8 }));
        assert_eq!(ram.into_frames().len(), 2 << 20);
        let end = window.as_u64() as usize - backing.as_ptr() as usize + (2 << 20);
        assert_eq!(backing[end - 8..end], [0; 8], "scrubbed when given up");
        assert_eq!(backing[end], 0xAA, "nothing beyond was touched");
    }
}
