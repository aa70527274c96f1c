//! The guest's view of its local APICs.
//!
//! Guests see APIC IDs 0 to n-1, which stand for the physical cores they were
//! given. The hardware's APIC is always in x2APIC mode. For a guest in that mode nearly all
//! registers are passed through; trapped are those in which an ID occurs (ID, LDR, ICR), and those that could
//! make the processor deliver what a guest must not have delivered (the local vector table but for the timer). For a
//! guest in xAPIC mode the same registers are a page of memory, each access to which is trapped.

mod command;
mod identity;
mod lvt;
mod mode;
mod page;

pub use command::{Command, Delivery, Plain};
pub use identity::{Address, Identities, Identity, MAX_PROCESSORS, Targets, logical_id};
pub use mode::Mode;
pub use page::{PageRead, page_offset};

use super::control_registers::GeneralProtection;
use crate::arch::apic::register;
use crate::arch::msr::Msr;
use lvt::{Kept, LvtWrite, lvt_write};

const APIC_BASE: u32 = Msr::APIC_BASE.number();

/// What a trapped write asks the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing more.
    None,
    /// Write this x2APIC register of the hardware, for which the value is valid.
    Register(u32, u64),
    /// Send this.
    Interrupt(Command),
    /// The mode is this one now: the caller gives or takes the x2APIC's MSRs, and when the APIC was
    /// disabled puts the hardware's into the state after reset.
    Mode(Mode),
}

/// One processor's local APIC: what of it is not in the hardware.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u32,
    identity: Identity,
    kept: Kept,
    /// Last value written to ICR, both halves.
    icr: u64,
}

impl LocalApic {
    /// The APIC of processor `id` after reset. `Identities` are so from the start.
    pub const fn new(id: u32) -> Self {
        Self { id, identity: Identity::RESET, kept: Kept::RESET, icr: 0 }
    }

    /// Its mode.
    #[inline(always)]
    pub const fn mode(&self) -> Mode {
        self.identity.mode
    }

    /// Puts the registers into the state after INIT, which keeps ID and mode (SDM Vol. 3A, 11.4.7.3 and
    /// 11.12.5.1). The hardware's registers are the caller's to reset.
    pub fn init(&mut self, identities: &Identities) {
        let identity = Identity { mode: self.mode(), ..Identity::RESET };
        *self = Self { identity, ..Self::new(self.id) };
        identities.set(self.id, identity);
    }

    /// `IA32_APIC_BASE`.
    pub const fn base(&self) -> u64 {
        self.mode().base(self.is_boot_processor())
    }

    /// A write to `IA32_APIC_BASE`.
    ///
    /// # Errors
    /// As [`Mode::write_base`]: nothing has changed then.
    pub fn write_base(
        &mut self,
        value: u64,
        identities: &Identities,
    ) -> Result<Effect, GeneralProtection> {
        let mode = self.mode().write_base(value, self.is_boot_processor())?;
        if mode == self.mode() {
            return Ok(Effect::None);
        }
        match mode {
            // Nothing but the ID outlives this (SDM Vol. 3A, 11.4.3 and 11.12.5.1).
            Mode::Disabled => *self = Self::new(self.id),
            // Behind the disabled state everything is as after reset.
            Mode::XApic => {}
            // All is kept but LDR, which is derived from the ID, and ICR's upper half (SDM Vol. 3A, 11.12.5.1).
            Mode::X2Apic => self.icr &= u64::from(u32::MAX),
        }
        self.identity.mode = mode;
        identities.set(self.id, self.identity);
        Ok(Effect::Mode(mode))
    }

    /// A trapped RDMSR of what is known without a search. `None` says nothing of what else it may be.
    #[inline(always)]
    pub fn read_quick(&self, msr: u32) -> Option<u32> {
        match msr {
            // All of it is in the lower half: the page is where it is after reset.
            APIC_BASE => Some(self.base() as u32),
            register::ID if self.mode() == Mode::X2Apic => Some(self.id),
            _ => None,
        }
    }

    /// What a write to the LVT's error entry in x2APIC mode makes the hardware's, the quick way. Whatever
    /// else it is has to go through [`write_x2apic`](Self::write_x2apic).
    #[inline(always)]
    pub fn lvt_passed(&self, msr: u32, value: u64) -> Option<u64> {
        if msr != register::LVT_ERROR || self.mode() != Mode::X2Apic {
            return None;
        }
        match lvt_write(msr, value) {
            LvtWrite::Pass(value) => Some(value),
            _ => None,
        }
    }

    /// A trapped RDMSR of a register in the x2APIC's range.
    pub fn read_x2apic(&self, msr: u32) -> Result<u64, GeneralProtection> {
        if self.mode() != Mode::X2Apic {
            return Err(GeneralProtection);
        }
        match msr {
            register::ID => Ok(self.id.into()),
            register::LDR => Ok(logical_id(self.id).into()),
            register::ICR => Ok(self.icr),
            _ => self.kept.get(msr).ok_or(GeneralProtection),
        }
    }

    /// A write of a plain interrupt to ICR in x2APIC mode, the quick way. Whatever else it is has to
    /// go through [`write_x2apic`](Self::write_x2apic).
    #[inline(always)]
    pub fn write_plain(&mut self, msr: u32, value: u64, identities: &Identities) -> Option<Plain> {
        if msr != register::ICR || self.mode() != Mode::X2Apic {
            return None;
        }
        let plain = Plain::decode(value, self.id, identities)?;
        self.icr = value;
        Some(plain)
    }

    /// A trapped WRMSR of a register in the x2APIC's range.
    #[inline(always)]
    pub fn write_x2apic(
        &mut self,
        msr: u32,
        value: u64,
        identities: &Identities,
    ) -> Result<Effect, GeneralProtection> {
        if self.mode() != Mode::X2Apic {
            return Err(GeneralProtection);
        }
        match msr {
            register::ICR => {
                let command = Command::decode(value, self.id, identities);
                if command.delivery == Delivery::Refused {
                    return Err(GeneralProtection);
                }
                self.icr = value;
                Ok(Effect::Interrupt(command))
            }
            register::LVT_CMCI | register::LVT_TIMER..=register::LVT_ERROR => {
                match lvt_write(msr, value) {
                    LvtWrite::Fault => Err(GeneralProtection),
                    accepted => Ok(self.finish_lvt_write(msr, accepted)),
                }
            }
            _ => Err(GeneralProtection),
        }
    }

    fn finish_lvt_write(&mut self, msr: u32, write: LvtWrite) -> Effect {
        match write {
            LvtWrite::Pass(value) => Effect::Register(msr, value),
            LvtWrite::Keep(value) => {
                self.kept.set(msr, value);
                Effect::None
            }
            LvtWrite::Fault => Effect::None,
        }
    }

    const fn is_boot_processor(&self) -> bool {
        self.id == 0
    }
}

#[cfg(test)]
mod tests;
