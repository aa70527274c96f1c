//! Instructions that are about the processor itself: CPUID, MSRs, control registers.

use super::super::apic::{Command, Delivery, Mode as ApicMode};
use super::super::control_registers::{self, GeneralProtection, Mode};
use super::super::cpuid::{self, Answers, GuestCpu};
use super::super::msr::{Accessor, Choice, Effect};
use super::super::report;
use super::super::stop::Stop;
use super::{Due, Served, Vcpu};
use crate::arch::cpu::{self, cr0, cr4, rdtsc};
use crate::arch::switch::{Registers, reg};
use crate::arch::{apic as hardware_apic, vector, vmx};
use crate::memory::{GuestMemory, GuestPhysical};
use crate::vmx::exit::{ControlRegisterAccess, ControlRegisterOperation};
use crate::vmx::vmcs::{GuestField, InfoField};
use core::sync::atomic::Ordering;

/// Type of a system segment in its access rights, and a busy 16-bit TSS's (SDM Vol. 3A, table 3-2).
const TSS_TYPE: u64 = 0xF;
const BUSY_TSS_16: u64 = 3;

impl Vcpu {
    /// CPUID of a leaf that has more than one answer.
    pub(super) fn cpuid(&mut self, registers: &mut Registers) -> Served {
        let (leaf, subleaf) = (registers.0[reg::RAX] as u32, registers.0[reg::RCX] as u32);
        let guest = GuestCpu { osxsave: self.osxsave(), xcr0: self.xcr0, ..self.as_seen() };
        let result = cpuid::filter(leaf, subleaf, cpu::cpuid, &guest);
        registers.0[reg::RAX] = result.eax.into();
        registers.0[reg::RBX] = result.ebx.into();
        registers.0[reg::RCX] = result.ecx.into();
        registers.0[reg::RDX] = result.edx.into();
        Served::Done
    }

    /// The guest's CR4.OSXSAVE, which it changes without an exit.
    #[inline(always)]
    pub(super) fn osxsave(&self) -> bool {
        self.vmcs.read(GuestField::CR4) & cr4::OSXSAVE != 0
    }

    /// What CPUID says of this processor, but for what the guest changes without the hypervisor.
    fn as_seen(&self) -> GuestCpu {
        GuestCpu {
            apic_id: self.id,
            processors: self.shared.count(),
            tsc_hz: self.clock.rates.tsc_hz,
            apic_timer_hz: self.clock.rates.apic_timer_hz,
            apic: self.apic.mode() != ApicMode::Disabled,
            osxsave: false,
            xcr0: vector::XCR0_X87,
            rdtscp: self.rdtscp,
            invpcid: self.invpcid,
        }
    }

    /// Makes CPUID's answers anew.
    pub(super) fn prepare_cpuid(&mut self) {
        self.answers = Answers::new(cpu::cpuid, &self.as_seen());
    }

    pub(super) fn rdmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        match self.accessor().read(msr) {
            Ok(value) => {
                registers.0[reg::RAX] = value & u64::from(u32::MAX);
                registers.0[reg::RDX] = value >> 32;
                Served::Done
            }
            Err(fault) => self.deny(fault),
        }
    }

    /// Counts an access to an MSR that is denied.
    #[cold]
    fn deny(&self, fault: GeneralProtection) -> Served {
        // There is one writer.
        let count = self.slot.denied.load(Ordering::Relaxed);
        self.slot.denied.store(count.wrapping_add(1), Ordering::Relaxed);
        fault.into()
    }

    pub(super) fn wrmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        match self.accessor().write(msr, value) {
            Ok(Effect::None) => Served::Done,
            Ok(Effect::Apic(effect)) => self.apic_effect(effect),
            Ok(Effect::Tsc(value)) => {
                self.tsc.set(value, rdtsc());
                self.move_tsc()
            }
            Ok(Effect::TscAdjust(value)) => {
                self.tsc.set_adjust(value);
                self.move_tsc()
            }
            Err(fault) => self.deny(fault),
        }
    }

    fn move_tsc(&mut self) -> Served {
        self.vmcs.write(GuestField::TSC_OFFSET, self.tsc.offset());
        self.choose_msr_bitmap();
        Served::Done
    }

    /// Puts the MSR bitmap in force that goes with the APIC's mode and the TSC's adjustment.
    pub(super) fn choose_msr_bitmap(&mut self) {
        let x2apic = self.apic.mode() == ApicMode::X2Apic;
        let tsc_adjust = self.tsc.reads_as_hardware();
        self.vmcs.set_msr_bitmap(self.bitmaps.choose(Choice { x2apic, tsc_adjust }));
    }

    fn accessor(&mut self) -> Accessor<'_> {
        Accessor {
            apic: &mut self.apic,
            identities: &self.shared.identities,
            tsc: self.tsc,
            misc_enable: self.misc_enable,
        }
    }

    /// An IPI: to the physical cores behind the virtual IDs, one by one.
    pub(super) fn interrupt_command(&mut self, command: &Command) -> Served {
        if let Delivery::Fixed(vector) = command.delivery {
            for id in command.targets.iter() {
                self.shared.interrupt(id, vector);
            }
            return Served::Done;
        }
        self.rare_command(command)
    }

    /// What is not an interrupt with a vector.
    #[cold]
    fn rare_command(&mut self, command: &Command) -> Served {
        if let Delivery::IllegalVector(vector) = command.delivery {
            // SAFETY: what the guest could write itself in x2APIC mode. The hardware notes the error
            // in this core's ESR, and delivers nothing.
            unsafe { hardware_apic::write(hardware_apic::register::SELF_IPI, vector.into()) };
            return Served::Done;
        }
        for id in command.targets.iter() {
            let Some(slot) = self.shared.processors.get(id as usize) else { continue };
            match command.delivery {
                Delivery::Nmi => slot.post_nmi(),
                // INIT takes the boot processor to the reset vector (SDM Vol. 3A, 9.4.4), and so to
                // the firmware: the guest starts again.
                Delivery::Init if id == 0 => return self.stop(Stop::Reset),
                Delivery::Init => slot.activity.init(),
                Delivery::Startup(page) if slot.activity.startup(page) => {}
                _ => continue,
            }
            if id == self.id {
                self.due |= Due::ATTEND;
            } else {
                slot.kick();
            }
        }
        Served::Done
    }

    #[inline(never)]
    pub(super) fn control_register(&mut self, registers: &Registers) -> Served {
        let access = ControlRegisterAccess::decode(self.vmcs.info(InfoField::QUALIFICATION));
        let (0, ControlRegisterOperation::MoveTo { from }) = (access.register, access.operation)
        else {
            // Of CR4, only bits that no guest may set are trapped; CR3 and CR8 are not.
            return GeneralProtection.into();
        };
        let value = match usize::from(from) {
            reg::RSP => self.vmcs.read(GuestField::RSP),
            // Four bits wide: there is one for each number.
            index => registers.0.get(index).copied().unwrap_or(0),
        };
        let owned = control_registers::CR0_OWNED;
        let mode = Mode {
            cr0: self.vmcs.read(GuestField::CR0) & !owned
                | self.vmcs.read(GuestField::CR0_SHADOW) & owned,
            cr4: self.vmcs.read(GuestField::CR4),
            efer: self.vmcs.read(GuestField::EFER),
            // The bit itself: before long mode is on, no code counts as 64-bit code.
            cs_long: self.vmcs.read(GuestField::CS_ACCESS_RIGHTS) & report::RIGHTS_L != 0,
            tss_16_bit: self.vmcs.read(GuestField::TR_ACCESS_RIGHTS) & TSS_TYPE == BUSY_TSS_16,
        };
        match control_registers::write_cr0(value, &mode) {
            Ok(write) => {
                let pae_paging = write.cr0 & cr0::PG != 0
                    && mode.cr4 & cr4::PAE != 0
                    && write.efer & cpu::efer::LMA == 0;
                if pae_paging && self.load_pdptes().is_err() {
                    return GeneralProtection.into();
                }
                if (write.cr0 ^ mode.cr0) & (cr0::PE | cr0::PG | cr0::WP) != 0 {
                    // SAFETY: the core is in VMX operation, and the type was checked for.
                    unsafe { vmx::invvpid_all() };
                }
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

    /// Does what MOV to CR0 does when it turns PAE paging on (SDM Vol. 3A, 4.4.1).
    fn load_pdptes(&mut self) -> Result<(), GeneralProtection> {
        const TABLE: u64 = 0xFFFF_FFE0;
        const PRESENT: u64 = 1 << 0;
        /// Bits 2:1 and 8:5, besides those beyond the address width.
        const RESERVED: u64 = 0b11 << 1 | 0xF << 5;
        let beyond = u64::MAX.checked_shl(cpu::physical_bits()).unwrap_or(0);
        let fields =
            [GuestField::PDPTE0, GuestField::PDPTE1, GuestField::PDPTE2, GuestField::PDPTE3];
        let table = self.vmcs.read(GuestField::CR3) & TABLE;
        let mut entries = [0; 4];
        for (at, entry) in (table..).step_by(size_of::<u64>()).zip(&mut entries) {
            *entry = self.ram.read_u64(GuestPhysical::new(at)).map_err(|_| GeneralProtection)?;
            if *entry & PRESENT != 0 && *entry & (RESERVED | beyond) != 0 {
                return Err(GeneralProtection);
            }
        }
        // Not before all four are known to be good.
        for (field, entry) in fields.into_iter().zip(entries) {
            self.vmcs.write(field, entry);
        }
        Ok(())
    }

    #[inline(never)]
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
