//! The hypervisor's own page tables.
//!
//! | host-virtual                    | what                                                   |
//! |---------------------------------|--------------------------------------------------------|
//! | `DIRECT` + host-physical        | memory that the hypervisor owns, the bundle, MMIO      |
//! | `WINDOW`                        | the RAM of the guest of this core, on this core alone  |
//! | `STACKS`                        | stacks, with unmapped guard pages below each           |
//! | where the boot loader put it    | the image: code read-only, data no-execute             |
//!
//! The boot loader's tables map all physical memory at the same `DIRECT`, so
//! that an address that is good before the switch is good after it, if the
//! hypervisor owns what is there.

use super::{FRAME_SIZE, FrameRange, HostPhysical, HostVirtual, LARGE_FRAME_SIZE};
use crate::arch::cpu;
use core::ops::Range;
use x86_64::structures::paging::mapper::{MapToError, MappedFrame, TranslateResult};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

/// Start of the map of what the hypervisor owns.
pub const DIRECT: u64 = 0xFFFF_8000_0000_0000;
/// Start of the window to this core's guest.
pub const WINDOW: u64 = 0xFFFF_8080_0000_0000;
/// Start of the stacks.
pub const STACKS: u64 = 0xFFFF_8100_0000_0000;

/// A user's page, of which the hypervisor has none: for a test of SMEP and SMAP.
#[cfg(feature = "testing")]
pub const USER: u64 = 0xFFFF_8180_0000_0000;

/// Bytes that one entry of a PML4 maps.
const PML4_ENTRY: u64 = 1 << 39;

const _: () = assert!(WINDOW - DIRECT == PML4_ENTRY && STACKS - WINDOW == PML4_ENTRY);
// The largest guest fits the window.
const _: () = assert!(bulkhead_manifest::limits::MAX_MEMORY <= STACKS - WINDOW);

/// Where memory that the hypervisor owns is mapped.
pub fn direct(at: HostPhysical) -> HostVirtual {
    HostVirtual::new(DIRECT + at.as_u64())
}

/// What may be done with a mapping, and how it is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Data to read.
    ReadOnly,
    /// Data to read and write.
    ReadWrite,
    /// Registers of a device: read and written, uncached.
    Device,
    /// Code, for the moment in which a core starts.
    Execute,
    /// Code and data of a user's.
    #[cfg(feature = "testing")]
    User,
}

impl Use {
    fn flags(self) -> PageTableFlags {
        let base = PageTableFlags::PRESENT;
        match self {
            Self::ReadOnly => base | PageTableFlags::NO_EXECUTE,
            Self::ReadWrite => base | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE,
            Self::Device => {
                base | PageTableFlags::WRITABLE
                    | PageTableFlags::NO_EXECUTE
                    | PageTableFlags::NO_CACHE
                    | PageTableFlags::WRITE_THROUGH
            }
            Self::Execute => base,
            #[cfg(feature = "testing")]
            Self::User => base | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE,
        }
    }
}

/// The memory for page tables ran out, or a page was mapped already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapFailed {
    /// No frame for a table.
    NoMemory,
    /// Something is mapped at this host-virtual address.
    Occupied(HostVirtual),
}

/// Frames for the hypervisor's own tables: page tables, VMCSs, bitmaps, stacks.
/// They come from one contiguous range that is mapped whole.
pub struct TablePool {
    next: u64,
    end: u64,
    /// The frame that came back last; each begins with the address of the one before, or 0.
    given_back: u64,
    /// Frames that are handed out.
    in_use: u64,
    frames: u64,
}

impl TablePool {
    /// Hands out the frames of `range`.
    ///
    /// # Safety
    /// The range must be mapped writable at [`direct`] for ever.
    pub unsafe fn new(range: FrameRange) -> Self {
        let (next, end) = (range.start().as_u64(), range.end().as_u64());
        Self { next, end, given_back: 0, in_use: 0, frames: range.len() / FRAME_SIZE }
    }

    /// A frame of zeroes.
    pub fn allocate(&mut self) -> Option<HostPhysical> {
        let frame = if self.given_back != 0 {
            let frame = HostPhysical::new(self.given_back);
            // SAFETY: the frame is this pool's and mapped; `give_back` wrote the address.
            self.given_back = unsafe { *(direct(frame).as_u64() as *const u64) };
            frame
        } else if self.next < self.end {
            let frame = HostPhysical::new(self.next);
            self.next += FRAME_SIZE;
            frame
        } else {
            return None;
        };
        self.in_use += 1;
        // SAFETY: the frame is this pool's and mapped, by `new`'s contract; nobody else has it.
        unsafe {
            crate::arch::copy::zero(direct(frame).as_u64() as *mut u8, FRAME_SIZE as usize);
        }
        Some(frame)
    }

    /// Takes back a frame that [`allocate`](Self::allocate) handed out.
    ///
    /// # Safety
    /// Nothing may use the frame any more, no processor's structure among them.
    pub unsafe fn give_back(&mut self, frame: HostPhysical) {
        // SAFETY: the frame is this pool's and mapped, and nobody else uses it, by the caller's contract.
        unsafe { *(direct(frame).as_u64() as *mut u64) = self.given_back };
        self.given_back = frame.as_u64();
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// How many frames are handed out, and how many there are.
    pub fn usage(&self) -> (u64, u64) {
        (self.in_use, self.frames)
    }
}

// SAFETY: each frame is handed out once.
unsafe impl FrameAllocator<Size4KiB> for TablePool {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.allocate()?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.as_u64())))
    }
}

/// The page tables of a guest's memory, as the cores of this guest see it at [`WINDOW`]: what is in that entry of the top
/// level. They live as long as the guest has its memory, which is the same in each of its runs.
pub struct Window(PageTableEntry);

impl Window {
    /// Makes the tables for a window to `frames`.
    pub fn new(frames: &FrameRange, tables: &mut TablePool) -> Result<Self, MapFailed> {
        let mut space = AddressSpace::new(tables).ok_or(MapFailed::NoMemory)?;
        let range = frames.start().as_u64()..frames.end().as_u64();
        let mapped = space.map(HostVirtual::new(WINDOW), range, Use::ReadWrite, tables);
        // SAFETY: the root is a PML4 of this function's, mapped at DIRECT.
        let root = unsafe { &*(direct(space.root).as_u64() as *const PageTable) };
        let window = Self(root[VirtAddr::new(WINDOW).p4_index()].clone());
        // SAFETY: no core has ever loaded this root.
        unsafe { tables.give_back(space.root) };
        if let Err(error) = mapped {
            // SAFETY: nor what has been made below it.
            unsafe { window.give_back(tables) };
            return Err(error);
        }
        Ok(window)
    }

    /// Gives the tables back.
    ///
    /// # Safety
    /// No core may have the window open, nor anything of it in its TLB or its caches for page tables.
    pub unsafe fn give_back(self, tables: &mut TablePool) {
        /// Levels below the entry of the top level: page-directory-pointer table, page directory, page table.
        const LEVELS: u32 = 3;
        // SAFETY: the caller's contract; the entry leads to tables of the pool that `new` made for it alone.
        unsafe { give_back_below(&self.0, LEVELS, tables) };
    }
}

/// Gives back the table that an entry leads to, and the tables below it: `levels` of them one below the other.
///
/// # Safety
/// The tables are the pool's, and no processor uses them any more.
unsafe fn give_back_below(entry: &PageTableEntry, levels: u32, tables: &mut TablePool) {
    if !entry.flags().contains(PageTableFlags::PRESENT) {
        return;
    }
    let table = HostPhysical::new(entry.addr().as_u64());
    if levels > 1 {
        // SAFETY: a table of the pool's, mapped at DIRECT, by the caller's contract.
        let entries = unsafe { &*(direct(table).as_u64() as *const PageTable) };
        let lead_on = |entry: &&PageTableEntry| !entry.flags().contains(PageTableFlags::HUGE_PAGE);
        for entry in entries.iter().filter(lead_on) {
            // SAFETY: as above, one level further down.
            unsafe { give_back_below(entry, levels - 1, tables) };
        }
    }
    // SAFETY: the caller's contract.
    unsafe { tables.give_back(table) };
}

/// One PML4 and what hangs below it.
pub struct AddressSpace {
    root: HostPhysical,
}

impl AddressSpace {
    /// An empty one.
    pub fn new(tables: &mut TablePool) -> Option<Self> {
        Some(Self { root: tables.allocate()? })
    }

    /// A second root that shares all that is mapped so far, below its top level,
    /// but has a window of its own.
    pub fn fork(&self, tables: &mut TablePool) -> Option<Self> {
        let root = tables.allocate()?;
        // SAFETY: both frames are PML4s of this type's, mapped at DIRECT; the new one is unshared.
        unsafe {
            let from = &*(direct(self.root).as_u64() as *const PageTable);
            let to = &mut *(direct(root).as_u64() as *mut PageTable);
            for (to, from) in to.iter_mut().zip(from.iter()) {
                *to = from.clone();
            }
            to[VirtAddr::new(WINDOW).p4_index()].set_unused();
        }
        Some(Self { root })
    }

    /// Host-physical address of the PML4, for CR3.
    pub fn root(&self) -> HostPhysical {
        self.root
    }

    fn mapper(&mut self) -> OffsetPageTable<'_> {
        // SAFETY: the root is a PML4 that this value owns, and it and all tables below it are
        // frames of a `TablePool`, mapped at DIRECT.
        unsafe {
            let root = &mut *(direct(self.root).as_u64() as *mut PageTable);
            OffsetPageTable::new(root, VirtAddr::new(DIRECT))
        }
    }

    /// Maps physical memory at `at`, in 2 MiB pages where both sides are aligned. The ends
    /// are rounded outwards to whole pages.
    pub fn map(
        &mut self,
        at: HostVirtual,
        physical: Range<u64>,
        usage: Use,
        tables: &mut TablePool,
    ) -> Result<(), MapFailed> {
        let mut from = physical.start & !(FRAME_SIZE - 1);
        let mut to = at.as_u64() & !(FRAME_SIZE - 1);
        let end = physical.end.next_multiple_of(FRAME_SIZE);
        let mut mapper = self.mapper();
        while from < end {
            let large = from.is_multiple_of(LARGE_FRAME_SIZE)
                && to.is_multiple_of(LARGE_FRAME_SIZE)
                && end - from >= LARGE_FRAME_SIZE;
            let len = if large { LARGE_FRAME_SIZE } else { FRAME_SIZE };
            // SAFETY: what the callers map is memory that the hypervisor owns, in places of the
            // table above, each mapped once, so that no reference is invalidated.
            unsafe {
                if large {
                    map_page::<Size2MiB>(&mut mapper, to, from, usage.flags(), tables)?;
                } else {
                    map_page::<Size4KiB>(&mut mapper, to, from, usage.flags(), tables)?;
                }
            }
            from += len;
            to += len;
        }
        Ok(())
    }

    /// Copies one page's mapping from the tables that are in force.
    fn adopt_page(&mut self, page: u64, tables: &mut TablePool) -> Result<bool, MapFailed> {
        let Some((physical, flags)) = translate(HostVirtual::new(page)) else { return Ok(false) };
        let rights = PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
        let flags = PageTableFlags::PRESENT | flags & rights;
        // SAFETY: the same page with the same rights as now.
        unsafe {
            map_page::<Size4KiB>(&mut self.mapper(), page, physical.as_u64(), flags, tables)?;
        }
        Ok(true)
    }

    /// Copies the mappings of a range of pages from the tables that are in force, with their rights; returns how many.
    pub fn adopt(&mut self, range: Range<u64>, tables: &mut TablePool) -> Result<usize, MapFailed> {
        let mut adopted = 0;
        let mut page = range.start & !(FRAME_SIZE - 1);
        while page < range.end {
            adopted += usize::from(self.adopt_page(page, tables)?);
            // The image may end at the very top of the address space.
            let Some(next) = page.checked_add(FRAME_SIZE) else { break };
            page = next;
        }
        Ok(adopted)
    }

    /// Opens a window to a guest's memory, instead of the one that was open. A core that runs in this address space sees
    /// it when it loads CR3 the next time.
    pub fn open(&mut self, window: &Window) {
        // SAFETY: the root is a PML4 that this value owns, mapped at DIRECT.
        let root = unsafe { &mut *(direct(self.root).as_u64() as *mut PageTable) };
        root[VirtAddr::new(WINDOW).p4_index()] = window.0.clone();
    }

    /// Closes the window. A core that runs in this address space has it open until it loads CR3 the next time.
    pub fn close(&mut self) {
        // SAFETY: the root is a PML4 that this value owns, mapped at DIRECT.
        let root = unsafe { &mut *(direct(self.root).as_u64() as *mut PageTable) };
        root[VirtAddr::new(WINDOW).p4_index()].set_unused();
    }

    /// Makes this the address space of the calling core.
    ///
    /// # Safety
    /// The code that runs, its stack and all it will touch must be mapped.
    pub unsafe fn activate(&self) {
        // SAFETY: the caller's contract.
        unsafe { cpu::write_cr3(self.root.as_u64()) };
    }
}

/// Translates with the tables that are in force, which must be the boot
/// loader's or ours: both map their tables at `DIRECT`... the flags are those of the last level.
pub fn translate(at: HostVirtual) -> Option<(HostPhysical, PageTableFlags)> {
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    let root = DIRECT + (cpu::read_cr3() & ADDRESS);
    // SAFETY: CR3 holds a PML4, and all tables are mapped at DIRECT; only read here.
    let mapper =
        unsafe { OffsetPageTable::new(&mut *(root as *mut PageTable), VirtAddr::new(DIRECT)) };
    match mapper.translate(VirtAddr::try_new(at.as_u64()).ok()?) {
        TranslateResult::Mapped { frame, offset, flags } => {
            let start = match frame {
                MappedFrame::Size4KiB(frame) => frame.start_address(),
                MappedFrame::Size2MiB(frame) => frame.start_address(),
                MappedFrame::Size1GiB(frame) => frame.start_address(),
            };
            Some((HostPhysical::new(start.as_u64() + offset), flags))
        }
        _ => None,
    }
}

/// Maps one page.
///
/// # Safety
/// As `Mapper::map_to`: no reference to what was mapped there may exist.
unsafe fn map_page<S: x86_64::structures::paging::PageSize>(
    mapper: &mut OffsetPageTable<'_>,
    to: u64,
    from: u64,
    flags: PageTableFlags,
    tables: &mut TablePool,
) -> Result<(), MapFailed>
where
    for<'a> OffsetPageTable<'a>: Mapper<S>,
{
    let page = Page::<S>::containing_address(VirtAddr::new_truncate(to));
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new_truncate(from));
    // A page is a user's if all tables above it say so; no other page has the bit.
    let user = flags & PageTableFlags::USER_ACCESSIBLE;
    let parents = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | user;
    // SAFETY: the caller's contract.
    match unsafe { mapper.map_to_with_table_flags(page, frame, flags, parents, tables) } {
        // A page that was not mapped cannot be in the TLB.
        Ok(flush) => {
            flush.ignore();
            Ok(())
        }
        Err(MapToError::FrameAllocationFailed) => Err(MapFailed::NoMemory),
        Err(_) => Err(MapFailed::Occupied(HostVirtual::new(to))),
    }
}
