//! The edge of the address space, reached without doing anything forbidden.

use bulkhead_guests::cpu;
use core::arch::asm;

/// The last page of the lower half of the address space, and the index that leads to it at each
/// level below the top.
const LAST_PAGE: u64 = 0x7FFF_FFFF_F000;
const LAST: usize = 511;
/// The index at the top level.
const LAST_OF_LOWER_HALF: usize = 255;
/// Of a page-table entry: present and writable.
const PRESENT: u64 = 0b11;
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Frames([[u64; 512]; 3], [u8; PAGE]);

static mut FRAMES: Frames = Frames([[0; 512]; 3], [0; PAGE]);

/// Runs CPUID in the last two bytes of the lower half. The hypervisor moves RIP past it, to where no
/// 64-bit address can be. By the manual a VM entry there fails (SDM Vol. 3C, 27.3.1.4); Bochs lets it
/// be, and the guest gets #GP, as without a hypervisor.
pub fn cpuid_at_the_last_address() {
    const CPUID: [u8; 2] = [0x0F, 0xA2];
    let frames = &raw mut FRAMES;
    // SAFETY: this is the only user of the frames, which are mapped one to one as all of the
    // guest; the entry of the loader's top-level table was empty. The guest ends here.
    unsafe {
        let page = &raw mut (*frames).1;
        let tables = &raw mut (*frames).0;
        (page as *mut u8).add(PAGE - CPUID.len()).cast::<[u8; 2]>().write_volatile(CPUID);
        let mut below = page as u64;
        for level in 0..3 {
            let table = &raw mut (*tables)[level];
            (table as *mut u64).add(LAST).write_volatile(below | PRESENT);
            below = table as u64;
        }
        let root = cpu::read_cr3() as *mut u64;
        root.add(LAST_OF_LOWER_HALF).write_volatile(below | PRESENT);
        let at = LAST_PAGE + (PAGE - CPUID.len()) as u64;
        asm!("jmp rcx", in("rcx") at, in("eax") 0, options(noreturn));
    }
}
