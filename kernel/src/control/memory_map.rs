//! The first minutes of memory: who gets what of the boot loader's map, and
//! the page tables that follow from it.

use super::machine::Machine;
use crate::memory::address_space::{
    AddressSpace, DIRECT, MapFailed, TablePool, Use, direct, translate,
};
use crate::memory::{
    FRAME_SIZE, FramePool, FrameRange, HostPhysical, HostVirtual, LARGE_FRAME_SIZE,
};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::ops::Range;

/// Memory for the hypervisor's heap.
const HEAP_SIZE: u64 = 8 << 20;
/// Memory for page tables, EPT, VMCSs, bitmaps and stacks.
const TABLES_SIZE: u64 = 16 << 20;
/// The start-up code of the other cores must be below this.
const REAL_MODE_LIMIT: u64 = 1 << 20;
/// CR3 is loaded in protected mode by a starting core: its table must be below this.
const CR3_LIMIT: u64 = 1 << 32;

/// The machine's memory, divided.
pub struct Division {
    /// For the heap.
    pub heap: FrameRange,
    /// For tables and stacks.
    pub tables: FrameRange,
    /// For the start-up code of the other cores: one frame below 1 MiB.
    pub low: FrameRange,
    /// For guests.
    pub guests: FramePool,
}

/// The machine has not enough memory for the hypervisor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// What is there, in bytes.
    pub usable: u64,
}

/// Divides what the boot loader says is free.
///
/// # Safety
/// The regions must be the boot loader's, unchanged, and none of the free memory in use.
pub unsafe fn divide(regions: &[MemoryRegion]) -> Result<Division, TooLittle> {
    let mut pool = FramePool::empty();
    for region in regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable) {
        // Frame 0 stays unused: a null pointer must not lead to memory.
        // SAFETY: the caller's contract; the regions do not overlap.
        unsafe { pool.add(region.start.max(FRAME_SIZE)..region.end.max(FRAME_SIZE)) };
    }
    let usable = pool.free_bytes();
    let mut take = |len, align, limit| pool.take(len, align, limit).ok_or(TooLittle { usable });
    let low = take(FRAME_SIZE, FRAME_SIZE, REAL_MODE_LIMIT)?;
    let heap = take(HEAP_SIZE, LARGE_FRAME_SIZE, CR3_LIMIT)?;
    let tables = take(TABLES_SIZE, LARGE_FRAME_SIZE, CR3_LIMIT)?;
    Ok(Division { heap, tables, low, guests: pool })
}

unsafe extern "C" {
    // The linker's symbols for the first and last byte of the image.
    static __executable_start: u8;
    static _end: u8;
}

/// Host-virtual addresses of the hypervisor's image.
pub fn image() -> Range<u64> {
    &raw const __executable_start as u64..&raw const _end as u64
}

/// What the hypervisor keeps of the boot loader's mappings, besides its image.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The bundle.
    pub bundle: Range<u64>,
    /// The framebuffer.
    pub framebuffer: Range<u64>,
}

/// Builds the page tables that all cores share. They map what the hypervisor owns and no more.
pub fn build(
    machine: &Machine,
    owned: [Range<u64>; 3],
    kept: &Kept,
    tables: &mut TablePool,
) -> Result<AddressSpace, MapFailed> {
    let mut space = AddressSpace::new(tables).ok_or(MapFailed::NoMemory)?;
    for range in owned {
        space.map(direct(HostPhysical::new(range.start)), range, Use::ReadWrite, tables)?;
    }
    space.adopt(image(), false, tables)?;
    space.adopt(kept.bundle.clone(), true, tables)?;
    space.adopt(kept.framebuffer.clone(), false, tables)?;
    for &ioapic in &machine.ioapics {
        let page = ioapic.as_u64();
        space.map(direct(ioapic), page..page + FRAME_SIZE, Use::Device, tables)?;
    }
    Ok(space)
}

/// Tables for a starting core: all that is shared, and the start-up frame one to one.
pub fn startup_space(
    shared: &AddressSpace,
    low: &FrameRange,
    tables: &mut TablePool,
) -> Result<AddressSpace, MapFailed> {
    let mut space = shared.fork(tables).ok_or(MapFailed::NoMemory)?;
    let frame = low.start().as_u64();
    let range = frame..frame + FRAME_SIZE;
    space.map(HostVirtual::new(frame), range, Use::Execute, tables)?;
    Ok(space)
}

/// Whether each page of a range is mapped now: the boot loader's word is checked.
pub fn is_mapped(range: &Range<u64>) -> bool {
    let start = range.start & !(FRAME_SIZE - 1);
    (start..range.end)
        .step_by(FRAME_SIZE as usize)
        .all(|page| translate(HostVirtual::new(page)).is_some())
}

const _: () = assert!(DIRECT.is_multiple_of(LARGE_FRAME_SIZE));
