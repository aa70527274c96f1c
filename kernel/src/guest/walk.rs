//! Walks a guest's own page tables: guest-virtual to guest-physical.
//!
//! Needed where the processor does not say what it translated: for the bytes of an instruction
//! whose MMIO access has to be decoded. All of it is the guest's claim: tables may lie anywhere
//! and say anything, so each step reads bounds-checked RAM, the number of steps is that of the
//! levels, and the result must be checked again by whoever uses it. Access rights are not
//! checked, as the processor did so before the exit.
//!
//! SDM Vol. 3A, 4.3 (32-bit paging), 4.4 (PAE), 4.5 (4-level and 5-level).

use crate::guest::mmio::{CodeSize, MAX_INSTRUCTION};
use crate::memory::{FRAME_SIZE, GuestMemory, GuestPhysical, NotRam};
use core::fmt;

/// CR0.PG.
const CR0_PAGING: u64 = 1 << 31;
/// CR4.PSE: 4 MiB pages in 32-bit paging.
const CR4_PAGE_SIZE_EXTENSIONS: u64 = 1 << 4;
/// CR4.PAE.
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
/// CR4.LA57: five levels.
const CR4_LA57: u64 = 1 << 12;
/// `IA32_EFER.LMA`.
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

/// P, in an entry of any level.
const PRESENT: u64 = 1 << 0;
/// PS, in an entry above the page table: it maps a page.
const PAGE: u64 = 1 << 7;
/// Bits of the address that a 4 KiB page leaves untranslated.
const OFFSET_BITS: u32 = 12;
/// Bits that a level translates, with entries of 8 bytes.
const WIDE_INDEX_BITS: u32 = 9;
/// Bits that a level translates, with entries of 4 bytes.
const NARROW_INDEX_BITS: u32 = 10;
/// Bits 51:12: where an 8-byte entry, or CR3, holds an address.
const WIDE_ADDRESS: u64 = (1 << 52) - FRAME_SIZE;
/// Bits 31:12: where a 4-byte entry, or CR3 in 32-bit paging, holds an address.
const NARROW_ADDRESS: u64 = (1 << 32) - FRAME_SIZE;
/// Bits 31:5: where CR3 holds the address of the PAE page-directory-pointer table.
const PAE_CR3_ADDRESS: u64 = (1 << 32) - (1 << 5);
/// Bits 31:22: where a 4-byte entry holds the address of a 4 MiB page.
const FOUR_MIB_ADDRESS: u64 = (1 << 32) - (1 << 22);
/// PSE-36: bits 20:13 of such an entry are bits 39:32 of the address.
const PSE36_MASK: u64 = 0xFF << 13;
const PSE36_SHIFT: u32 = 32 - 13;
/// Largest page: an entry of level 3 maps 1 GiB in long mode.
const LARGEST_PAGE_LEVEL: u32 = 3;
/// Levels of PAE paging.
const PAE_LEVELS: u32 = 3;
/// A linear address outside 64-bit mode.
const LINEAR_32: u64 = u32::MAX as u64;

/// A guest-virtual (linear) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestVirtual(u64);

impl GuestVirtual {
    /// The address with this number.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for GuestVirtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestVirtual({:#x})", self.0)
    }
}

impl fmt::Display for GuestVirtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The registers that decide how the guest's addresses are translated, as the guest has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// `IA32_EFER`.
    pub efer: u64,
}

/// Why an address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// Bits above the translated ones are not copies of the highest one.
    NotCanonical(GuestVirtual),
    /// An entry on the way is not present.
    NotPresent {
        /// What was translated.
        at: GuestVirtual,
        /// Level of the table; 1 is the page table.
        level: u32,
    },
    /// A table, or the bytes themselves, are not in the guest's RAM.
    NotRam(NotRam),
}

impl From<NotRam> for WalkError {
    fn from(error: NotRam) -> Self {
        Self::NotRam(error)
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical(at) => write!(f, "guest address {at} is not canonical"),
            Self::NotPresent { at, level } => {
                write!(f, "guest address {at} is not present at level {level}")
            }
            Self::NotRam(NotRam { at, len }) => {
                write!(f, "{len} bytes at guest-physical {at} are not memory of the guest")
            }
        }
    }
}

/// Where a guest-virtual address leads. The result is a claim of the guest's.
pub fn translate(
    memory: &impl GuestMemory,
    paging: Paging,
    at: GuestVirtual,
) -> Result<GuestPhysical, WalkError> {
    let has = |register: u64, bit: u64| register & bit != 0;
    if !has(paging.cr0, CR0_PAGING) {
        Ok(GuestPhysical::new(at.0 & LINEAR_32))
    } else if !has(paging.cr4, CR4_PHYSICAL_ADDRESS_EXTENSION) {
        let large_pages = has(paging.cr4, CR4_PAGE_SIZE_EXTENSIONS);
        walk_narrow(memory, paging.cr3, large_pages, GuestVirtual(at.0 & LINEAR_32))
    } else if has(paging.efer, EFER_LONG_MODE_ACTIVE) {
        let levels = if has(paging.cr4, CR4_LA57) { 5 } else { 4 };
        check_canonical(at, levels)?;
        walk_wide(memory, paging.cr3 & WIDE_ADDRESS, levels, LARGEST_PAGE_LEVEL, at)
    } else {
        let largest = PAE_LEVELS - 1;
        let at = GuestVirtual(at.0 & LINEAR_32);
        walk_wide(memory, paging.cr3 & PAE_CR3_ADDRESS, PAE_LEVELS, largest, at)
    }
}

/// Reads instruction bytes at `rip`, up to the longest instruction, and returns how many there are:
/// fewer only where the next page is not there, so that a short instruction at the end of
/// a page is still found. Without a single byte it is an error.
pub fn fetch(
    memory: &impl GuestMemory,
    paging: Paging,
    rip: u64,
    cs_base: u64,
    size: CodeSize,
    into: &mut [u8; MAX_INSTRUCTION],
) -> Result<usize, WalkError> {
    let mut read = 0usize;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        // 64-bit mode ignores the base; elsewhere addresses wrap at 4 GiB.
        let offset = rip.wrapping_add(read as u64);
        let linear = match size {
            CodeSize::Bits64 => offset,
            CodeSize::Bits16 | CodeSize::Bits32 => cs_base.wrapping_add(offset) & LINEAR_32,
        };
        let in_page = FRAME_SIZE.saturating_sub(linear % FRAME_SIZE) as usize;
        let part = match rest.split_at_mut_checked(in_page) {
            Some((part, _)) => part,
            None => rest,
        };
        let len = part.len();
        let result = translate(memory, paging, GuestVirtual(linear))
            .and_then(|at| Ok(memory.read(at, part)?));
        match result {
            Ok(()) => read = read.saturating_add(len),
            Err(error) if read == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(read)
}

/// The lowest bit of an address that is part of its index into the table of a level.
const fn index_shift(level: u32, index_bits: u32) -> u32 {
    OFFSET_BITS.saturating_add(level.saturating_sub(1).saturating_mul(index_bits))
}

/// Where an entry is. No table ends at the end of what 64 bits can address.
const fn entry_at(table: u64, index: u64, size: usize) -> GuestPhysical {
    GuestPhysical::new(table.saturating_add(index.saturating_mul(size as u64)))
}

fn check_canonical(at: GuestVirtual, levels: u32) -> Result<(), WalkError> {
    let used = index_shift(levels, WIDE_INDEX_BITS).saturating_add(WIDE_INDEX_BITS);
    let unused = u64::BITS.saturating_sub(used);
    let extended = ((at.0 << unused) as i64 >> unused) as u64;
    if extended == at.0 { Ok(()) } else { Err(WalkError::NotCanonical(at)) }
}

/// Tables with entries of 8 bytes.
fn walk_wide(
    memory: &impl GuestMemory,
    root: u64,
    levels: u32,
    largest: u32,
    at: GuestVirtual,
) -> Result<GuestPhysical, WalkError> {
    let mut table = root;
    for level in (1..=levels).rev() {
        let shift = index_shift(level, WIDE_INDEX_BITS);
        let index = (at.0 >> shift) & ((1 << WIDE_INDEX_BITS) - 1);
        let entry = memory.read_u64(entry_at(table, index, size_of::<u64>()))?;
        if entry & PRESENT == 0 {
            return Err(WalkError::NotPresent { at, level });
        }
        if level == 1 || (level <= largest && entry & PAGE != 0) {
            let offset = !(u64::MAX << shift);
            return Ok(GuestPhysical::new((entry & WIDE_ADDRESS & !offset) | (at.0 & offset)));
        }
        table = entry & WIDE_ADDRESS;
    }
    // There is at least one level, and the last one returns.
    Err(WalkError::NotPresent { at, level: 0 })
}

/// Two levels of tables with entries of 4 bytes.
fn walk_narrow(
    memory: &impl GuestMemory,
    cr3: u64,
    large_pages: bool,
    at: GuestVirtual,
) -> Result<GuestPhysical, WalkError> {
    let entry_of = |table: u64, level: u32| {
        let shift = index_shift(level, NARROW_INDEX_BITS);
        let index = (at.0 >> shift) & ((1 << NARROW_INDEX_BITS) - 1);
        let mut entry = [0; size_of::<u32>()];
        memory.read(entry_at(table, index, entry.len()), &mut entry)?;
        let entry = u64::from(u32::from_le_bytes(entry));
        if entry & PRESENT == 0 { Err(WalkError::NotPresent { at, level }) } else { Ok(entry) }
    };
    let directory = entry_of(cr3 & NARROW_ADDRESS, 2)?;
    if large_pages && directory & PAGE != 0 {
        let high = (directory & PSE36_MASK) << PSE36_SHIFT;
        let offset = at.0 & ((1 << (OFFSET_BITS + NARROW_INDEX_BITS)) - 1);
        return Ok(GuestPhysical::new(high | (directory & FOUR_MIB_ADDRESS) | offset));
    }
    let page = entry_of(directory & NARROW_ADDRESS, 1)?;
    Ok(GuestPhysical::new((page & NARROW_ADDRESS) | (at.0 & (FRAME_SIZE - 1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::TestMemory;
    use proptest::prelude::*;

    const LONG: Paging = Paging { cr0: 1 << 31, cr3: 0x1018, cr4: 1 << 5, efer: 1 << 10 };

    fn memory(entries: &[(u64, u64)]) -> TestMemory {
        let mut memory = TestMemory::new(0x1_0000);
        memory.0.fill(0);
        for &(at, entry) in entries {
            memory.write_u64(GuestPhysical::new(at), entry).unwrap();
        }
        memory
    }

    fn walk(memory: &TestMemory, paging: Paging, at: u64) -> Result<u64, WalkError> {
        translate(memory, paging, GuestVirtual(at)).map(GuestPhysical::as_u64)
    }

    #[test]
    fn without_paging_addresses_are_physical_and_32_bits_wide() {
        let paging = Paging { cr0: 0x11, cr3: 0, cr4: 0, efer: 0 };
        assert_eq!(walk(&memory(&[]), paging, 0x1_FEE0_0020), Ok(0xFEE0_0020));
    }

    #[test]
    fn long_mode_has_four_levels_and_three_sizes_of_page() {
        let high = 0xFFFF_FFFF_8000_0000u64; // index 511, 510, 0, 0
        let memory = memory(&[
            (0x1FF8, 0x2067),
            (0x2FF0, 0x3067),
            (0x3000, 0x4067),
            (0x4008, 0x8000_0000_FEC0_0063), // 4 KiB at 0x1000, no-execute
            (0x3008, 0x8000_0000_4060_10E7), // 2 MiB at 0x20_0000; bit 12 is its PAT bit
            (0x2FF8, 0x0000_0021_4000_00E7), // 1 GiB at the next entry
            (0x1000, 0x0000_0000_0000_20E7), // PS in the PML4 is no page
        ]);
        assert_eq!(walk(&memory, LONG, high + 0x1ABC), Ok(0xFEC0_0ABC));
        assert_eq!(walk(&memory, LONG, high + 0x21_2345), Ok(0x4061_2345));
        assert_eq!(walk(&memory, LONG, 0xFFFF_FFFF_C123_4567), Ok(0x21_4123_4567));
        assert_eq!(walk(&memory, LONG, 0x7F_C123_4567), Ok(0x21_4123_4567));
        let not_present = |at, level| Err(WalkError::NotPresent { at: GuestVirtual(at), level });
        assert_eq!(walk(&memory, LONG, high), not_present(high, 1));
        assert_eq!(walk(&memory, LONG, high + 0x40_0000), not_present(high + 0x40_0000, 2));
        assert_eq!(walk(&memory, LONG, 0), not_present(0, 3));
        assert_eq!(walk(&memory, LONG, 1 << 39), not_present(1 << 39, 4));
    }

    #[test]
    fn five_levels_widen_the_canonical_range() {
        let at = 0x00FF_0000_0000_0000; // PML5 index 255, the rest 0
        let memory =
            memory(&[(0x17F8, 0x2067), (0x2000, 0x3067), (0x3000, 0x4067), (0x4000, 0x20_0087)]);
        assert_eq!(walk(&memory, LONG, at), Err(WalkError::NotCanonical(GuestVirtual(at))));
        let five = Paging { cr4: LONG.cr4 | 1 << 12, ..LONG };
        assert_eq!(walk(&memory, five, at | 5), Ok(0x20_0005));
        let at = 0x0100_0000_0000_0000;
        assert_eq!(walk(&memory, five, at), Err(WalkError::NotCanonical(GuestVirtual(at))));
        let at = 0xFFFF_7FFF_FFFF_FFFF;
        assert_eq!(walk(&memory, LONG, at), Err(WalkError::NotCanonical(GuestVirtual(at))));
    }

    #[test]
    fn pae_has_four_pointers_anywhere_in_a_frame() {
        let paging = Paging { cr3: 0x1038, efer: 0, ..LONG }; // bits 4:3 are flags
        let memory = memory(&[
            (0x1038, 0x2001), // the fourth, for 3 GiB and up
            (0x2FB0, 0x3063), // 0xFEC0_0000
            (0x2FB8, 0x0000_0001_FEE0_00E3),
            (0x3000, 0xFEC0_0063),
        ]);
        assert_eq!(walk(&memory, paging, 0xFEC0_0010), Ok(0xFEC0_0010));
        assert_eq!(walk(&memory, paging, 0xFEE0_1234), Ok(0x1_FEE0_1234));
        assert_eq!(walk(&memory, paging, 0x7_FEE0_1234), Ok(0x1_FEE0_1234));
    }

    #[test]
    fn paging_of_32_bits_has_small_and_large_pages() {
        let paging = Paging { cr0: 1 << 31, cr3: 0x1018, cr4: 1 << 4, efer: 0 };
        let memory = memory(&[
            (0x1FEC, 0x3063),      // directory 1019: 0xFEC0_0000
            (0x3004, 0xFEC0_0063), // 0xFEC0_1000
            (0x1C00, 0x0040_20E3), // directory 768: 4 MiB at 0x40_0000, bit 32 by PSE-36
        ]);
        assert_eq!(walk(&memory, paging, 0xFEC0_1010), Ok(0xFEC0_0010));
        assert_eq!(walk(&memory, paging, 0xC012_3456), Ok(0x1_0052_3456));
        let at = GuestVirtual(0xFEC0_0000);
        assert_eq!(walk(&memory, paging, at.0), Err(WalkError::NotPresent { at, level: 1 }));
        // Without CR4.PSE the same entry is a table, at an address that is not RAM.
        let paging = Paging { cr4: 0, ..paging };
        let table = NotRam { at: GuestPhysical::new(0x40_2000 + 0x123 * 4), len: 4 };
        assert_eq!(walk(&memory, paging, 0xC012_3456), Err(WalkError::NotRam(table)));
    }

    #[test]
    fn instructions_are_fetched_across_pages() {
        // Pages 0 and 1 are mapped to frames 8 and 6, page 2 is not there.
        let mut memory = memory(&[
            (0x1000, 0x2067),
            (0x2000, 0x3067),
            (0x3000, 0x4067),
            (0x4000, 0x8067),
            (0x4008, 0x6067),
        ]);
        memory.0[0x8FF9..0x9000].copy_from_slice(b"0123456");
        memory.0[0x6000..0x6008].copy_from_slice(b"789ABCDE");
        let fetched = |rip, base, size| {
            let mut bytes = [0; MAX_INSTRUCTION];
            fetch(&memory, LONG, rip, base, size, &mut bytes).map(|len| bytes[..len].to_vec())
        };
        let whole = Ok(b"0123456789ABCDE".to_vec());
        assert_eq!(fetched(0xFF9, 0x1234, CodeSize::Bits64), whole);
        assert_eq!(fetched(0x39, 0xFC0, CodeSize::Bits32), whole);
        assert_eq!(fetched(0xFFFF_FFF9, 0x1000, CodeSize::Bits32), whole);
        assert_eq!(fetched(0x1FFE, 0, CodeSize::Bits64), Ok([0, 0].to_vec()));
        let gone = WalkError::NotPresent { at: GuestVirtual(0x2000), level: 1 };
        assert_eq!(fetched(0x2000, 0, CodeSize::Bits64), Err(gone));
    }

    proptest! {
        #[test]
        fn no_tables_and_registers_make_it_panic(
            entries in prop::collection::vec((0u64..0x200, any::<u64>()), 0..40),
            cr0: u64, cr3: u64, cr4: u64, efer: u64, at: u64, base: u64, near: bool,
        ) {
            let mut memory = memory(&[]);
            for (index, entry) in entries {
                // Entries that point back into the memory reach deeper levels.
                let entry = if near { entry & 0xF0FF } else { entry };
                memory.write_u64(GuestPhysical::new(index * 8), entry).unwrap();
            }
            let cr3 = if near { cr3 & 0x3FFF } else { cr3 };
            let paging = Paging { cr0, cr3, cr4, efer };
            let _ = walk(&memory, paging, at);
            let mut bytes = [0; MAX_INSTRUCTION];
            for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
                let _ = fetch(&memory, paging, at, base, size, &mut bytes);
            }
        }
    }
}
