//! A guest's RAM: anonymous memory of this process.

use std::ptr;

use anyhow::{Context, Result, ensure};
use bulkhead::memory::{GuestMemory, GuestPhysical, NotRam, RamLayout};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// RAM below 4 GiB, one piece from address 0 on. It is never given back: the process ends with its guest.
#[derive(Debug)]
pub struct Ram {
    start: *mut u8,
    layout: RamLayout,
}

impl Ram {
    /// RAM that is zero.
    pub fn new(layout: RamLayout) -> Result<Self> {
        ensure!(layout.size() == layout.low_end(), "the VMM gives RAM below 4 GiB alone");
        let length = layout.size() as usize;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses the place, where there is nothing.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, protection, flags) };
        Ok(Self { start: start.context("mapping the guest's RAM")?.cast(), layout })
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.start as u64
    }

    /// The place of `len` bytes of RAM.
    fn place(&self, at: GuestPhysical, len: u64) -> Result<*mut u8, NotRam> {
        let offset = self.layout.offset_of(at, len).ok_or(NotRam { at, len })?;
        Ok(self.start.wrapping_add(offset as usize))
    }
}

impl GuestMemory for Ram {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        let from = self.place(at, into.len() as u64)?;
        // SAFETY: `place` found all of it in the mapping, into which no reference exists.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam> {
        let to = self.place(at, from.len() as u64)?;
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        let to = self.place(at, len)?;
        // SAFETY: as above.
        unsafe { ptr::write_bytes(to, 0, len as usize) };
        Ok(())
    }
}
