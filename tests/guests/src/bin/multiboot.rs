//! A Multiboot 1 kernel: looks at what it was given (Multiboot Specification 0.6.96, 3.2 and 3.3),
//! prints whether it is right, and powers off.
#![no_std]
#![no_main]

use bulkhead_guests::entry32::{Checks, State, read, text};
use bulkhead_guests::{entry_32, power, println};
use core::arch::global_asm;

entry_32!(_start, main);

// The header: modules at page boundaries, the memory's size and map, ELF headers count.
global_asm!(
    ".pushsection .multiboot, \"a\", @progbits",
    ".balign 4",
    ".long 0x1BADB002, 3, -(0x1BADB002 + 3)",
    ".popsection",
);

/// What EAX holds.
const MAGIC: u32 = 0x2BAD_B002;
/// Of the information: memory's size, command line, modules, memory map.
const NEEDED: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6;

fn main(state: &State) -> ! {
    let mut checks = Checks::default();
    checks.holds("Multiboot: flat protected mode", state.is_flat_protected_mode());
    checks.holds("Multiboot: magic", state.eax == MAGIC);
    let info = u64::from(state.ebx);
    // SAFETY: `info` is what the loader gave, and so are the addresses in it.
    unsafe {
        let number = |offset: u64| read::<u32>(info + offset);
        checks.holds("Multiboot: flags", number(0) & NEEDED == NEEDED);
        checks.holds("Multiboot: lower memory", number(4) == 639);
        println!("Multiboot: {} KiB above 1 MiB", number(8));
        println!("Multiboot: command line: {}", text(number(16).into()));
        checks.holds("Multiboot: one module", number(20) == 1);
        let module = u64::from(number(24));
        let (start, end) = (read::<u32>(module), read::<u32>(module + 4));
        let size = end.saturating_sub(start) as usize;
        let content = core::slice::from_raw_parts(start as usize as *const u8, size);
        let holds = start.is_multiple_of(4096) && content == b"a module";
        checks.holds("Multiboot: the module's place and content", holds);
        // Each entry says how long it is, behind a field that says so.
        let (mut entry, map_end) = (u64::from(number(48)), u64::from(number(48) + number(44)));
        let mut ram = 0;
        while entry < map_end {
            if read::<u32>(entry + 20) == 1 {
                ram += read::<u64>(entry + 12);
            }
            entry += u64::from(read::<u32>(entry)) + 4;
        }
        println!("Multiboot: {} KiB of RAM", ram >> 10);
        println!("Multiboot: loaded by {}", text(number(64).into()));
    }
    if !state.is_flat_protected_mode() {
        println!("Multiboot: {state:x?}");
    }
    checks.finish("Multiboot");
    power::power_off()
}
