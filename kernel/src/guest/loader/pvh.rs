//! PVH: an ELF executable whose note names a 32-bit entry point (Xen, docs/misc/pvh.pandoc and
//! public/arch-x86/hvm/start_info.h).

use super::elf::Executable;
use super::{Entry, Image, LoadError, environment, load_initrd, memory_map};
use crate::arch::switch::reg;
use crate::guest::layout::{ACPI_TABLES, BOOT_PARAMS, COMMAND_LINE, RamLayout};
use crate::memory::{FRAME_SIZE, GuestMemory, GuestPhysical};

/// Owner and type of the note, `XEN_ELFNOTE_PHYS32_ENTRY` (public/elfnote.h).
const OWNER: &[u8] = b"Xen\0";
const PHYS32_ENTRY: u64 = 18;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336E_C578;
/// Version of `hvm_start_info` that has the memory map.
const VERSION: u32 = 1;

/// `hvm_start_info`, a module behind it, and the memory map.
const START_INFO: u64 = BOOT_PARAMS;
const MODULES: u64 = START_INFO + 0x100;
const MEMORY_MAP: u64 = START_INFO + 0x200;
/// Bytes of an entry of the memory map: address, size, type, reserved.
const MEMORY_MAP_ENTRY: usize = 24;

/// Loads the kernel and `hvm_start_info`.
pub(super) fn load(
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    let executable = Executable::parse(image.kernel)?;
    let entry = entry_point(&executable)?;
    let loaded = executable.load(ram, memory)?;
    let entry = loaded.check_entry(entry)?;
    let initrd = load_initrd(image, ram.low_end(), &loaded.occupied, memory)?;

    memory.zero(GuestPhysical::new(START_INFO), FRAME_SIZE)?;
    let mut entries = 0u32;
    let places = (MEMORY_MAP..).step_by(MEMORY_MAP_ENTRY);
    for (at, (range, kind)) in places.zip(memory_map::of(ram)) {
        let size = range.end.saturating_sub(range.start);
        write(memory, at, &[range.start, size, kind as u64])?;
        entries = entries.saturating_add(1);
    }
    // Addresses and sizes; the last two fields, a command line and one reserved, stay zero.
    if let Some(initrd) = initrd {
        write(memory, MODULES, &[initrd.start.into(), initrd.size.into()])?;
    }
    // Two fields of 32 bits side by side are one of 64: magic and version, flags (none) and number
    // of modules, entries of the memory map and a reserved field.
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (modules, module_list) = if initrd.is_some() { (1, MODULES) } else { (0, 0) };
    let start_info = [
        pair(MAGIC, VERSION),
        pair(0, modules),
        module_list,
        COMMAND_LINE,
        ACPI_TABLES.start,
        MEMORY_MAP,
        pair(entries, 0),
    ];
    write(memory, START_INFO, &start_info)?;
    environment::enter_protected(entry, &[(reg::RBX, START_INFO as u32)], memory)
}

/// What the note says; Linux makes it as wide as a pointer.
fn entry_point(executable: &Executable<'_>) -> Result<u64, LoadError> {
    let content = executable.note(OWNER, PHYS32_ENTRY).ok_or(LoadError::NotPvh)?;
    if let Ok(wide) = content.try_into() {
        Ok(u64::from_le_bytes(wide))
    } else if let Ok(narrow) = content.try_into() {
        Ok(u32::from_le_bytes(narrow).into())
    } else {
        Err(LoadError::Header("its PVH note is neither 4 nor 8 bytes long"))
    }
}

fn write(memory: &mut impl GuestMemory, at: u64, values: &[u64]) -> Result<(), LoadError> {
    for (at, value) in (at..).step_by(size_of::<u64>()).zip(values) {
        memory.write_u64(GuestPhysical::new(at), *value)?;
    }
    Ok(())
}
