//! Accesses to devices: by port, and by guest-physical address.

use super::super::mmio::{self, MAX_INSTRUCTION};
use super::super::report;
use super::super::stop::{Fault, Stop};
use super::{Served, Vcpu, event, string_io};
use crate::arch::switch::{Registers, reg};
use crate::device::platform::{Outcome, Width};
use crate::device::power::PowerEvent;
use crate::memory::GuestPhysical;
use crate::vmx::exit::{EptViolation, IoDirection, IoInstruction};
use crate::vmx::vmcs::{GuestField, InfoField};

impl Vcpu {
    /// Carries out what a device access caused.
    pub(super) fn finish_access(&mut self, outcome: Outcome) -> Served {
        if let Some(message) = outcome.message {
            self.shared.deliver(&message);
        }
        if outcome.console {
            (self.shared.doorbell)();
        }
        match outcome.power {
            None => Served::Done,
            Some(PowerEvent::PowerOff) => self.stop(Stop::PowerOff),
            Some(PowerEvent::Reset) => self.stop(Stop::Reset),
        }
    }

    pub(super) fn io(&mut self, registers: &mut Registers, field: u32) -> Served {
        let qualification = self.vmcs.info(InfoField::QUALIFICATION);
        let Some(access) = IoInstruction::decode(qualification) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        let Some(width) = Width::from_bytes(access.size.into()) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        if access.string {
            return string_io::serve(self, registers, &access, width);
        }
        let now = || self.clock.now();
        let Some(mut platform) = self.shared.platform() else { return Served::Leave };
        let rax = &mut registers.0[reg::RAX];
        match access.direction {
            IoDirection::In => {
                let value = platform.port_read(access.port, width, now);
                let ones = u64::from(width.ones());
                // A 32-bit result clears the upper half, others leave the rest as it is.
                let keep = if width == Width::Dword { 0 } else { !ones };
                *rax = *rax & keep | u64::from(value) & ones;
                Served::Done
            }
            IoDirection::Out => {
                let value = *rax as u32 & width.ones();
                let outcome = platform.port_write(access.port, width, value, now);
                drop(platform);
                self.finish_access(outcome)
            }
        }
    }

    #[inline(never)]
    pub(super) fn ept_violation(&mut self, registers: &mut Registers, field: u32) -> Served {
        let violation = EptViolation::decode(self.vmcs.info(InfoField::QUALIFICATION));
        let at = GuestPhysical::new(self.vmcs.info(InfoField::GUEST_PHYSICAL));
        if self.ram.layout().offset_of(at, 1).is_some() {
            return self.fault(Fault::RamViolation, registers, field);
        }
        if violation.fetch {
            return self.fault(Fault::FetchOutsideRam, registers, field);
        }
        // The access was not the instruction's own: delivery of an event, or a walk of the
        // guest's page tables, went to memory that is not there.
        if event::interrupted_delivery(&self.vmcs) || !violation.translated {
            return self.fault(Fault::StructureOutsideRam, registers, field);
        }
        let mut code = [0; MAX_INSTRUCTION];
        let access = match report::instruction(&self.vmcs, &self.ram, &mut code) {
            Ok(len) => {
                let code = code.get(..len).unwrap_or(&code);
                mmio::decode(code, report::code_size(&self.vmcs))
            }
            Err(_) => Err(mmio::DecodeError::Truncated),
        };
        let access = match access {
            Ok(access) => access,
            Err(error) => return self.fault(Fault::Undecodable(error), registers, field),
        };
        if violation.nmi_unblocking {
            self.block_nmis_again();
        }
        registers.0[reg::RSP] = self.vmcs.read(GuestField::RSP);
        let served = match access.written(&registers.0) {
            Some(value) => self.mmio_write(at, access.size, value),
            None => {
                let Some(value) = self.mmio_read(at, access.size) else { return Served::Leave };
                access.complete_read(&mut registers.0, value);
                self.vmcs.write(GuestField::RSP, registers.0[reg::RSP]);
                Served::Done
            }
        };
        match served {
            // The exit's instruction-length field is not defined for EPT violations.
            Served::Done => {
                self.advance(access.length.into());
                Served::Again
            }
            other => other,
        }
    }

    fn mmio_read(&self, at: GuestPhysical, size: u8) -> Option<u64> {
        if let Some(value) = self.apic_page_read(at, size) {
            return Some(value);
        }
        let mut platform = self.shared.platform()?;
        Some(match Width::from_bytes(size.into()) {
            Some(width) => platform.mmio_read(at, width).into(),
            // Eight bytes: two accesses, as a 32-bit bus does it.
            None => {
                let low = platform.mmio_read(at, Width::Dword);
                let high =
                    at.checked_add(4).map_or(u32::MAX, |at| platform.mmio_read(at, Width::Dword));
                u64::from(high) << 32 | u64::from(low)
            }
        })
    }

    fn mmio_write(&mut self, at: GuestPhysical, size: u8, value: u64) -> Served {
        if let Some(served) = self.apic_page_write(at, size, value) {
            return served;
        }
        let parts = match Width::from_bytes(size.into()) {
            Some(width) => [Some((at, width, value as u32 & width.ones())), None],
            None => [
                Some((at, Width::Dword, value as u32)),
                at.checked_add(4).map(|at| (at, Width::Dword, (value >> 32) as u32)),
            ],
        };
        for (at, width, value) in parts.into_iter().flatten() {
            let Some(mut platform) = self.shared.platform() else { return Served::Leave };
            let outcome = platform.mmio_write(at, width, value);
            drop(platform);
            match self.finish_access(outcome) {
                Served::Done => {}
                other => return other,
            }
        }
        Served::Done
    }
}
