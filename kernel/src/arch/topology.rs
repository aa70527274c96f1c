//! Which processors share a core (SDM Vol. 3A, 9.9.1).

use super::cpu::cpuid;

/// The leaves that describe levels of topology, the better first.
const LEAVES: [u32; 2] = [0x1F, 0xB];
/// ECX\[15:8\]: the level is that of threads of a core.
const LEVEL_SHIFT: u32 = 8;
const THREADS: u32 = 1;
/// EAX\[4:0\]: bits of the APIC ID below the next level.
const BITS: u32 = 0x1F;

/// The leaf that this processor has, with its first level.
fn first_level() -> Option<core::arch::x86_64::CpuidResult> {
    let highest = cpuid(0, 0).eax;
    LEAVES
        .into_iter()
        .filter(|&leaf| leaf <= highest)
        .map(|leaf| cpuid(leaf, 0))
        .find(|level| level.ebx & 0xFFFF != 0)
}

/// Low bits of an APIC ID that tell the threads of one core apart: 0 without hyper-threading.
pub fn thread_bits() -> u32 {
    first_level()
        .filter(|level| level.ecx >> LEVEL_SHIFT & 0xFF == THREADS)
        .map_or(0, |level| level.eax & BITS)
}

/// This processor's APIC ID, before its APIC is in x2APIC mode.
pub fn apic_id() -> u32 {
    /// CPUID.1:EBX\[31:24\], which has only 8 bits of it.
    const INITIAL_APIC_ID_SHIFT: u32 = 24;
    first_level().map_or_else(|| cpuid(1, 0).ebx >> INITIAL_APIC_ID_SHIFT, |level| level.edx)
}
