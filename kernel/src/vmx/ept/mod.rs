//! Extended page tables: guest-physical to host-physical, with rights.
//!
//! Four levels (SDM Vol. 3C, 29.3.2), pages as large as alignment and the processor allow.
//! Nothing can be mapped twice: a partition's memory is mapped once, and a second mapping
//! of the same guest-physical address is a defect that is refused.

mod entry;
#[cfg(test)]
mod tests;

pub use entry::{
    ENTRIES, Entry, GUEST_BITS, INDEX_BITS, Index, LEVELS, MOST_PHYSICAL_BITS, MemoryType,
    OFFSET_BITS, PageSize, Rights,
};

use crate::memory::{FRAME_SIZE, GuestPhysical, HostPhysical};
use core::fmt;

/// The memory that tables are made of. Whoever implements it owns the frames, and gives
/// them back when the guest is gone.
pub trait TableFrames {
    /// A zeroed frame of 4 KiB, or `None` when there are no more.
    fn allocate(&mut self) -> Option<HostPhysical>;
    /// An entry of a table that came from [`Self::allocate`].
    fn read(&self, table: HostPhysical, index: Index) -> u64;
    /// Sets an entry of a table that came from [`Self::allocate`].
    fn write(&mut self, table: HostPhysical, index: Index, entry: u64);
}

/// Sizes of page that the processor's EPT has besides 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizes {
    /// A page-directory entry can map a page.
    pub two_mib: bool,
    /// An entry of the page-directory-pointer table can map a page.
    pub one_gib: bool,
}

/// What the processor's EPT can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Large pages.
    pub page_sizes: PageSizes,
    /// Pages that can be fetched from but not read.
    pub execute_only: bool,
    /// Width of a physical address, `MAXPHYADDR`: CPUID 0x80000008 EAX\[7:0\].
    pub physical_bits: u32,
}

impl Capabilities {
    /// Reads `IA32_VMX_EPT_VPID_CAP` (SDM Vol. 3D, A.10).
    pub const fn from_msr(ept_vpid_cap: u64, physical_bits: u32) -> Self {
        const EXECUTE_ONLY: u64 = 1 << 0;
        const TWO_MIB: u64 = 1 << 16;
        const ONE_GIB: u64 = 1 << 17;
        Self {
            page_sizes: PageSizes {
                two_mib: ept_vpid_cap & TWO_MIB != 0,
                one_gib: ept_vpid_cap & ONE_GIB != 0,
            },
            execute_only: ept_vpid_cap & EXECUTE_ONLY != 0,
            physical_bits,
        }
    }

    const fn has(&self, size: PageSize) -> bool {
        match size {
            PageSize::FourKib => true,
            PageSize::TwoMib => self.page_sizes.two_mib,
            PageSize::OneGib => self.page_sizes.one_gib,
        }
    }
}

/// Why a range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the length is not a multiple of 4 KiB, or the length is zero.
    Misaligned,
    /// The range ends beyond what four levels, or the processor's physical addresses, reach.
    BeyondLimit,
    /// Some page of the range is mapped already.
    Overlap(GuestPhysical),
    /// The processor does not allow this combination of rights (SDM Vol. 3C, 29.3.3.1).
    InvalidRights(Rights),
    /// No frame was left for a table. Part of the range may be mapped.
    OutOfFrames,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => write!(f, "EPT: range is not whole, non-empty pages of 4 KiB"),
            Self::BeyondLimit => write!(f, "EPT: range ends beyond the physical address limit"),
            Self::Overlap(at) => write!(f, "EPT: guest address {at} is mapped already"),
            Self::InvalidRights(rights) => {
                write!(f, "EPT: processor does not allow the rights {rights:?}")
            }
            Self::OutOfFrames => write!(f, "EPT: no memory left for tables"),
        }
    }
}

/// The tables of one guest. The frames stay with the [`TableFrames`] they came from, which
/// has to be the same one in every call.
#[derive(Debug)]
pub struct Ept {
    root: HostPhysical,
    tables: usize,
    capabilities: Capabilities,
}

impl Ept {
    /// Tables that map nothing, or `None` without a frame for the root.
    pub fn new(frames: &mut impl TableFrames, capabilities: Capabilities) -> Option<Self> {
        Some(Self { root: frames.allocate()?, tables: 1, capabilities })
    }

    /// Frames that the tables take, the root included.
    pub const fn tables(&self) -> usize {
        self.tables
    }

    /// The EPT pointer for the VMCS: write-back tables, four levels, and accessed and dirty
    /// flags where the caller knows the processor has them (SDM Vol. 3C, 25.6.11).
    pub const fn eptp(&self, access_dirty: bool) -> u64 {
        const WALK_LENGTH_SHIFT: u32 = 3;
        const ACCESS_DIRTY: u64 = 1 << 6;
        self.root.as_u64()
            | MemoryType::WriteBack as u64
            | ((LEVELS - 1) as u64) << WALK_LENGTH_SHIFT
            | if access_dirty { ACCESS_DIRTY } else { 0 }
    }

    /// Maps `len` bytes at `guest` to `host`, with pages of at most `largest`. Refuses the whole
    /// range if any page of it is mapped already, and then changes nothing.
    #[allow(clippy::too_many_arguments)] // all of them are what a mapping is
    pub fn map(
        &mut self,
        frames: &mut impl TableFrames,
        guest: GuestPhysical,
        host: HostPhysical,
        len: u64,
        rights: Rights,
        memory_type: MemoryType,
        largest: PageSize,
    ) -> Result<(), MapError> {
        self.check_rights(rights)?;
        let end = self.check_range(guest, host, len)?;
        if let Some(at) = self.first_mapped(frames, guest.as_u64(), end) {
            return Err(MapError::Overlap(GuestPhysical::new(at)));
        }
        let (mut at, mut to) = (guest.as_u64(), host.as_u64());
        while at < end {
            let size = self.page_size(at, to, end - at, largest);
            let raw = |size| Entry::page(HostPhysical::new(to), rights, memory_type, size);
            let mapped = self.map_page(frames, at, size, raw)?;
            at += mapped.bytes();
            to += mapped.bytes();
        }
        Ok(())
    }

    /// Where a guest-physical address leads, as the processor would see it; the host address
    /// includes the offset into the page.
    pub fn translate(
        &self,
        frames: &impl TableFrames,
        guest: GuestPhysical,
    ) -> Option<(HostPhysical, Rights, MemoryType, PageSize)> {
        let at = guest.as_u64();
        if at >> GUEST_BITS != 0 {
            return None;
        }
        let mut table = self.root;
        for level in (1..=LEVELS).rev() {
            match Entry::decode(frames.read(table, Index::of(at, level)), level) {
                Entry::Table(next) => table = next,
                Entry::Page(page, rights, memory_type, size) => {
                    let host = page.checked_add(at & (size.bytes() - 1))?;
                    return Some((host, rights, memory_type, size));
                }
                Entry::NotPresent | Entry::Invalid => return None,
            }
        }
        None
    }

    fn check_rights(&self, rights: Rights) -> Result<(), MapError> {
        // A page without any right is not present, and not a mapping.
        let valid = match (rights.read, rights.write, rights.execute) {
            (true, _, _) => true,
            (false, true, _) => false,
            (false, false, execute) => execute && self.capabilities.execute_only,
        };
        if valid { Ok(()) } else { Err(MapError::InvalidRights(rights)) }
    }

    /// The end of the guest's range. Guest-physical addresses are limited by the processor's
    /// width too: the guest's own page tables cannot hold more.
    fn check_range(
        &self,
        guest: GuestPhysical,
        host: HostPhysical,
        len: u64,
    ) -> Result<u64, MapError> {
        let aligned = |address: u64| address & (FRAME_SIZE - 1) == 0;
        if len == 0 || ![guest.as_u64(), host.as_u64(), len].into_iter().all(aligned) {
            return Err(MapError::Misaligned);
        }
        let physical_bits = self.capabilities.physical_bits.min(MOST_PHYSICAL_BITS);
        let end_within = |start: u64, bits: u32| {
            start.checked_add(len).filter(|&end| end <= 1 << bits).ok_or(MapError::BeyondLimit)
        };
        end_within(host.as_u64(), physical_bits)?;
        end_within(guest.as_u64(), physical_bits.min(GUEST_BITS))
    }

    fn page_size(&self, guest: u64, host: u64, left: u64, largest: PageSize) -> PageSize {
        let fits = |size: PageSize| {
            size <= largest
                && self.capabilities.has(size)
                && size.bytes() <= left
                && (guest | host) & (size.bytes() - 1) == 0
        };
        [PageSize::OneGib, PageSize::TwoMib]
            .into_iter()
            .find(|&size| fits(size))
            .unwrap_or(PageSize::FourKib)
    }

    /// The first mapped page in `[start, end)`, skipping what an absent table covers at once.
    fn first_mapped(&self, frames: &impl TableFrames, start: u64, end: u64) -> Option<u64> {
        let mut at = start;
        while at < end {
            let mut table = self.root;
            let mut level = LEVELS;
            loop {
                match Entry::decode(frames.read(table, Index::of(at, level)), level) {
                    Entry::Table(next) if level > 1 => {
                        table = next;
                        level -= 1;
                    }
                    Entry::NotPresent => break,
                    _ => return Some(at),
                }
            }
            at = (at | (entry::span(level) - 1)) + 1;
        }
        None
    }

    /// Writes the entry of one page that is known to be unmapped, making the tables on the way.
    /// Where a (then empty) table stands in a large page's place, maps the start of it with a
    /// smaller page. Returns the size it used.
    fn map_page(
        &mut self,
        frames: &mut impl TableFrames,
        at: u64,
        wanted: PageSize,
        raw: impl Fn(PageSize) -> u64,
    ) -> Result<PageSize, MapError> {
        let mut table = self.root;
        let mut size = wanted;
        for level in (1..=LEVELS).rev() {
            let index = Index::of(at, level);
            match Entry::decode(frames.read(table, index), level) {
                Entry::NotPresent if level == size.level() => {
                    frames.write(table, index, raw(size));
                    return Ok(size);
                }
                Entry::NotPresent => {
                    let next = frames.allocate().ok_or(MapError::OutOfFrames)?;
                    self.tables += 1;
                    frames.write(table, index, Entry::table(next));
                    table = next;
                }
                Entry::Table(next) => {
                    if level == size.level() {
                        size = smaller(size);
                    }
                    table = next;
                }
                Entry::Page(..) | Entry::Invalid => break,
            }
        }
        Err(MapError::Overlap(GuestPhysical::new(at)))
    }
}

const fn smaller(size: PageSize) -> PageSize {
    match size {
        PageSize::OneGib => PageSize::TwoMib,
        PageSize::TwoMib | PageSize::FourKib => PageSize::FourKib,
    }
}
