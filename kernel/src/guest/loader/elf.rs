//! Statically linked ELF executables, loaded at their segments' physical addresses.
//!
//! One of kind `elf64` is entered like a 64-bit Linux kernel, so that one small kernel's start
//! code serves here and under any Linux loader.

use super::boot_params::BootParams;
use super::environment::{self, MAPPED_END, Occupied, claim};
use super::{Entry, Image, LoadError, load_initrd};
use crate::guest::layout::RamLayout;
use crate::memory::{GuestMemory, GuestPhysical};
use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, ET_DYN, ET_EXEC, PF_X, PT_INTERP, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use elf::segment::ProgramHeader;
use heapless::Vec;

const NO_SEGMENTS: LoadError = LoadError::Segments("there are none to load");
/// Notes are made of 32-bit words, whatever their segment says of itself.
const NOTE_ALIGNMENT: usize = 4;
/// Most note segments that are looked at. They may overlap, so that a damaged file could have as many
/// notes as the square of its length.
const MOST_NOTE_SEGMENTS: usize = 8;

/// Loads a kernel of kind `elf64`.
pub(super) fn load(
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    let executable = Executable::parse(image.kernel)?;
    if executable.file.ehdr.class != Class::ELF64 {
        return Err(LoadError::WrongElf("it is a 32-bit file; a 64-bit one is needed"));
    }
    let loaded = executable.load(ram, memory)?;
    let entry = loaded.check_entry(executable.entry())?;
    let initrd = load_initrd(image, ram.low_end(), &loaded.occupied, memory)?;
    BootParams { setup_header: &[], code32_start: entry, initrd }.write(ram, memory)?;
    environment::enter_long(entry.into(), memory)
}

/// An executable of either class for this processor.
pub(super) struct Executable<'a> {
    file: ElfBytes<'a, LittleEndian>,
    len: u64,
}

/// Where the segments of an executable are.
pub(super) struct Loaded {
    /// All of them.
    pub occupied: Occupied,
    executable: Occupied,
}

impl Loaded {
    /// An entry point, which must be in an executable segment, and below 4 GiB.
    pub fn check_entry(&self, entry: u64) -> Result<u32, LoadError> {
        let known = self.executable.iter().any(|range| range.contains(&entry));
        let entry_32 = u32::try_from(entry).ok().filter(|_| known && entry < MAPPED_END);
        entry_32.ok_or(LoadError::EntryOutsideSegments(entry))
    }
}

impl<'a> Executable<'a> {
    pub fn parse(kernel: &'a [u8]) -> Result<Self, LoadError> {
        let file =
            ElfBytes::<LittleEndian>::minimal_parse(kernel).map_err(|_| LoadError::NotElf)?;
        match (file.ehdr.class, file.ehdr.e_machine) {
            (Class::ELF64, EM_X86_64) | (Class::ELF32, EM_386 | EM_X86_64) => (),
            _ => return Err(LoadError::WrongElf("it is for another processor")),
        }
        match file.ehdr.e_type {
            ET_EXEC => Ok(Self { file, len: kernel.len() as u64 }),
            ET_DYN => Err(LoadError::WrongElf(
                "it is position-independent; link it at a fixed address, without PIE",
            )),
            _ => Err(LoadError::WrongElf("it is an object file or a core dump")),
        }
    }

    /// The entry point that the ELF header names.
    pub fn entry(&self) -> u64 {
        self.file.ehdr.e_entry
    }

    /// Copies the segments.
    pub fn load(&self, ram: RamLayout, memory: &mut impl GuestMemory) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded { occupied: Vec::new(), executable: Vec::new() };
        for segment in self.file.segments().ok_or(NO_SEGMENTS)?.iter() {
            if segment.p_type == PT_INTERP {
                return Err(LoadError::WrongElf("it is dynamically linked"));
            }
            if segment.p_type != PT_LOAD || segment.p_memsz == 0 {
                continue;
            }
            if segment.p_filesz > segment.p_memsz {
                return Err(LoadError::Segments("one is longer in the file than in memory"));
            }
            let range = claim(segment.p_paddr, segment.p_memsz, ram, &mut loaded.occupied)?;
            self.write_segment(&segment, memory)?;
            if segment.p_flags & PF_X != 0 {
                // As long as the other list, at most.
                loaded.executable.push(range).map_err(|_| NO_SEGMENTS)?;
            }
        }
        if loaded.occupied.is_empty() { Err(NO_SEGMENTS) } else { Ok(loaded) }
    }

    /// The content of the first note of a type by an owner. Damaged notes are none.
    pub fn note(&self, owner: &[u8], of_type: u64) -> Option<&'a [u8]> {
        let segments = self.file.segments()?;
        let notes = segments.iter().filter(|segment| segment.p_type == PT_NOTE);
        let notes = notes.take(MOST_NOTE_SEGMENTS);
        notes.filter_map(|segment| self.file.segment_data(&segment).ok()).find_map(|data| {
            NoteIterator::new(LittleEndian, Class::ELF32, NOTE_ALIGNMENT, data).find_map(|note| {
                match note {
                    Note::Unknown(note) if note.n_type == of_type && note.name == owner => {
                        Some(note.desc)
                    }
                    _ => None,
                }
            })
        })
    }

    /// Copies what the file holds and clears the rest.
    fn write_segment(
        &self,
        segment: &ProgramHeader,
        memory: &mut impl GuestMemory,
    ) -> Result<(), LoadError> {
        let data = self.file.segment_data(segment).map_err(|_| LoadError::Truncated {
            needed: segment.p_offset.saturating_add(segment.p_filesz),
            len: self.len,
        })?;
        memory.write(GuestPhysical::new(segment.p_paddr), data)?;
        // Neither wraps: the segment was checked to be RAM, and to be no shorter than its data.
        let bss = GuestPhysical::new(segment.p_paddr.saturating_add(segment.p_filesz));
        Ok(memory.zero(bss, segment.p_memsz.saturating_sub(segment.p_filesz))?)
    }
}
