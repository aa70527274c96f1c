//! RAM: what the memory map says, and that nobody's data is left in it.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, fail};
use core::ops::Range;

pub const TESTS: &[Test] = &[
    Test {
        title: "RAM is empty at first",
        what: "all RAM that the loader has nothing to put in is zero",
        run: scrubbed,
    },
    Test {
        title: "the memory map is in order",
        what: "e820 entries rise, do not overlap, and leave the interrupt controllers out",
        run: map,
    },
    Test {
        title: "RAM keeps what is written to its first and last bytes",
        what: "writes at both ends of each usable region",
        run: ends,
    },
];

/// End of what the loader puts below 1 MiB: the command line is last.
const LOADED_END: u64 = 0x2_0800;
/// End of conventional memory that can be used.
const LOW_END: u64 = 0x9_FC00;
const HIGH_MEMORY: u64 = 0x10_0000;
/// End of what the page tables map.
const MAPPED_END: u64 = 1 << 32;
/// Bytes above the guest that are looked at: more takes its time in an emulator.
const SAMPLE: u64 = 32 << 20;
const WORD: usize = size_of::<u64>();

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

fn image() -> Range<u64> {
    &raw const __image_start as u64..&raw const __image_end as u64
}

fn usable(boot: &BootParams) -> impl Iterator<Item = Range<u64>> {
    let usable = boot.memory().filter(|region| region.usable);
    usable.map(|region| region.range.start..region.range.end.min(MAPPED_END))
}

fn scrubbed(boot: &BootParams) -> Outcome {
    let Some(ram_end) = usable(boot).map(|range| range.end).filter(|&end| end <= MAPPED_END).max()
    else {
        fail!("no RAM in the memory map")
    };
    let image = image();
    let sample_end = ram_end.min(image.end + SAMPLE);
    for range in [LOADED_END..LOW_END, HIGH_MEMORY..image.start, image.end..sample_end] {
        for at in range.step_by(WORD) {
            // SAFETY: this is RAM that is neither the guest's image nor anything of the loader's.
            let word = unsafe { (at as *const u64).read_volatile() };
            ensure!(word == 0, "{word:#x} at {at:#x}");
        }
    }
    Ok(())
}

fn map(boot: &BootParams) -> Outcome {
    const IOAPIC: u64 = 0xFEC0_0000;
    const LOCAL_APIC: u64 = 0xFEE0_0000;
    let mut last = 0;
    for region in boot.memory() {
        let range = region.range;
        ensure!(range.start >= last && range.end > range.start, "{range:#x?} after {last:#x}");
        let controller = [IOAPIC, LOCAL_APIC].iter().any(|page| range.contains(page));
        ensure!(!(region.usable && controller), "{range:#x?} is RAM");
        last = range.end;
    }
    let image = image();
    let inside = usable(boot).any(|range| range.contains(&image.start) && image.end <= range.end);
    ensure!(inside, "the guest itself is not in RAM");
    Ok(())
}

fn ends(boot: &BootParams) -> Outcome {
    const VALUE: u64 = 0x0123_4567_89AB_CDEF;
    for range in usable(boot).filter(|range| !range.is_empty()) {
        // The first page holds the GDT that is in force.
        let first = range.start.max(LOADED_END);
        for at in [first, range.end - WORD as u64] {
            let place = at as *mut u64;
            // SAFETY: RAM by the memory map, and nothing of the guest's is there.
            let read = unsafe {
                place.write_volatile(VALUE);
                let read = place.read_volatile();
                place.write_volatile(0);
                read
            };
            same(format_args!("what was written to {at:#x}"), read, VALUE)?;
        }
    }
    Ok(())
}
