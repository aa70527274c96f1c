//! RAM: what the memory map says, and that nobody's data is left in it.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::memory::{LOADED_END, first_nonzero, image, unloaded, usable};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, fail};

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

/// Bytes above the guest that are looked at: more takes its time in an emulator.
const SAMPLE: u64 = 32 << 20;
const WORD: usize = size_of::<u64>();

fn scrubbed(boot: &BootParams) -> Outcome {
    let ranges = unloaded(boot, SAMPLE);
    ensure!(!ranges[ranges.len() - 1].is_empty(), "no RAM in the memory map");
    for range in ranges {
        if let Some((word, at)) = first_nonzero(range) {
            fail!("{word:#x} at {at:#x}");
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
