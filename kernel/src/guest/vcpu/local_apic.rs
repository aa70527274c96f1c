//! The local APIC where an access to it has exited: what the hardware's has to do.

use super::super::apic::{Effect, Mode, PageRead, page_offset};
use super::{Served, Vcpu};
use crate::arch::apic as hardware;
use crate::memory::GuestPhysical;

impl Vcpu {
    /// Carries out what a write to the APIC asks for.
    #[inline(always)]
    pub(super) fn apic_effect(&mut self, effect: Effect) -> Served {
        match effect {
            Effect::Interrupt(command) => return self.interrupt_command(&command),
            // SAFETY: the value is valid for the register, which is the guest's own core's: a plain
            // vector, a priority, a count, an end of interrupt.
            Effect::Register(register, value) => unsafe { hardware::write(register, value) },
            Effect::Mode(mode) => self.enter_apic_mode(mode),
            Effect::None => {}
        }
        Served::Done
    }

    fn enter_apic_mode(&mut self, mode: Mode) {
        self.choose_msr_bitmap();
        // CPUID shows whether it is on.
        self.prepare_cpuid();
        if mode == Mode::Disabled {
            // Nobody sends it anything any more. What is pending or in service is lost (SDM Vol. 3A, 11.4.3).
            // SAFETY: interrupts are off, the core's interrupt table is loaded, no lock is held; the
            // guest goes on with an APIC as after reset.
            unsafe {
                hardware::drain();
                hardware::reset_for_guest();
            }
        }
    }

    /// A read of the APIC's page. `None` where it has no register, as in any mode but xAPIC mode:
    /// there is nothing then.
    pub(super) fn apic_page_read(&self, at: GuestPhysical, size: u8) -> Option<u64> {
        Some(match self.apic.read_page(page_offset(at)?, size)? {
            PageRead::Value(value) => value.into(),
            PageRead::Register(register) => hardware::read(register),
        })
    }

    /// A write to the APIC's page; `None` likewise.
    pub(super) fn apic_page_write(
        &mut self,
        at: GuestPhysical,
        size: u8,
        value: u64,
    ) -> Option<Served> {
        let offset = page_offset(at)?;
        // More than four bytes are for no register.
        let effect = self.apic.write_page(offset, size, value as u32, &self.shared.identities)?;
        Some(self.apic_effect(effect))
    }
}
