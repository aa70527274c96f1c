//! A PVH kernel: looks at what it was given (Xen, docs/misc/pvh.pandoc), prints whether it is
//! right, and powers off.
#![no_std]
#![no_main]

use bulkhead_guests::entry32::{Checks, State, read, text};
use bulkhead_guests::{entry_32, power, println};
use core::arch::global_asm;

entry_32!(pvh_start, main);

// The note that names the entry point; the ELF header's own leads nowhere.
global_asm!(
    ".pushsection .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long pvh_start",
    ".popsection",
    ".pushsection .text.start, \"ax\", @progbits",
    ".global _start",
    "_start: ud2",
    ".popsection",
);

/// `hvm_start_info`.
const MAGIC: u32 = 0x336E_C578;

fn main(state: &State) -> ! {
    let mut checks = Checks::default();
    checks.holds("PVH: flat protected mode", state.is_flat_protected_mode());
    let info = u64::from(state.ebx);
    // SAFETY: `info` is what the loader gave, and so are the addresses in it.
    unsafe {
        let number = |offset: u64| read::<u32>(info + offset);
        let address = |offset: u64| read::<u64>(info + offset);
        checks.holds("PVH: magic and version", (number(0), number(4)) == (MAGIC, 1));
        checks.holds("PVH: one module", number(12) == 1);
        let module = address(16);
        let (start, size) = (read::<u64>(module), read::<u64>(module + 8));
        let content = core::slice::from_raw_parts(start as *const u8, size as usize);
        checks.holds("PVH: the module's content", content == b"a module");
        checks.holds("PVH: ACPI", &read::<[u8; 8]>(address(32)) == b"RSD PTR ");
        let map = address(40);
        let ram = (0..u64::from(number(48))).map(|index| map + index * 24);
        let ram = ram.filter(|entry| read::<u32>(entry + 16) == 1);
        let ram: u64 = ram.map(|entry| read::<u64>(entry + 8)).sum();
        println!("PVH: {} KiB of RAM", ram >> 10);
        println!("PVH: command line: {}", text(address(24)));
    }
    if !state.is_flat_protected_mode() {
        println!("PVH: {state:x?}");
    }
    checks.finish("PVH");
    power::power_off()
}
