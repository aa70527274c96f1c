//! Linux's `boot_params`, the "zero page".
//!
//! Offsets from Documentation/arch/x86/zero-page.rst, the setup header's from boot.rst ("The
//! Real-Mode Kernel Header"). `screen_info` stays zero: there is no VGA.

use super::{Initrd, LoadError, memory_map};
use crate::guest::layout::{ACPI_TABLES, BOOT_PARAMS, COMMAND_LINE, RamLayout};
use crate::memory::{FRAME_SIZE, GuestMemory, GuestPhysical};

/// Offsets into `boot_params`; those from [`offset::SETUP_HEADER`] on are the bzImage file's as well.
pub(super) mod offset {
    pub const ACPI_RSDP: u64 = 0x070;
    pub const E820_ENTRIES: u64 = 0x1E8;
    pub const SETUP_HEADER: u64 = 0x1F1;
    pub const BOOT_FLAG: u64 = 0x1FE;
    pub const MAGIC: u64 = 0x202;
    pub const VERSION: u64 = 0x206;
    pub const TYPE_OF_LOADER: u64 = 0x210;
    pub const LOADFLAGS: u64 = 0x211;
    pub const CODE32_START: u64 = 0x214;
    pub const RAMDISK_IMAGE: u64 = 0x218;
    pub const RAMDISK_SIZE: u64 = 0x21C;
    pub const CMD_LINE_PTR: u64 = 0x228;
    /// First byte behind the room for the setup header.
    pub const SETUP_HEADER_END: u64 = 0x290;
    pub const E820_TABLE: u64 = 0x2D0;
}

/// `boot_flag`.
pub(super) const BOOT_FLAG: u16 = 0xAA55;
/// `header`.
pub(super) const MAGIC: &[u8; 4] = b"HdrS";
/// 2.12, which brought `xloadflags` and the 64-bit entry.
pub(super) const VERSION_LEAST: u16 = 0x020C;
/// `loadflags`: the kernel is loaded at 1 MiB or higher.
pub(super) const LOADED_HIGH: u8 = 1 << 0;
/// `loadflags`: `heap_end_ptr` is valid; that is for the 16-bit entry.
const CAN_USE_HEAP: u8 = 1 << 7;
/// `type_of_loader` of a loader that has no number.
const UNDEFINED_LOADER: u8 = 0xFF;

/// Bytes in an e820 entry: address, length, type.
const E820_ENTRY_SIZE: usize = 20;
const E820_LENGTH: u64 = 8;
const E820_TYPE: u64 = 16;

/// What differs between kernels.
pub(super) struct BootParams<'a> {
    /// The bzImage's setup header, from [`offset::SETUP_HEADER`] on; empty for an ELF file.
    pub setup_header: &'a [u8],
    /// Where the kernel's protected-mode part, or an ELF file's entry point, is.
    pub code32_start: u32,
    pub initrd: Option<Initrd>,
}

impl BootParams<'_> {
    /// Writes all of `boot_params`.
    pub fn write(&self, ram: RamLayout, memory: &mut impl GuestMemory) -> Result<(), LoadError> {
        let at = |offset: u64| GuestPhysical::new(BOOT_PARAMS.wrapping_add(offset));
        memory.zero(at(0), FRAME_SIZE)?;
        memory.write_u64(at(offset::ACPI_RSDP), ACPI_TABLES.start)?;

        let loadflags = self.write_setup_header(memory)?;
        memory.write(at(offset::TYPE_OF_LOADER), &[UNDEFINED_LOADER])?;
        let loadflags = (loadflags | LOADED_HIGH) & !CAN_USE_HEAP;
        memory.write(at(offset::LOADFLAGS), &[loadflags])?;
        memory.write(at(offset::CODE32_START), &self.code32_start.to_le_bytes())?;
        memory.write(at(offset::CMD_LINE_PTR), &(COMMAND_LINE as u32).to_le_bytes())?;
        let initrd = self.initrd.unwrap_or(Initrd { start: 0, size: 0 });
        memory.write(at(offset::RAMDISK_IMAGE), &initrd.start.to_le_bytes())?;
        memory.write(at(offset::RAMDISK_SIZE), &initrd.size.to_le_bytes())?;

        let mut entries = 0u8;
        let places = (offset::E820_TABLE..).step_by(E820_ENTRY_SIZE);
        for (entry, (range, kind)) in places.zip(memory_map::of(ram)) {
            let size = range.end.saturating_sub(range.start);
            memory.write_u64(at(entry), range.start)?;
            memory.write_u64(at(entry.wrapping_add(E820_LENGTH)), size)?;
            memory.write(at(entry.wrapping_add(E820_TYPE)), &(kind as u32).to_le_bytes())?;
            entries = entries.saturating_add(1);
        }
        Ok(memory.write(at(offset::E820_ENTRIES), &[entries])?)
    }

    /// Copies the setup header, or makes a minimal one; returns its `loadflags`.
    fn write_setup_header(&self, memory: &mut impl GuestMemory) -> Result<u8, LoadError> {
        let at = |offset: u64| GuestPhysical::new(BOOT_PARAMS.wrapping_add(offset));
        let room = (offset::SETUP_HEADER_END - offset::SETUP_HEADER) as usize;
        let header = self.setup_header.get(..room).unwrap_or(self.setup_header);
        if header.is_empty() {
            memory.write(at(offset::BOOT_FLAG), &BOOT_FLAG.to_le_bytes())?;
            memory.write(at(offset::MAGIC), MAGIC)?;
            memory.write(at(offset::VERSION), &VERSION_LEAST.to_le_bytes())?;
            return Ok(0);
        }
        memory.write(at(offset::SETUP_HEADER), header)?;
        let loadflags = (offset::LOADFLAGS - offset::SETUP_HEADER) as usize;
        Ok(header.get(loadflags).copied().unwrap_or(0))
    }
}
