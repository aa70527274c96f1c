//! What the processor guards root mode with.

use super::cpu::{self, cr0, cr4};

/// Turns on what root mode wants of CR0 and CR4, where the processor has it.
pub fn enable() {
    const SMEP: u32 = 1 << 7;
    const SMAP: u32 = 1 << 20;
    const UMIP: u32 = 1 << 2;
    const XSAVE: u32 = 1 << 26;
    const MCE: u32 = 1 << 7;
    const EXTENDED_FEATURES: u32 = 7;
    let basic = cpu::cpuid(1, 0);
    // A leaf beyond the highest answers with another one's values (SDM Vol. 2A, CPUID).
    let (ebx, ecx) = if cpu::cpuid(0, 0).eax >= EXTENDED_FEATURES {
        let leaf = cpu::cpuid(EXTENDED_FEATURES, 0);
        (leaf.ebx, leaf.ecx)
    } else {
        (0, 0)
    };
    let mut control = cpu::read_cr4() | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PGE;
    for (present, bit) in [
        (basic.ecx & XSAVE != 0, cr4::OSXSAVE),
        (basic.edx & MCE != 0, cr4::MCE),
        (ebx & SMEP != 0, cr4::SMEP),
        (ebx & SMAP != 0, cr4::SMAP),
        (ecx & UMIP != 0, cr4::UMIP),
    ] {
        if present {
            control |= bit;
        }
    }
    // SAFETY: each bit's feature is there; no page of the hypervisor's is a user page, so that
    // SMEP and SMAP forbid nothing that it does.
    unsafe {
        cpu::write_cr0(cpu::read_cr0() & !(cr0::CD | cr0::NW) | cr0::WP | cr0::MP | cr0::NE);
        cpu::write_cr4(control);
    }
}
