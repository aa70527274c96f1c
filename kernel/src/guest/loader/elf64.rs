//! Statically linked 64-bit ELF executables, loaded at their segments' physical addresses.
//!
//! They are entered like a 64-bit Linux kernel, so that one small kernel's start code serves here
//! and under any Linux loader.

use super::boot_params::BootParams;
use super::environment::{BOOT_STRUCTURES, MAPPED_END, overlaps};
use super::{Image, LoadError, load_initrd};
use crate::guest::layout::RamLayout;
use crate::memory::{GuestMemory, GuestPhysical};
use core::ops::Range;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PF_X, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use heapless::Vec;

/// Most loadable segments; linkers make four or five.
const MOST_SEGMENTS: usize = 32;
const NO_SEGMENTS: LoadError = LoadError::Segments("there are none to load");

/// Loads the segments and `boot_params`; returns the entry point.
pub(super) fn load(
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<u64, LoadError> {
    let file =
        ElfBytes::<LittleEndian>::minimal_parse(image.kernel).map_err(|_| LoadError::NotElf)?;
    check_kind(&file)?;
    let entry = file.ehdr.e_entry;
    let mut code32_start = None;
    let mut occupied: Vec<Range<u64>, MOST_SEGMENTS> = Vec::new();
    for segment in file.segments().ok_or(NO_SEGMENTS)?.iter() {
        if segment.p_type == PT_INTERP {
            return Err(LoadError::WrongElf("it is dynamically linked"));
        }
        if segment.p_type != PT_LOAD || segment.p_memsz == 0 {
            continue;
        }
        let range = check_segment(&segment, &occupied, ram)?;
        write_segment(&file, &segment, image, memory)?;
        if segment.p_flags & PF_X != 0 && range.contains(&entry) && entry < MAPPED_END {
            code32_start = u32::try_from(entry).ok();
        }
        occupied.push(range).map_err(|_| LoadError::Segments("there are too many"))?;
    }
    if occupied.is_empty() {
        return Err(NO_SEGMENTS);
    }
    let code32_start = code32_start.ok_or(LoadError::EntryOutsideSegments(entry))?;
    let initrd = load_initrd(image, ram.low_end(), &occupied, memory)?;
    BootParams { setup_header: &[], code32_start, initrd }.write(ram, memory)?;
    Ok(entry)
}

fn check_kind(file: &ElfBytes<'_, LittleEndian>) -> Result<(), LoadError> {
    if file.ehdr.class != Class::ELF64 {
        return Err(LoadError::WrongElf("it is a 32-bit file"));
    }
    if file.ehdr.e_machine != EM_X86_64 {
        return Err(LoadError::WrongElf("it is for another processor"));
    }
    match file.ehdr.e_type {
        ET_EXEC => Ok(()),
        ET_DYN => Err(LoadError::WrongElf(
            "it is position-independent; link it at a fixed address, without PIE",
        )),
        _ => Err(LoadError::WrongElf("it is an object file or a core dump")),
    }
}

/// The physical range of a segment, which must be RAM and free.
fn check_segment(
    segment: &ProgramHeader,
    occupied: &[Range<u64>],
    ram: RamLayout,
) -> Result<Range<u64>, LoadError> {
    let (start, len) = (segment.p_paddr, segment.p_memsz);
    if segment.p_filesz > len {
        return Err(LoadError::Segments("one is longer in the file than in memory"));
    }
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
    Ok(range)
}

/// Copies what the file holds and clears the rest.
fn write_segment(
    file: &ElfBytes<'_, LittleEndian>,
    segment: &ProgramHeader,
    image: &Image,
    memory: &mut impl GuestMemory,
) -> Result<(), LoadError> {
    let data = file.segment_data(segment).map_err(|_| LoadError::Truncated {
        needed: segment.p_offset.saturating_add(segment.p_filesz),
        len: image.kernel.len() as u64,
    })?;
    let start = GuestPhysical::new(segment.p_paddr);
    memory.write(start, data)?;
    // Neither wraps: the segment was checked to be RAM, and to be no shorter than its data.
    let bss = GuestPhysical::new(segment.p_paddr + segment.p_filesz);
    Ok(memory.zero(bss, segment.p_memsz - segment.p_filesz)?)
}
