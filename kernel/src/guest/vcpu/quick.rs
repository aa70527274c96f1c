//! The exits that are frequent and simple, in few instructions.
//!
//! A function here serves an exit if it can: then the instruction is done, and nothing more is due.
//! Otherwise it says `false`, nothing has changed, and `Vcpu::serve` looks at the exit from the start. All
//! of them are inlined into the handler and call nothing, so that it has few registers to save.

use super::super::cpuid::Answers;
use super::{NO_SUCH_CALL, Vcpu};
use crate::arch::apic as hardware;
use crate::arch::apic::send_fixed;
use crate::arch::switch::{Registers, reg};
use crate::device::platform::Platform;
use crate::vmx::exit::{ExitReason, IoInstruction};
use crate::vmx::vmcs::InfoField;

// Exit-reason fields of these exits: with any flag set, an exit is no quick one.
pub(super) const CPUID: u32 = ExitReason::Cpuid.number() as u32;
pub(super) const RDMSR: u32 = ExitReason::Rdmsr.number() as u32;
pub(super) const WRMSR: u32 = ExitReason::Wrmsr.number() as u32;
pub(super) const VMCALL: u32 = ExitReason::Vmcall.number() as u32;
pub(super) const IO: u32 = ExitReason::IoInstruction.number() as u32;

impl Vcpu {
    /// A leaf with one answer.
    #[inline(always)]
    pub(super) fn quick_cpuid(&mut self, registers: &mut Registers) -> bool {
        let leaf = registers.0[reg::RAX] as u32;
        let Some(answer) = self.answers.get(leaf) else { return false };
        registers.0[reg::RAX] = answer.eax.into();
        registers.0[reg::RBX] = answer.ebx.into();
        registers.0[reg::RCX] = answer.ecx.into();
        registers.0[reg::RDX] = answer.edx.into();
        if leaf == Answers::SHOWS_OSXSAVE && self.osxsave() {
            registers.0[reg::RCX] |= u64::from(self.answers.osxsave());
        }
        true
    }

    /// There are no hypercalls.
    #[inline(always)]
    pub(super) fn quick_vmcall(&mut self, registers: &mut Registers) -> bool {
        // But for those of a test build.
        if cfg!(feature = "testing") {
            return false;
        }
        registers.0[reg::RAX] = NO_SUCH_CALL;
        true
    }

    /// The local APIC's base, and its ID in x2APIC mode.
    #[inline(always)]
    pub(super) fn quick_rdmsr(&mut self, registers: &mut Registers) -> bool {
        let Some(value) = self.apic.read_quick(registers.0[reg::RCX] as u32) else { return false };
        registers.0[reg::RAX] = value.into();
        registers.0[reg::RDX] = 0;
        true
    }

    /// An interrupt to one processor, or an entry of the local vector table that the hardware may have.
    #[inline(always)]
    pub(super) fn quick_wrmsr(&mut self, registers: &Registers) -> bool {
        let msr = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        if let Some(plain) = self.apic.write_plain(msr, value, &self.shared.identities) {
            if let Some(core) = self.shared.reached(plain.id) {
                send_fixed(core, plain.vector);
            }
            return true;
        }
        let Some(value) = self.apic.lvt_passed(msr, value) else { return false };
        // SAFETY: the value is valid for the register, whose interrupts are the guest's own core's.
        unsafe { hardware::write(msr, value) };
        true
    }

    /// A byte of the port that drivers look at most, or of one where nothing is: old PCs wait by it.
    #[inline(always)]
    pub(super) fn quick_io(&mut self, registers: &mut Registers) -> bool {
        let Some((port, read)) = IoInstruction::byte(self.vmcs.info(InfoField::QUALIFICATION))
        else {
            return false;
        };
        let is_quick = if read { Platform::reads_quickly(port) } else { Platform::is_absent(port) };
        if !is_quick {
            return false;
        }
        // Where another core has the devices, the long way waits.
        let Some(mut platform) = self.shared.try_platform() else { return false };
        let Some(value) = platform.quick_access(port) else { return false };
        if !read {
            return true;
        }
        let rax = &mut registers.0[reg::RAX];
        *rax = *rax & !u64::from(u8::MAX) | u64::from(value);
        true
    }
}
