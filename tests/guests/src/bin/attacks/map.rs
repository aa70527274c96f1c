//! A window of 2 MiB through which the guest reaches any guest-physical address, by page tables of its own.

use bulkhead_guests::cpu;
use core::arch::asm;

/// Of a page-table entry: present and writable.
pub const PRESENT: u64 = 0b11;
/// Of an entry of a page directory: a page of 2 MiB.
pub const LARGE: u64 = 1 << 7;
/// Bits of an entry that are an address, below those that the processor may not have.
pub const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// Bytes of such a page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// The entry of the top-level table that is the window's, and the address that it makes.
const ENTRY: usize = 1;
/// Where the window is.
pub const WINDOW: u64 = 1 << 39;

/// A page table.
#[repr(C, align(4096))]
pub struct Table([u64; 512]);

static mut POINTERS: Table = Table([0; 512]);
static mut DIRECTORY: Table = Table([0; 512]);

/// Sets an entry of the top-level table.
pub fn set_top(index: usize, entry: u64) {
    let root = (cpu::read_cr3() & ADDRESS) as *mut u64;
    // SAFETY: the loader's table, mapped one to one; the guest's own code is below 512 GiB, whose entry is 0.
    unsafe { root.add(index).write_volatile(entry) };
    flush();
}

/// Forgets all translations.
pub fn flush() {
    // SAFETY: the same tables again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

/// Opens the window on an address; `flags` are added to the entry. Gives the address through it.
pub fn open(address: u64, flags: u64) -> u64 {
    let entry = address & !(LARGE_PAGE - 1) | LARGE | PRESENT | flags;
    open_by(&raw mut DIRECTORY as u64, entry);
    WINDOW + (address & (LARGE_PAGE - 1))
}

/// Opens the window by a page directory at this address, whose first entry this is.
pub fn open_by(directory: u64, entry: u64) {
    let pointers = &raw mut POINTERS as u64;
    // SAFETY: tables that nothing else uses, or memory that the caller gives for one, mapped one to one.
    unsafe {
        (directory as *mut u64).write_volatile(entry);
        (pointers as *mut u64).write_volatile(directory | PRESENT);
    }
    set_top(ENTRY, pointers | PRESENT);
}

/// Closes it.
pub fn close() {
    set_top(ENTRY, 0);
}

/// Bits of a guest-physical address, by CPUID.
pub fn address_bits() -> u32 {
    cpu::cpuid(0x8000_0008, 0).eax & 0xFF
}
