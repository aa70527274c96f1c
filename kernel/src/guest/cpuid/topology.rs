//! Topology: each virtual processor is a core of its own, all in one package, numbered from 0.

use super::{CpuidResult, GuestCpu, NOTHING};

/// Leaf 1 EBX: CLFLUSH line size, passed on.
const CLFLUSH_SIZE: u32 = 0xFF << 8;
const COUNT_SHIFT: u32 = 16;
const APIC_ID_SHIFT: u32 = 24;
/// Most that leaf 1's fields of a byte hold.
const BYTE: u32 = u8::MAX as u32;
/// Leaf 1 EDX: the count is valid.
const HTT: u32 = 1 << 28;

/// Leaf 1 EBX: APIC ID and count of processors in place of the host's.
pub(super) fn leaf_1_ebx(host: u32, guest: &GuestCpu) -> u32 {
    (host & CLFLUSH_SIZE)
        | addressable(guest).min(BYTE) << COUNT_SHIFT
        | (guest.apic_id & BYTE) << APIC_ID_SHIFT
}

/// Leaf 1 EDX: whether there is more than one processor.
pub(super) const fn multi_threading(guest: &GuestCpu) -> u32 {
    if guest.processors > 1 { HTT } else { 0 }
}

/// Processors, rounded up to a power of two: the IDs that fit its bits.
fn addressable(guest: &GuestCpu) -> u32 {
    guest.processors.max(1).checked_next_power_of_two().unwrap_or(1 << (u32::BITS - 1))
}

/// A subleaf of leaf 4, with the host's counts of sharing processors replaced: caches below the third
/// level are a core's own, the others the package's.
pub(super) fn cache(host: CpuidResult, guest: &GuestCpu) -> CpuidResult {
    /// EAX: type, level, self-initialising, fully associative.
    const KEPT_EAX: u32 = 0x3FF;
    const TYPE: u32 = 0x1F;
    const LEVEL_SHIFT: u32 = 5;
    const LEVEL: u32 = 0b111;
    const FIRST_SHARED_LEVEL: u32 = 3;
    /// EAX\[25:14\]: highest ID that shares the cache, from the first on.
    const SHARING_SHIFT: u32 = 14;
    const MOST_SHARING: u32 = 0xFFF;
    /// EAX\[31:26\]: highest core ID in the package.
    const CORES_SHIFT: u32 = 26;
    const MOST_CORES: u32 = 0x3F;
    /// EDX: invalidation, inclusiveness, indexing.
    const KEPT_EDX: u32 = 0b111;

    if host.eax & TYPE == 0 {
        return NOTHING;
    }
    let highest = addressable(guest).saturating_sub(1);
    let shared = (host.eax >> LEVEL_SHIFT) & LEVEL >= FIRST_SHARED_LEVEL;
    let sharing = if shared { highest.min(MOST_SHARING) } else { 0 };
    CpuidResult {
        eax: (host.eax & KEPT_EAX)
            | sharing << SHARING_SHIFT
            | highest.min(MOST_CORES) << CORES_SHIFT,
        edx: host.edx & KEPT_EDX,
        ..host
    }
}

/// Leaves 0xB and 0x1F: one thread per core, all cores in the package.
pub(super) fn levels(subleaf: u32, guest: &GuestCpu) -> CpuidResult {
    /// Level types in ECX\[15:8\].
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    /// EBX\[15:0\]: processors at the level.
    const MOST_PROCESSORS: u32 = 0xFFFF;
    let level = subleaf & BYTE;
    let (shift, processors, kind) = match subleaf {
        0 => (0, 1, THREADS),
        1 => (addressable(guest).ilog2(), guest.processors.min(MOST_PROCESSORS), CORES),
        _ => (0, 0, 0),
    };
    CpuidResult { eax: shift, ebx: processors, ecx: kind | level, edx: guest.apic_id }
}
