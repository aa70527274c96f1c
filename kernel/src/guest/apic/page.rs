//! The registers of a guest in xAPIC mode: a page of memory (SDM Vol. 3A, 11.4.1, table 11-1).
//!
//! Register `n` is 32 bits at offset `16 * n`, and is MSR `0x800 + n` of the hardware (SDM Vol. 3A,
//! table 11-6), but for ID, ICR and the LVT, which are treated as in x2APIC mode, and LDR and DFR,
//! which only other processors of the guest look at. Nothing faults here: reserved bits and writes to read-only
//! registers are ignored, and what the manual leaves undefined is as memory that is not there.
//!
//! ESR shows the hardware's errors. Its bit 7, "illegal register address", is not among them.

use super::command::{WRITABLE as ICR_WRITABLE, WRITABLE_HIGH as ICR_WRITABLE_HIGH};
use super::lvt::lvt_write_xapic;
use super::{Command, Effect, Identities, LocalApic, Mode};
use crate::arch::apic::{SVR_ENABLE, register};
use crate::guest::layout;
use crate::memory::{FRAME_SIZE, GuestPhysical};

/// Registers that x2APIC mode does not have, by the number that they would have there.
mod page_register {
    /// Arbitration priority, which no processor since the Pentium 4 has (SDM Vol. 3A, table 11-1).
    pub const ARBITRATION_PRIORITY: u32 = 0x809;
    /// Remote read, likewise.
    pub const REMOTE_READ: u32 = 0x80C;
    /// Destination format.
    pub const DFR: u32 = 0x80E;
    /// The upper half of the interrupt command.
    pub const ICR_HIGH: u32 = 0x831;
}
use page_register::{ARBITRATION_PRIORITY, DFR, ICR_HIGH, REMOTE_READ};

/// First MSR of the x2APIC, the register at the page's start.
const FIRST: u32 = 0x800;
/// Bytes from one register to the next.
const STRIDE: u64 = 16;
/// Bytes of an access (SDM Vol. 3A, 11.4.1: others are undefined).
const ACCESS: u8 = 4;
/// Last of the eight registers of IRR, behind ISR and TMR.
const LAST_OF_IRR: u32 = register::IRR + 7;

/// Where the IDs are in ID and LDR, and the model in DFR.
const ID_SHIFT: u32 = 24;
const MODEL_SHIFT: u32 = 28;
/// DFR's reserved bits, which are 1 (SDM Vol. 3A, figure 11-14).
const DFR_RESERVED: u32 = (1 << MODEL_SHIFT) - 1;
/// A vector or a priority.
const BYTE: u32 = 0xFF;
/// Writable bits of the timer's divider (SDM Vol. 3A, figure 11-10).
const DIVIDER: u32 = 0b1011;
/// Writable bits of SVR on every processor. Not focus checking, which is gone, nor suppression of EOI
/// broadcasts, for which there is nobody to hear them.
const SVR: u32 = SVR_ENABLE as u32 | BYTE;

/// What a read finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRead {
    /// This.
    Value(u32),
    /// What this x2APIC register of the hardware has.
    Register(u32),
}

/// Where in the page an address is.
pub fn page_offset(at: GuestPhysical) -> Option<u64> {
    at.as_u64().checked_sub(layout::LOCAL_APIC).filter(|offset| *offset < FRAME_SIZE)
}

/// The register, by its number in x2APIC mode, that an access is for.
fn register_at(offset: u64, size: u8) -> Option<u32> {
    let number = u32::try_from(offset / STRIDE).ok()?;
    FIRST.checked_add(number).filter(|_| size == ACCESS && offset.is_multiple_of(STRIDE))
}

impl LocalApic {
    /// A read of `size` bytes at `offset` into the page. `None` where there is no register, or none
    /// that can be read so.
    pub fn read_page(&self, offset: u64, size: u8) -> Option<PageRead> {
        if self.mode() != Mode::XApic {
            return None;
        }
        let msr = register_at(offset, size)?;
        let value = match msr {
            register::ID => self.id << ID_SHIFT,
            register::LDR => u32::from(self.identity.logical) << ID_SHIFT,
            DFR => u32::from(self.identity.model) << MODEL_SHIFT | DFR_RESERVED,
            register::ICR => self.icr as u32,
            ICR_HIGH => (self.icr >> u32::BITS) as u32,
            ARBITRATION_PRIORITY | REMOTE_READ | register::EOI => 0,
            register::VERSION
            | register::TPR
            | register::PPR
            | register::SVR
            | register::ISR..=LAST_OF_IRR
            | register::ESR
            | register::LVT_TIMER
            | register::LVT_ERROR
            | register::TIMER_INITIAL
            | register::TIMER_CURRENT
            | register::TIMER_DIVIDE => return Some(PageRead::Register(msr)),
            _ => self.kept.get(msr)? as u32,
        };
        Some(PageRead::Value(value))
    }

    /// A write of `size` bytes at `offset` into the page. `None` where there is no register, or none
    /// that can be written so.
    pub fn write_page(
        &mut self,
        offset: u64,
        size: u8,
        value: u32,
        identities: &Identities,
    ) -> Option<Effect> {
        if self.mode() != Mode::XApic {
            return None;
        }
        let msr = register_at(offset, size)?;
        let pass = |value: u32| Effect::Register(msr, value.into());
        Some(match msr {
            register::TPR => pass(value & BYTE),
            // Any value ends the interrupt, and any updates ESR; the x2APIC takes 0 alone.
            register::EOI | register::ESR => pass(0),
            register::SVR => pass(value & SVR),
            register::TIMER_INITIAL => pass(value),
            register::TIMER_DIVIDE => pass(value & DIVIDER),
            register::LDR => {
                self.identity.logical = (value >> ID_SHIFT) as u8;
                identities.set(self.id, self.identity);
                Effect::None
            }
            DFR => {
                self.identity.model = (value >> MODEL_SHIFT) as u8;
                identities.set(self.id, self.identity);
                Effect::None
            }
            ICR_HIGH => {
                let high = u64::from(value & ICR_WRITABLE_HIGH) << u32::BITS;
                self.icr = high | self.icr & u64::from(u32::MAX);
                Effect::None
            }
            register::ICR => {
                let high = self.icr & !u64::from(u32::MAX);
                self.icr = high | u64::from(value & ICR_WRITABLE);
                Effect::Interrupt(Command::decode_xapic(self.icr, self.id, identities))
            }
            register::LVT_CMCI | register::LVT_TIMER..=register::LVT_ERROR => {
                self.finish_lvt_write(msr, lvt_write_xapic(msr, value))
            }
            // Read only.
            register::ID
            | register::VERSION
            | register::PPR
            | register::TIMER_CURRENT
            | register::ISR..=LAST_OF_IRR
            | ARBITRATION_PRIORITY
            | REMOTE_READ => Effect::None,
            _ => return None,
        })
    }
}
