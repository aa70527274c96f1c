//! RAM, and what of it the loader has left alone.

use crate::boot::BootParams;
use core::ops::Range;

/// End of what the loader puts at the beginning of RAM, and the command line behind it.
const STRUCTURES_END: u64 = 0xE000;
const COMMAND_LINE: u64 = 0x2_0000;
/// End of what the loader puts below 1 MiB.
pub const LOADED_END: u64 = 0x2_0800;
/// End of conventional memory that can be used.
const LOW_END: u64 = 0x9_FC00;
const HIGH_MEMORY: u64 = 0x10_0000;
/// End of what the page tables map.
const MAPPED_END: u64 = 1 << 32;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// Where the guest itself is.
pub fn image() -> Range<u64> {
    &raw const __image_start as u64..&raw const __image_end as u64
}

/// RAM for the guest to use, as far as it is mapped.
pub fn usable(boot: &BootParams) -> impl Iterator<Item = Range<u64>> {
    let usable = boot.memory().filter(|region| region.usable);
    usable.map(|region| region.range.start..region.range.end.min(MAPPED_END))
}

/// End of the RAM that is mapped; 0 where the memory map has none.
fn end(boot: &BootParams) -> u64 {
    usable(boot).map(|range| range.end).filter(|&end| end <= MAPPED_END).max().unwrap_or(0)
}

/// RAM in which there is neither the guest nor anything of the loader's; of that above the guest
/// `most` bytes, as more takes its time in an emulator.
pub fn unloaded(boot: &BootParams, most: u64) -> [Range<u64>; 4] {
    let image = image();
    let last = end(boot).min(image.end + most);
    [
        STRUCTURES_END..COMMAND_LINE,
        LOADED_END..LOW_END,
        HIGH_MEMORY..image.start,
        image.end..last.max(image.end),
    ]
}

/// The first word in a range of RAM that is not 0, and where.
pub fn first_nonzero(range: Range<u64>) -> Option<(u64, u64)> {
    range.step_by(size_of::<u64>()).find_map(|at| {
        // SAFETY: RAM, mapped one to one.
        let word = unsafe { (at as *const u64).read_volatile() };
        (word != 0).then_some((word, at))
    })
}
