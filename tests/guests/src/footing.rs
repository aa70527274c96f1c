//! What a guest stands on that does to itself what it likes.

use crate::cpu::{self, efer};

/// Registers that the guest's own code needs, as they were.
#[derive(Clone, Copy, Debug)]
pub struct Footing {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    /// Bits of EFER that can be written in long mode: SCE and NXE; LMA is read only, and LME cannot be cleared.
    efer: u64,
}

impl Footing {
    /// As they are.
    pub fn now() -> Self {
        Self {
            cr0: cpu::read_cr0(),
            cr3: cpu::read_cr3(),
            cr4: cpu::read_cr4(),
            efer: cpu::rdmsr(efer::MSR),
        }
    }

    /// Puts them back, with breakpoints and interrupts off.
    pub fn restore(&self) {
        // SAFETY: these are what the guest ran with before.
        unsafe {
            cpu::write_cr3(self.cr3);
            cpu::write_cr4(self.cr4);
            cpu::write_cr0(self.cr0);
            cpu::wrmsr(efer::MSR, self.efer);
            cpu::write_dr7(0x400);
            // The flags that are the System V ABI's to be clear, and interrupts off.
            core::arch::asm!("cld", "cli", options(nostack));
        }
    }
}
