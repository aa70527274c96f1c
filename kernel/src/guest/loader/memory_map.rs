//! The memory map that kernels are given, with e820's types (ACPI 6.5, table 15.4), which Linux,
//! PVH and Multiboot share.

use crate::guest::layout::{HIGH_MEMORY, IOAPIC, LOCAL_APIC, LOW_USABLE_END, RamLayout};
use crate::memory::FRAME_SIZE;
use core::ops::Range;

/// Type of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Type {
    /// RAM.
    Usable = 1,
    /// Not to be used.
    Reserved = 2,
}

/// The ranges, in ascending order. The interrupt controllers' pages are reserved, so that nothing
/// is put there.
pub(super) fn of(ram: RamLayout) -> impl Iterator<Item = (Range<u64>, Type)> {
    let all = [
        (0..LOW_USABLE_END, Type::Usable),
        (LOW_USABLE_END..HIGH_MEMORY, Type::Reserved),
        (HIGH_MEMORY..ram.low_end(), Type::Usable),
        (IOAPIC..LOCAL_APIC + FRAME_SIZE, Type::Reserved),
        (ram.high(), Type::Usable),
    ];
    all.into_iter().filter(|(range, _)| !range.is_empty())
}
