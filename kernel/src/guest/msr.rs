//! Which MSRs a guest has. Everything that is not named here is #GP.

use super::apic::{self, Command, Delivery, LvtWrite, Shadow};
use super::control_registers::GeneralProtection;
use crate::arch::apic::{BASE_BSP, BASE_ENABLE, BASE_X2APIC, register};
use crate::arch::msr::Msr;
use crate::vmx::bitmap::{MsrBitmap, NotCovered};

/// Which accesses go to the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Read,
    Write,
    Both,
}
use Pass::{Both, Read, Write};

/// The registers that guests use without exits, with the reason why each is safe.
const PASSED: &[(u32, Pass, &str)] = &[
    (0x10, Read, "the TSC, with the guest's offset"),
    (Msr::SYSENTER_CS.number(), Both, "switched by the VMCS"),
    (Msr::SYSENTER_ESP.number(), Both, "switched by the VMCS"),
    (Msr::SYSENTER_EIP.number(), Both, "switched by the VMCS"),
    (Msr::PAT.number(), Both, "switched by the VMCS"),
    (Msr::EFER.number(), Both, "switched by the VMCS"),
    (Msr::FS_BASE.number(), Both, "switched by the VMCS"),
    (Msr::GS_BASE.number(), Both, "switched by the VMCS"),
    (Msr::STAR.number(), Both, "unused in root mode"),
    (Msr::LSTAR.number(), Both, "unused in root mode"),
    (Msr::CSTAR.number(), Both, "unused in root mode"),
    (Msr::FMASK.number(), Both, "unused in root mode"),
    (Msr::KERNEL_GS_BASE.number(), Both, "unused in root mode"),
    (Msr::TSC_AUX.number(), Both, "unused in root mode"),
    (register::VERSION, Read, "constant"),
    (register::TPR, Both, "this core's interrupts are the guest's"),
    (register::PPR, Read, "this core's interrupts are the guest's"),
    (register::EOI, Write, "this core's interrupts are the guest's"),
    (register::SVR, Both, "an APIC that is off concerns its own guest alone"),
    (register::ESR, Both, "this core's errors are the guest's"),
    (register::LVT_TIMER, Read, "holds what a checked write put there"),
    (register::LVT_ERROR, Read, "holds what a checked write put there"),
    (register::TIMER_INITIAL, Both, "the guest's timer"),
    (register::TIMER_CURRENT, Read, "the guest's timer"),
    (register::TIMER_DIVIDE, Both, "the guest's timer"),
    (register::SELF_IPI, Write, "reaches this core alone"),
];

/// Registers that come in groups of eight, a bit for each vector.
const PASSED_VECTORS: [u32; 3] = [register::ISR, register::TMR, register::IRR];
/// How many there are in a group.
const VECTOR_WORDS: u32 = 8;

/// Sets the bitmap up from the list.
pub fn allow(bitmap: &mut MsrBitmap) -> Result<(), NotCovered> {
    bitmap.deny_all();
    for &(msr, pass, _why) in PASSED {
        if pass != Write {
            bitmap.allow_read(msr)?;
        }
        if pass != Read {
            bitmap.allow_write(msr)?;
        }
    }
    for group in PASSED_VECTORS {
        for word in 0..VECTOR_WORDS {
            bitmap.allow_read(group + word)?;
        }
    }
    Ok(())
}

/// Base, mode and BSP bits of the local APIC.
const APIC_BASE: u32 = Msr::APIC_BASE.number();
/// The time-stamp counter.
const TSC: u32 = 0x10;
/// Platform ID: for microcode updates.
const PLATFORM_ID: u32 = 0x17;
/// Microcode revision; Linux writes 0 before it reads.
const MICROCODE_REVISION: u32 = 0x8B;
/// Miscellaneous features.
const MISC_ENABLE: u32 = 0x1A0;
/// Debug control: last-branch records and the like, which guests are not given.
const DEBUG_CONTROL: u32 = 0x1D9;
/// Fast strings on; branch-trace store and PEBS unavailable (SDM Vol. 4, table 2-2).
const MISC_ENABLE_VALUE: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// Physical address of the xAPIC page, which is not used in x2APIC mode.
const APIC_PAGE: u64 = 0xFEE0_0000;

/// The processor that accesses an MSR.
pub struct Accessor<'a> {
    /// Its virtual APIC ID.
    pub id: u32,
    /// Processors of the guest.
    pub processors: u32,
    /// What it has written to its APIC.
    pub apic: &'a mut Shadow,
}

/// What a trapped write asks the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more.
    None,
    /// Write this x2APIC register of the hardware.
    Apic(u32, u64),
    /// Send this.
    Interrupt(Command),
    /// Make the guest's TSC show this.
    Tsc(u64),
}

impl Accessor<'_> {
    /// A trapped RDMSR.
    pub fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        if let Some(kept) = self.apic.kept(msr) {
            return Ok(*kept);
        }
        match msr {
            APIC_BASE => Ok(self.apic_base()),
            register::ID => Ok(self.id.into()),
            register::LDR => Ok(apic::logical_id(self.id).into()),
            register::ICR => Ok(self.apic.icr),
            PLATFORM_ID | MICROCODE_REVISION | DEBUG_CONTROL => Ok(0),
            MISC_ENABLE => Ok(MISC_ENABLE_VALUE),
            _ => Err(GeneralProtection),
        }
    }

    /// A trapped WRMSR.
    pub fn write(&mut self, msr: u32, value: u64) -> Result<Effect, GeneralProtection> {
        match msr {
            TSC => Ok(Effect::Tsc(value)),
            // Leaving x2APIC mode is not offered.
            APIC_BASE if value == self.apic_base() => Ok(Effect::None),
            MICROCODE_REVISION | DEBUG_CONTROL if value == 0 => Ok(Effect::None),
            MISC_ENABLE if value == MISC_ENABLE_VALUE => Ok(Effect::None),
            register::ICR => {
                let command = Command::decode(value, self.id, self.processors);
                if command.delivery == Delivery::Refused {
                    return Err(GeneralProtection);
                }
                self.apic.icr = value;
                Ok(Effect::Interrupt(command))
            }
            register::LVT_CMCI | register::LVT_TIMER..=register::LVT_ERROR => {
                match apic::lvt_write(msr, value) {
                    LvtWrite::Fault => Err(GeneralProtection),
                    LvtWrite::Pass(value) => Ok(Effect::Apic(msr, value)),
                    LvtWrite::Keep(value) => {
                        if let Some(kept) = self.apic.kept(msr) {
                            *kept = value;
                        }
                        Ok(Effect::None)
                    }
                }
            }
            _ => Err(GeneralProtection),
        }
    }

    fn apic_base(&self) -> u64 {
        let boot = if self.id == 0 { BASE_BSP } else { 0 };
        APIC_PAGE | BASE_ENABLE | BASE_X2APIC | boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_names_a_physical_core_is_passed() {
        for trapped in [register::ID, register::LDR, register::ICR] {
            assert!(PASSED.iter().all(|&(msr, ..)| msr != trapped));
        }
        for lvt in [register::LVT_CMCI, register::LVT_LINT0, register::LVT_LINT1] {
            assert!(PASSED.iter().all(|&(msr, ..)| msr != lvt));
        }
        for &(msr, pass, why) in PASSED {
            let lvt = (register::LVT_TIMER..=register::LVT_ERROR).contains(&msr);
            assert!(!lvt || pass == Read, "{why}");
        }
    }

    #[test]
    fn an_unknown_register_is_a_fault() {
        let mut shadow = Shadow::new();
        let mut accessor = Accessor { id: 0, processors: 1, apic: &mut shadow };
        // Feature control, SMM base, SMI count, VMX capabilities, machine checks, MTRRs, TSC
        // deadline, RTIT, an AMD one, a hole.
        for msr in [0x3A, 0x9E, 0x34, 0x480, 0x400, 0x2FF, 0x6E0, 0x570, 0xC001_0015, 0x4000_0000] {
            assert_eq!(accessor.read(msr), Err(GeneralProtection), "{msr:#x}");
            assert_eq!(accessor.write(msr, 0), Err(GeneralProtection), "{msr:#x}");
        }
        assert_eq!(accessor.read(register::EOI), Err(GeneralProtection), "write only");
        assert_eq!(accessor.write(register::ID, 0), Err(GeneralProtection), "read only");
    }

    #[test]
    fn ids_are_virtual() {
        let mut shadow = Shadow::new();
        let mut second = Accessor { id: 1, processors: 2, apic: &mut shadow };
        assert_eq!(second.read(register::ID), Ok(1));
        assert_eq!(second.read(register::LDR), Ok(2));
        let base = second.read(APIC_BASE).unwrap();
        assert_eq!(base & BASE_BSP, 0);
        assert_eq!(second.write(APIC_BASE, base), Ok(Effect::None));
        assert_eq!(second.write(APIC_BASE, base & !BASE_X2APIC), Err(GeneralProtection));
    }

    #[test]
    fn kept_entries_read_back_and_do_nothing() {
        let mut shadow = Shadow::new();
        let mut accessor = Accessor { id: 0, processors: 1, apic: &mut shadow };
        assert_eq!(accessor.write(register::LVT_LINT1, 0x400), Ok(Effect::None));
        assert_eq!(accessor.read(register::LVT_LINT1), Ok(0x400));
        assert_eq!(
            accessor.write(register::LVT_TIMER, 0xEC),
            Ok(Effect::Apic(register::LVT_TIMER, 0xEC))
        );
        let sent = Command::decode(0x4_0030, 0, 1);
        assert_eq!(accessor.write(register::ICR, 0x4_0030), Ok(Effect::Interrupt(sent)));
        assert_eq!(accessor.write(register::ICR, 0x200), Err(GeneralProtection), "SMI");
        assert_eq!(accessor.read(register::ICR), Ok(0x4_0030), "what faulted was not kept");
    }
}
