//! RAM: touched first, touched in an order that no TLB likes, and copied.

use crate::timing::{BATCH, print, ticks};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{cpu, memory, println};
use core::ops::Range;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
/// RAM that is used here: more than a TLB of 1,536 entries for 4 KiB reaches.
const SIZE: u64 = 16 << 20;
/// Bytes that are copied.
const COPY: u64 = 1 << 20;

pub fn measure(boot: &BootParams) {
    let start = memory::image().end.next_multiple_of(LARGE_PAGE);
    let range = start..start + SIZE;
    let whole = memory::usable(boot).any(|ram| ram.start <= range.start && range.end <= ram.end);
    if !whole {
        println!("bench: error {} MiB of RAM behind the guest are needed", SIZE >> 20);
        return;
    }
    let pages = SIZE / PAGE;
    print("first-touch", ticks(|| touch(&range)) * BATCH / pages);
    print("tlb-page", ticks(|| touch_with_empty_tlb(&range)) * BATCH / pages);
    let kib = COPY >> 10;
    print("copy-kib", ticks(|| copy(&range)) * BATCH / kib);
}

/// Writes to each page.
fn touch(range: &Range<u64>) {
    for at in range.clone().step_by(PAGE as usize) {
        // SAFETY: RAM in which there is nothing, mapped one to one.
        unsafe { (at as *mut u64).write_volatile(at) };
    }
}

/// Reads from each page, and has the TLB emptied before each large page.
fn touch_with_empty_tlb(range: &Range<u64>) {
    for at in range.clone().step_by(PAGE as usize) {
        if at % LARGE_PAGE == 0 {
            // SAFETY: the value that it has.
            unsafe { cpu::write_cr3(cpu::read_cr3()) };
        }
        // SAFETY: as above.
        unsafe { (at as *const u64).read_volatile() };
    }
}

/// Copies to where nothing overlaps, eight bytes at a time.
fn copy(range: &Range<u64>) {
    for at in (range.start..range.start + COPY).step_by(size_of::<u64>()) {
        // SAFETY: as above.
        unsafe { ((at + COPY) as *mut u64).write_volatile((at as *const u64).read_volatile()) };
    }
}
