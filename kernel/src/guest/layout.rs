//! Where things are in guest-physical memory.

pub use crate::memory::{HIGH_RAM_START, LOW_RAM_END, RamLayout};
use core::ops::Range;

/// RSDP and the tables behind it; reserved in the e820 map. Ends at 1 MiB.
pub const ACPI_TABLES: Range<u64> = 0xE_0000..0x10_0000;
/// GDT that the guest is entered with.
pub const BOOT_GDT: u64 = 0x500;
/// Linux's `boot_params`.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Six frames of page tables that map the first 4 GiB one to one: PML4, PDPT, 4 PDs.
pub const BOOT_PAGE_TABLES: u64 = 0x8000;
/// The command line, NUL-terminated.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Most bytes of a command line without its NUL (x86 `COMMAND_LINE_SIZE` - 1).
pub const COMMAND_LINE_MAX: usize = 2047;
/// End of usable conventional memory (640 KiB less the EBDA's KiB).
pub const LOW_USABLE_END: u64 = 0x9_FC00;
/// First byte of RAM above the legacy hole.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// The virtual IOAPIC's page.
pub const IOAPIC: u64 = 0xFEC0_0000;
/// The local APIC's page.
pub const LOCAL_APIC: u64 = 0xFEE0_0000;
