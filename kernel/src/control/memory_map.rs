//! The first minutes of memory: who gets what of the boot loader's map, and
//! the page tables that follow from it.

use super::machine::Machine;
#[cfg(feature = "testing")]
use crate::memory::address_space::USER;
use crate::memory::address_space::{
    AddressSpace, DIRECT, MapFailed, TablePool, Use, direct, translate,
};
use crate::memory::{
    FRAME_SIZE, FramePool, FrameRange, HostPhysical, HostVirtual, LARGE_FRAME_SIZE,
};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::fmt;
use core::ops::Range;

/// The start-up code of the other cores must be below this.
const REAL_MODE_LIMIT: u64 = 1 << 20;
/// CR3 is loaded in protected mode by a starting core: its table must be below this.
const CR3_LIMIT: u64 = 1 << 32;

/// The memory that the boot loader leaves.
pub struct Memory {
    /// What is free.
    pub free: FramePool,
    /// For the start-up code of the other cores: one frame below 1 MiB.
    pub start_up: FrameRange,
    /// Bytes that hold what the boot stages have loaded and made: image, bundle, and what they need no more.
    pub boot_stages: u64,
}

/// The machine has not enough memory for the hypervisor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// Bytes that are needed in one piece.
    needed: u64,
    /// Below this address.
    limit: u64,
    /// Bytes of the longest piece that is there.
    longest: u64,
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, limit, longest } = self;
        let [needed, limit, longest] =
            [*needed, *limit, *longest].map(|bytes| bytes.div_ceil(1 << 10));
        write!(
            f,
            "too little memory: the hypervisor itself needs {needed} KiB in one piece below {limit} KiB, the longest \
             free one there has {longest} KiB; give the machine more memory, or fewer guests"
        )
    }
}

/// Where the memory ends that the boot loader has mapped: its map's last region, and at least the first 4 GiB, where devices
/// are.
pub fn mapped_end(regions: &[MemoryRegion]) -> HostPhysical {
    const LEAST: u64 = 1 << 32;
    HostPhysical::new(regions.iter().map(|region| region.end).fold(LEAST, u64::max))
}

/// Reads the boot loader's map.
///
/// # Safety
/// The regions must be the boot loader's, unchanged, and none of the free memory in use. To be called once.
pub unsafe fn read(regions: &[MemoryRegion]) -> Result<Memory, TooLittle> {
    let of = |kind| regions.iter().filter(move |region| region.kind == kind);
    let mut free = FramePool::empty();
    for region in of(MemoryRegionKind::Usable) {
        // Frame 0 stays unused: a null pointer must not lead to memory.
        // SAFETY: the caller's contract; the regions do not overlap.
        unsafe { free.add(region.start.max(FRAME_SIZE)..region.end.max(FRAME_SIZE)) };
    }
    let start_up = take(&mut free, FRAME_SIZE, REAL_MODE_LIMIT)?;
    let boot_stages =
        of(MemoryRegionKind::Bootloader).map(|region| region.end - region.start).sum();
    Ok(Memory { free, start_up, boot_stages })
}

/// Takes memory for the hypervisor itself: heap, tables, stacks. `bytes` is not 0.
pub fn set_aside(free: &mut FramePool, bytes: u64) -> Result<FrameRange, TooLittle> {
    take(free, bytes, CR3_LIMIT)
}

fn take(free: &mut FramePool, needed: u64, limit: u64) -> Result<FrameRange, TooLittle> {
    let longest = free.longest(limit);
    free.take(needed, FRAME_SIZE, limit).ok_or(TooLittle { needed, limit, longest })
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

/// What the hypervisor keeps of what the boot loader has mapped, besides its image.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Host-physical bytes of the bundle.
    pub bundle: Range<u64>,
    /// Host-virtual bytes of the framebuffer.
    pub framebuffer: Range<u64>,
}

/// Builds the page tables that all cores share. They map what the hypervisor owns and no more.
pub fn build(
    machine: &Machine,
    owned: &[Range<u64>],
    kept: &Kept,
    tables: &mut TablePool,
) -> Result<AddressSpace, MapFailed> {
    let mut space = AddressSpace::new(tables).ok_or(MapFailed::NoMemory)?;
    let mut at_direct = |range: &Range<u64>, usage| {
        space.map(direct(HostPhysical::new(range.start)), range.clone(), usage, tables)
    };
    owned.iter().try_for_each(|range| at_direct(range, Use::ReadWrite))?;
    at_direct(&kept.bundle, Use::ReadOnly)?;
    space.adopt(image(), tables)?;
    space.adopt(kept.framebuffer.clone(), tables)?;
    for &ioapic in &machine.ioapics {
        let page = ioapic.as_u64();
        space.map(direct(ioapic), page..page + FRAME_SIZE, Use::Device, tables)?;
    }
    #[cfg(feature = "testing")]
    {
        let page = tables.allocate().ok_or(MapFailed::NoMemory)?;
        // SAFETY: the frame is mapped at DIRECT, and nobody else's. RET, for whoever gets so far.
        unsafe { (direct(page).as_u64() as *mut u8).write(0xC3) };
        let range = page.as_u64()..page.as_u64() + FRAME_SIZE;
        space.map(HostVirtual::new(USER), range, Use::User, tables)?;
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

/// Where a range of pages lies, if each of them is mapped now, and they follow each other in physical memory as they do
/// here: the boot loader's word is checked.
pub fn contiguous(range: &Range<u64>) -> Option<HostPhysical> {
    let (start, _) = translate(HostVirtual::new(range.start))?;
    let next = (range.start / FRAME_SIZE + 1) * FRAME_SIZE;
    (next..range.end)
        .step_by(FRAME_SIZE as usize)
        .all(|page| {
            let wanted = start.as_u64() + (page - range.start);
            translate(HostVirtual::new(page)).is_some_and(|(at, _)| at.as_u64() == wanted)
        })
        .then_some(start)
}

const _: () = assert!(DIRECT.is_multiple_of(LARGE_FRAME_SIZE));
