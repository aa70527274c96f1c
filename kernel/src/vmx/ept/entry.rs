//! One entry of an EPT table: its bits, and the types that they stand for.
//!
//! SDM Vol. 3C, 29.3.2 (tables 29-1 to 29-7) for the formats, 29.3.3.1 for what is a
//! misconfiguration.

use crate::memory::{FRAME_SIZE, HostPhysical, LARGE_FRAME_SIZE};

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Bits of the guest-physical address that each level of tables translates.
pub const INDEX_BITS: u32 = 9;
/// Bits of the guest-physical address that a 4 KiB page leaves untranslated.
pub const OFFSET_BITS: u32 = 12;
/// Levels of tables.
pub const LEVELS: u32 = 4;
/// Bits of guest-physical address that four levels translate.
pub const GUEST_BITS: u32 = OFFSET_BITS + LEVELS * INDEX_BITS;
/// Most bits of physical address that an entry can hold.
pub const MOST_PHYSICAL_BITS: u32 = 52;
/// Bytes in a 1 GiB page.
pub const HUGE_FRAME_SIZE: u64 = 1 << 30;

const _: () = assert!(ENTRIES == 1 << INDEX_BITS);
const _: () = assert!(ENTRIES * size_of::<u64>() == FRAME_SIZE as usize);
const _: () = assert!(FRAME_SIZE == 1 << OFFSET_BITS);
const _: () = assert!(LARGE_FRAME_SIZE == FRAME_SIZE << INDEX_BITS);
const _: () = assert!(HUGE_FRAME_SIZE == LARGE_FRAME_SIZE << INDEX_BITS);
const _: () = assert!(GUEST_BITS == 48);

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const PRESENT: u64 = READ | WRITE | EXECUTE;
const MEMORY_TYPE_SHIFT: u32 = 3;
const MEMORY_TYPE_MASK: u64 = 0b111;
/// In a directory entry: it maps a page itself.
const PAGE: u64 = 1 << 7;
/// Bits 51:12, where the physical address is.
const ADDRESS: u64 = (1 << MOST_PHYSICAL_BITS) - FRAME_SIZE;

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Data reads.
    pub read: bool,
    /// Data writes; needs `read`.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

impl Rights {
    /// Reads only.
    pub const READ: Self = Self { read: true, write: false, execute: false };
    /// Reads and writes: data, MMIO.
    pub const READ_WRITE: Self = Self { read: true, write: true, execute: false };
    /// Reads and instruction fetches.
    pub const READ_EXECUTE: Self = Self { read: true, write: false, execute: true };
    /// All three: ordinary RAM of a guest that manages its own rights.
    pub const ALL: Self = Self { read: true, write: true, execute: true };

    const fn bits(self) -> u64 {
        (if self.read { READ } else { 0 })
            | (if self.write { WRITE } else { 0 })
            | (if self.execute { EXECUTE } else { 0 })
    }
}

/// Memory type of a page, combined with the guest's PAT (SDM Vol. 3C, 29.3.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryType {
    /// UC, for MMIO.
    Uncached = 0,
    /// WC, for framebuffers.
    WriteCombining = 1,
    /// WT.
    WriteThrough = 4,
    /// WP.
    WriteProtected = 5,
    /// WB, for RAM.
    WriteBack = 6,
}

impl MemoryType {
    const fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => Some(Self::Uncached),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            _ => None,
        }
    }
}

/// Size of a page, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// A small page.
    FourKib,
    /// Mapped by a page-directory entry.
    TwoMib,
    /// Mapped by an entry of the page-directory-pointer table.
    OneGib,
}

impl PageSize {
    /// Bytes in the page.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::FourKib => FRAME_SIZE,
            Self::TwoMib => LARGE_FRAME_SIZE,
            Self::OneGib => HUGE_FRAME_SIZE,
        }
    }

    /// Level of the table whose entries map such a page; 1 is the page table.
    pub(super) const fn level(self) -> u32 {
        match self {
            Self::FourKib => 1,
            Self::TwoMib => 2,
            Self::OneGib => 3,
        }
    }

    const fn of_level(level: u32) -> Option<Self> {
        match level {
            1 => Some(Self::FourKib),
            2 => Some(Self::TwoMib),
            3 => Some(Self::OneGib),
            _ => None,
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// No access of any kind: the guest's access exits as an EPT violation.
    NotPresent,
    /// The next table.
    Table(HostPhysical),
    /// A page.
    Page(HostPhysical, Rights, MemoryType, PageSize),
    /// A combination that [`Entry::page`] and [`Entry::table`] never make.
    Invalid,
}

impl Entry {
    /// Reads an entry of a table of `level` (4 is the root, 1 the page table).
    pub const fn decode(raw: u64, level: u32) -> Self {
        if raw & PRESENT == 0 {
            return Self::NotPresent;
        }
        let address = HostPhysical::new(raw & ADDRESS);
        if level > PageSize::FourKib.level() && raw & PAGE == 0 {
            return Self::Table(address);
        }
        let rights =
            Rights { read: raw & READ != 0, write: raw & WRITE != 0, execute: raw & EXECUTE != 0 };
        let memory_type = MemoryType::from_bits((raw >> MEMORY_TYPE_SHIFT) & MEMORY_TYPE_MASK);
        match (memory_type, PageSize::of_level(level)) {
            (Some(memory_type), Some(size)) => Self::Page(address, rights, memory_type, size),
            _ => Self::Invalid,
        }
    }

    /// The entry that maps a page. "Ignore PAT" stays clear, so that a guest's driver can
    /// still make its own mapping of a write-back page uncached.
    pub const fn page(
        host: HostPhysical,
        rights: Rights,
        memory_type: MemoryType,
        size: PageSize,
    ) -> u64 {
        let page = if size.level() > PageSize::FourKib.level() { PAGE } else { 0 };
        host.as_u64() | rights.bits() | ((memory_type as u64) << MEMORY_TYPE_SHIFT) | page
    }

    /// The entry that points to the next table. Rights are decided by the leaves.
    pub const fn table(table: HostPhysical) -> u64 {
        table.as_u64() | PRESENT
    }
}

/// The place of an entry in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(usize);

impl Index {
    /// In a table of `level`, for a guest-physical address.
    pub(super) const fn of(guest: u64, level: u32) -> Self {
        Self(((guest >> shift(level)) as usize) & (ENTRIES - 1))
    }

    /// Entries before it: below [`ENTRIES`].
    pub const fn get(self) -> usize {
        self.0
    }
}

/// Bytes of guest-physical address space behind one entry of a table of `level`.
pub(super) const fn span(level: u32) -> u64 {
    1 << shift(level)
}

const fn shift(level: u32) -> u32 {
    OFFSET_BITS + (level - 1) * INDEX_BITS
}
