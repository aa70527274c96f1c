//! Instructions that are about the processor itself: CPUID, MSRs, control registers.

use super::super::apic::{Command, Delivery};
use super::super::control_registers::{self, GeneralProtection, Mode};
use super::super::cpuid::{self, GuestCpu};
use super::super::mmio;
use super::super::msr::{Accessor, Effect};
use super::super::report;
use super::{Served, Vcpu};
use crate::arch::apic::send_fixed;
use crate::arch::cpu::{self, cr4, rdtsc};
use crate::arch::switch::{Registers, reg};
use crate::arch::{apic as hardware_apic, vector};
use crate::vmx::exit::{ControlRegisterAccess, ControlRegisterOperation};
use crate::vmx::vmcs::{GuestField, InfoField};

/// Type of a system segment in its access rights, and a busy 16-bit TSS's (SDM Vol. 3A, table 3-2).
const TSS_TYPE: u64 = 0xF;
const BUSY_TSS_16: u64 = 3;

impl Vcpu {
    pub(super) fn cpuid(&mut self, registers: &mut Registers) -> Served {
        let cr4 = self.vmcs.read(GuestField::CR4);
        let guest = GuestCpu {
            apic_id: self.id,
            processors: self.shared.processors(),
            tsc_hz: self.clock.rates.tsc_hz,
            apic_timer_hz: self.clock.rates.apic_timer_hz,
            osxsave: cr4 & cr4::OSXSAVE != 0,
            xcr0: self.xcr0,
            rdtscp: self.rdtscp,
            invpcid: self.invpcid,
        };
        let (leaf, subleaf) = (registers.0[reg::RAX] as u32, registers.0[reg::RCX] as u32);
        let result = cpuid::filter(leaf, subleaf, cpu::cpuid, &guest);
        registers.0[reg::RAX] = result.eax.into();
        registers.0[reg::RBX] = result.ebx.into();
        registers.0[reg::RCX] = result.ecx.into();
        registers.0[reg::RDX] = result.edx.into();
        Served::Done
    }

    pub(super) fn rdmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        match (Accessor { id: self.id, apic: &mut self.apic }).read(msr) {
            Ok(value) => {
                registers.0[reg::RAX] = value & u64::from(u32::MAX);
                registers.0[reg::RDX] = value >> 32;
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    pub(super) fn wrmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        match (Accessor { id: self.id, apic: &mut self.apic }).write(msr, value) {
            Ok(Effect::None) => Served::Done,
            Ok(Effect::Interrupt(icr)) => self.interrupt_command(icr),
            Ok(Effect::Apic(register, value)) => {
                // SAFETY: the value was judged by `apic::lvt_write`: a plain vector of the guest's
                // for its own core.
                unsafe { hardware_apic::write(register, value) };
                Served::Done
            }
            Ok(Effect::Tsc(value)) => {
                let offset = value.wrapping_sub(rdtsc());
                self.vmcs.write(GuestField::TSC_OFFSET, offset);
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    /// An IPI: to the physical cores behind the virtual IDs, one by one.
    pub(super) fn interrupt_command(&mut self, icr: u64) -> Served {
        let command = Command::decode(icr, self.id, self.shared.processors());
        if command.delivery == Delivery::Refused {
            return GeneralProtection.into();
        }
        for id in command.targets.iter() {
            let Some(&core) = self.shared.cores.get(id as usize) else { continue };
            match command.delivery {
                Delivery::Fixed(vector) => send_fixed(core, vector),
                // A real one would arrive here, in root mode: it is injected instead.
                Delivery::Nmi => self.nmi_pending = true,
                // A guest has one processor, which runs already: there is nobody to start, and
                // INIT to oneself is not sent by any system.
                Delivery::Init | Delivery::Startup(_) | Delivery::Nothing | Delivery::Refused => {}
            }
        }
        Served::Done
    }

    pub(super) fn control_register(&mut self, registers: &Registers) -> Served {
        let access = ControlRegisterAccess::decode(self.vmcs.info(InfoField::QUALIFICATION));
        let (0, ControlRegisterOperation::MoveTo { from }) = (access.register, access.operation)
        else {
            // Of CR4, only bits that no guest may set are trapped; CR3 and CR8 are not.
            return GeneralProtection.into();
        };
        let value = match usize::from(from) {
            reg::RSP => self.vmcs.read(GuestField::RSP),
            index => registers.0[index % registers.0.len()],
        };
        let owned = control_registers::CR0_OWNED;
        let mode = Mode {
            cr0: self.vmcs.read(GuestField::CR0) & !owned
                | self.vmcs.read(GuestField::CR0_SHADOW) & owned,
            cr4: self.vmcs.read(GuestField::CR4),
            efer: self.vmcs.read(GuestField::EFER),
            cs_long: report::code_size(&self.vmcs) == mmio::CodeSize::Bits64,
            tss_16_bit: self.vmcs.read(GuestField::TR_ACCESS_RIGHTS) & TSS_TYPE == BUSY_TSS_16,
        };
        match control_registers::write_cr0(value, &mode) {
            Ok(write) => {
                self.vmcs.write(GuestField::CR0, write.cr0);
                self.vmcs.write(GuestField::CR0_SHADOW, write.shadow);
                if write.efer != mode.efer {
                    self.vmcs.write(GuestField::EFER, write.efer);
                    self.vmcs.set_guest_ia32e(write.efer & cpu::efer::LMA != 0);
                }
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    pub(super) fn xsetbv(&mut self, registers: &Registers) -> Served {
        let index = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        if index != 0 || !cpuid::valid_xcr0(value, self.permitted_xcr0) {
            return GeneralProtection.into();
        }
        // SAFETY: the value was checked against what the processor supports, and root mode has
        // CR4.OSXSAVE set.
        unsafe { vector::write_xcr0(value) };
        self.xcr0 = value;
        Served::Done
    }
}
