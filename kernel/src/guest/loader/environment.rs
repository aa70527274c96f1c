//! What every kernel is entered with besides its loader's information: page tables, GDT, stack,
//! command line; and where a kernel and a RAM disk can go.

use super::{Entry, LoadError};
use crate::arch::switch::{Registers, reg};
use crate::guest::layout::{
    ACPI_TABLES, BOOT_GDT, BOOT_PAGE_TABLES, BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_MAX,
    HIGH_MEMORY, LOW_USABLE_END, RamLayout,
};
use crate::memory::{FRAME_SIZE, GuestMemory, GuestPhysical, LARGE_FRAME_SIZE};
use crate::vmx::start::{Start, Start32, Start64};
use core::ops::Range;
use heapless::Vec;

/// `__BOOT_CS`: flat code (boot.rst, "32-bit Boot Protocol" and "64-bit Boot Protocol"; the other
/// kinds leave selectors open).
pub(super) const CODE_SELECTOR: u16 = 0x10;
/// `__BOOT_DS`: flat data.
pub(super) const DATA_SELECTOR: u16 = 0x18;

/// Bytes in a descriptor, and in a page-table entry.
const ENTRY_SIZE: u64 = 8;
/// Code: present, ring 0, execute/read, accessed (SDM Vol. 3A, 3.4.5), in long mode or 32-bit.
const CODE_64: u64 = 0x00AF_9B00_0000_FFFF;
const CODE_32: u64 = 0x00CF_9B00_0000_FFFF;
/// Data: present, ring 0, read/write, accessed.
const DATA: u64 = 0x00CF_9300_0000_FFFF;
/// Null, unused, code, data.
const GDT_SIZE: u64 = 4 * ENTRY_SIZE;
/// Last byte of the GDT.
const GDT_LIMIT: u16 = GDT_SIZE as u16 - 1;

/// The stack grows down from `boot_params` to the end of the GDT's frame.
const STACK: Range<u64> = FRAME_SIZE..BOOT_PARAMS;
/// As though the entry point had been called: the return address (zero) is on the stack, so
/// that a kernel whose entry is a compiled function finds the alignment that the System V ABI promises.
const STACK_POINTER: u64 = STACK.end - ENTRY_SIZE;

/// PML4, PDPT, and a page directory for each of 4 GiB.
const PAGE_TABLES: u64 = 2 + DIRECTORIES;
const DIRECTORIES: u64 = 4;
const TABLE_ENTRIES: u64 = FRAME_SIZE / ENTRY_SIZE;
const PAGE_TABLES_END: u64 = BOOT_PAGE_TABLES + PAGE_TABLES * FRAME_SIZE;
/// End of what the boot page tables map.
pub(super) const MAPPED_END: u64 = DIRECTORIES * TABLE_ENTRIES * LARGE_FRAME_SIZE;
/// Present and writable (SDM Vol. 3A, 4.5).
const TABLE: u64 = 0b11;
/// A 2 MiB page, present and writable.
const LARGE_PAGE: u64 = TABLE | 1 << 7;

const COMMAND_LINE_END: u64 = COMMAND_LINE + COMMAND_LINE_MAX as u64 + 1;

/// What no kernel may be loaded over.
const BOOT_STRUCTURES: [(Range<u64>, &str); 3] = [
    (0..PAGE_TABLES_END, "the boot GDT, stack, boot_params and page tables"),
    (COMMAND_LINE..COMMAND_LINE_END, "the command line"),
    (LOW_USABLE_END..HIGH_MEMORY, "the reserved range below 1 MiB"),
];

const _: () = assert!(BOOT_GDT + GDT_SIZE <= STACK.start);
const _: () = assert!(BOOT_PARAMS + FRAME_SIZE <= BOOT_PAGE_TABLES);
const _: () = assert!(BOOT_PAGE_TABLES.is_multiple_of(FRAME_SIZE));
const _: () = assert!(PAGE_TABLES_END <= COMMAND_LINE);
const _: () = assert!(COMMAND_LINE_END <= LOW_USABLE_END);
const _: () = assert!(LOW_USABLE_END <= ACPI_TABLES.start && ACPI_TABLES.end == HIGH_MEMORY);
const _: () = assert!(MAPPED_END == 4 << 30);

/// Whether there is RAM for what every guest needs below 1 MiB, and some above.
pub(super) fn check_ram(ram: RamLayout) -> Result<(), LoadError> {
    if ram.low_end() > HIGH_MEMORY {
        Ok(())
    } else {
        Err(LoadError::DoesNotFit { needed: HIGH_MEMORY + LARGE_FRAME_SIZE, have: ram.low_end() })
    }
}

/// Ranges of guest-physical memory that a kernel's file fills.
pub(super) type Occupied = Vec<Range<u64>, MOST_SEGMENTS>;
/// Most loadable segments; linkers make four or five.
const MOST_SEGMENTS: usize = 32;

/// Takes `len` bytes at `start` for a part of the kernel: they must be RAM and free.
pub(super) fn claim(
    start: u64,
    len: u64,
    ram: RamLayout,
    occupied: &mut Occupied,
) -> Result<Range<u64>, LoadError> {
    let outside = LoadError::SegmentOutsideRam { start, len };
    ram.offset_of(GuestPhysical::new(start), len).ok_or(outside)?;
    let range = start..start.checked_add(len).ok_or(outside)?;
    let overlap = |what| LoadError::SegmentOverlap { start, len, what };
    for (structure, what) in BOOT_STRUCTURES {
        if overlaps(&structure, &range) {
            return Err(overlap(what));
        }
    }
    if occupied.iter().any(|other| overlaps(other, &range)) {
        return Err(overlap("another segment"));
    }
    occupied.push(range.clone()).map_err(|_| LoadError::Segments("there are too many"))?;
    Ok(range)
}

/// Entry in long mode, as Linux's 64-bit boot protocol says: the first 4 GiB mapped one to one, RSI
/// pointing at `boot_params`.
pub(super) fn enter_long(rip: u64, memory: &mut impl GuestMemory) -> Result<Entry, LoadError> {
    write_page_tables(memory)?;
    write_gdt(CODE_64, memory)?;
    let mut registers = Registers::default();
    registers.0[reg::RSI] = BOOT_PARAMS;
    let start = Start::Long(Start64 {
        rip,
        rsp: STACK_POINTER,
        cr3: BOOT_PAGE_TABLES,
        gdt_base: BOOT_GDT,
        gdt_limit: GDT_LIMIT,
        code: CODE_SELECTOR,
        data: DATA_SELECTOR,
    });
    Ok(Entry { start, registers })
}

/// Entry in 32-bit protected mode without paging, with some general registers that are not zero.
pub(super) fn enter_protected(
    eip: u32,
    general: &[(usize, u32)],
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    write_gdt(CODE_32, memory)?;
    let mut registers = Registers::default();
    for &(register, value) in general {
        if let Some(register) = registers.0.get_mut(register) {
            *register = value.into();
        }
    }
    let start = Start::Protected(Start32 {
        eip,
        esp: STACK_POINTER as u32,
        gdt_base: BOOT_GDT as u32,
        gdt_limit: GDT_LIMIT,
        code: CODE_SELECTOR,
        data: DATA_SELECTOR,
    });
    Ok(Entry { start, registers })
}

/// Where the entries of a table are, and of those behind it.
fn entries(table: u64) -> impl Iterator<Item = GuestPhysical> {
    (table..).step_by(ENTRY_SIZE as usize).map(GuestPhysical::new)
}

/// Maps the first 4 GiB one to one with 2 MiB pages.
fn write_page_tables(memory: &mut impl GuestMemory) -> Result<(), LoadError> {
    const PML4: u64 = BOOT_PAGE_TABLES;
    const PDPT: u64 = PML4 + FRAME_SIZE;
    const FIRST_DIRECTORY: u64 = PDPT + FRAME_SIZE;
    /// What is left of the first two tables.
    const UNUSED: [Range<u64>; 2] =
        [PML4 + ENTRY_SIZE..PDPT, PDPT + DIRECTORIES * ENTRY_SIZE..FIRST_DIRECTORY];
    memory.write_u64(GuestPhysical::new(PML4), PDPT | TABLE)?;
    let directories = (FIRST_DIRECTORY..PAGE_TABLES_END).step_by(FRAME_SIZE as usize);
    for (at, directory) in entries(PDPT).zip(directories) {
        memory.write_u64(at, directory | TABLE)?;
    }
    // The directories are adjacent, and so are the pages they map.
    let pages = (0..MAPPED_END).step_by(LARGE_FRAME_SIZE as usize);
    for (at, page) in entries(FIRST_DIRECTORY).zip(pages) {
        memory.write_u64(at, page | LARGE_PAGE)?;
    }
    for Range { start, end } in UNUSED {
        memory.zero(GuestPhysical::new(start), end.saturating_sub(start))?;
    }
    Ok(())
}

/// Writes the GDT: null, unused, code, data.
fn write_gdt(code: u64, memory: &mut impl GuestMemory) -> Result<(), LoadError> {
    for (at, descriptor) in entries(BOOT_GDT).zip([0, 0, code, DATA]) {
        memory.write_u64(at, descriptor)?;
    }
    Ok(())
}

/// Clears the stack.
pub(super) fn write_stack(memory: &mut impl GuestMemory) -> Result<(), LoadError> {
    Ok(memory.zero(GuestPhysical::new(STACK.start), STACK.end - STACK.start)?)
}

/// Writes the command line, whose length has been checked, and its NUL.
pub(super) fn write_command_line(
    command_line: &str,
    memory: &mut impl GuestMemory,
) -> Result<(), LoadError> {
    memory.write(GuestPhysical::new(COMMAND_LINE), command_line.as_bytes())?;
    let end = COMMAND_LINE.saturating_add(command_line.len() as u64);
    Ok(memory.zero(GuestPhysical::new(end), COMMAND_LINE_END.saturating_sub(end))?)
}

/// The highest page-aligned place for `size` bytes between 1 MiB and `limit` that touches none
/// of the `occupied` ranges.
pub(super) fn place_high(size: u64, limit: u64, occupied: &[Range<u64>]) -> Option<u64> {
    let mut limit = limit;
    loop {
        let start = limit.checked_sub(size)? & !(FRAME_SIZE - 1);
        if start < HIGH_MEMORY {
            return None;
        }
        let end = start.checked_add(size)?;
        // Strictly lower each time, as the range in the way starts below `end`.
        match occupied.iter().find(|range| overlaps(range, &(start..end))) {
            Some(in_the_way) => limit = in_the_way.start,
            None => return Some(start),
        }
    }
}

/// Whether two ranges share a byte.
fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
