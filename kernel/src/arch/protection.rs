//! What the processor guards root mode with.

mod found;
mod speculation;
#[cfg(test)]
mod tests;

use super::cpu::{self, cr0, cr4};
use super::msr::Msr;
use core::arch::x86_64::CpuidResult;
pub use found::{Found, Processor};
pub use speculation::{Defence, SPEC_CTRL_IBRS};

/// The processor that this code runs on.
struct ThisProcessor;

impl Processor for ThisProcessor {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        cpu::cpuid(leaf, subleaf)
    }

    fn arch_capabilities(&self) -> u64 {
        Msr::ARCH_CAPABILITIES.read()
    }
}

impl Found {
    /// What the processor has that asks.
    pub fn here() -> Self {
        Self::of(&ThisProcessor)
    }
}

/// Turns on what root mode wants of CR0, CR4 and `IA32_SPEC_CTRL`, where the processor has it. Says what it has.
pub fn enable() -> Found {
    const XSAVE: u32 = 1 << 26;
    const MCE: u32 = 1 << 7;
    let basic = cpu::cpuid(1, 0);
    let found = Found::here();
    let mut control = cpu::read_cr4() | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PGE;
    for (present, bit) in [
        (basic.ecx & XSAVE != 0, cr4::OSXSAVE),
        (basic.edx & MCE != 0, cr4::MCE),
        (found.contains(Found::SMEP), cr4::SMEP),
        (found.contains(Found::SMAP), cr4::SMAP),
        (found.contains(Found::UMIP), cr4::UMIP),
    ] {
        if present {
            control |= bit;
        }
    }
    // SAFETY: each bit's feature is there; no page of the hypervisor's is a user page, so that
    // SMEP and SMAP forbid nothing that it does. The defence is this processor's.
    unsafe {
        cpu::write_cr0(cpu::read_cr0() & !(cr0::CD | cr0::NW) | cr0::WP | cr0::MP | cr0::NE);
        cpu::write_cr4(control);
        Defence::of(found).set();
    }
    found
}
