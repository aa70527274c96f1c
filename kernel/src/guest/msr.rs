//! Which MSRs a guest has. Everything that is not named here is #GP.

use super::apic::{self, Identities, LocalApic};
use super::control_registers::GeneralProtection;
use super::tsc::Tsc;
use crate::arch::apic::register;
use crate::arch::cpu;
use crate::arch::msr::Msr;
use crate::vmx::bitmap::{MsrBitmap, MsrBitmapFrame, NotCovered};

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
    (Msr::TSC.number(), Read, "the TSC, with the guest's offset"),
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
];

/// The same for a guest whose APIC is in x2APIC mode. In the other modes these are #GP.
const PASSED_X2APIC: &[(u32, Pass, &str)] = &[
    (register::VERSION, Read, "constant"),
    (register::TPR, Both, "this core's interrupts are the guest's"),
    (register::PPR, Read, "this core's interrupts are the guest's"),
    (register::EOI, Write, "this core's interrupts are the guest's"),
    (register::SVR, Both, "an APIC that is off concerns its own guest alone"),
    (register::ESR, Both, "this core's errors are the guest's"),
    // Linux stops and starts its timer whenever nothing is due. TSC-deadline mode can be set here, and
    // does nothing without its MSR.
    (register::LVT_TIMER, Both, "a vector for this core: it has no delivery mode"),
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

/// The MSRs of the x2APIC, which there are in that mode alone (SDM Vol. 3A, 11.12.2).
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8FF;

/// In which bitmap a processor's accesses are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its APIC is in x2APIC mode: that has its registers passed.
    pub x2apic: bool,
    /// Its `IA32_TSC_ADJUST` is the hardware's: reading is passed.
    pub tsc_adjust: bool,
}

/// The MSR bitmaps of a guest, one for each [`Choice`]. All its processors share them.
#[derive(Clone, Copy, Debug)]
pub struct Bitmaps([[MsrBitmapFrame; 2]; 2]);

impl Bitmaps {
    /// Makes them all: `make` gives the frame of a bitmap that it has set up.
    pub fn new<E>(mut make: impl FnMut(Choice) -> Result<MsrBitmapFrame, E>) -> Result<Self, E> {
        let mut of = |x2apic, tsc_adjust| make(Choice { x2apic, tsc_adjust });
        Ok(Self([[of(false, false)?, of(false, true)?], [of(true, false)?, of(true, true)?]]))
    }

    /// The bitmap for a choice.
    pub const fn choose(&self, choice: Choice) -> MsrBitmapFrame {
        let [xapic, x2apic] = self.0;
        let [others, with_tsc_adjust] = if choice.x2apic { x2apic } else { xapic };
        if choice.tsc_adjust { with_tsc_adjust } else { others }
    }
}

/// Sets a bitmap up from the lists.
pub fn allow(bitmap: &mut MsrBitmap, choice: Choice) -> Result<(), NotCovered> {
    bitmap.deny_all();
    allow_listed(bitmap, PASSED)?;
    if choice.tsc_adjust {
        bitmap.allow_read(TSC_ADJUST)?;
    }
    if !choice.x2apic {
        return Ok(());
    }
    allow_listed(bitmap, PASSED_X2APIC)?;
    for group in PASSED_VECTORS {
        for word in 0..VECTOR_WORDS {
            bitmap.allow_read(group.saturating_add(word))?;
        }
    }
    Ok(())
}

fn allow_listed(bitmap: &mut MsrBitmap, list: &[(u32, Pass, &str)]) -> Result<(), NotCovered> {
    for &(msr, pass, _why) in list {
        if pass != Write {
            bitmap.allow_read(msr)?;
        }
        if pass != Read {
            bitmap.allow_write(msr)?;
        }
    }
    Ok(())
}

/// Base, mode and BSP bits of the local APIC.
const APIC_BASE: u32 = Msr::APIC_BASE.number();
/// The time-stamp counter, and what was added to it.
const TSC: u32 = Msr::TSC.number();
const TSC_ADJUST: u32 = Msr::TSC_ADJUST.number();
/// Platform ID: for microcode updates.
const PLATFORM_ID: u32 = 0x17;
/// Microcode revision; Linux writes 0 before it reads.
const MICROCODE_REVISION: u32 = 0x8B;
/// Miscellaneous features.
const MISC_ENABLE: u32 = Msr::MISC_ENABLE.number();
/// Debug control: last-branch records and the like, which guests are not given.
const DEBUG_CONTROL: u32 = 0x1D9;
/// Branch-trace store and PEBS are unavailable (SDM Vol. 4, table 2-2).
const MISC_ENABLE_FIXED: u64 = 1 << 11 | 1 << 12;
/// Fast strings: as the machine has them, so that a guest chooses what is quick there.
const FAST_STRINGS: u64 = 1 << 0;

/// `IA32_MISC_ENABLE` as guests of this machine see it.
pub fn misc_enable() -> u64 {
    Msr::MISC_ENABLE.read() & FAST_STRINGS | MISC_ENABLE_FIXED
}

/// `IA32_TSC_ADJUST` of the core that asks, where it has that register (SDM Vol. 3B, 18.17.3).
pub fn tsc_adjust() -> Option<u64> {
    /// CPUID.7.0:EBX.TSC_ADJUST.
    const PRESENT: u32 = 1 << 1;
    let has = cpu::cpuid(0, 0).eax >= 7 && cpu::cpuid(7, 0).ebx & PRESENT != 0;
    has.then(|| Msr::TSC_ADJUST.read())
}

/// The processor that accesses an MSR.
pub struct Accessor<'a> {
    /// Its local APIC.
    pub apic: &'a mut LocalApic,
    /// Whom its interrupts can reach.
    pub identities: &'a Identities,
    /// Its time-stamp counter.
    pub tsc: Tsc,
    /// Its `IA32_MISC_ENABLE`: [`misc_enable`].
    pub misc_enable: u64,
}

/// What a trapped write asks the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing more.
    None,
    /// What the local APIC says.
    Apic(apic::Effect),
    /// Make the guest's TSC show this.
    Tsc(u64),
    /// Make its `IA32_TSC_ADJUST` this.
    TscAdjust(u64),
}

impl Accessor<'_> {
    /// A trapped RDMSR.
    pub fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            APIC_BASE => Ok(self.apic.base()),
            X2APIC_FIRST..=X2APIC_LAST => self.apic.read_x2apic(msr),
            TSC_ADJUST => self.tsc.adjust().ok_or(GeneralProtection),
            PLATFORM_ID | MICROCODE_REVISION | DEBUG_CONTROL => Ok(0),
            MISC_ENABLE => Ok(self.misc_enable),
            _ => Err(GeneralProtection),
        }
    }

    /// A trapped WRMSR.
    #[inline(always)]
    pub fn write(&mut self, msr: u32, value: u64) -> Result<Effect, GeneralProtection> {
        match msr {
            X2APIC_FIRST..=X2APIC_LAST => {
                self.apic.write_x2apic(msr, value, self.identities).map(Effect::Apic)
            }
            TSC => Ok(Effect::Tsc(value)),
            TSC_ADJUST if self.tsc.adjust().is_some() => Ok(Effect::TscAdjust(value)),
            APIC_BASE => self.apic.write_base(value, self.identities).map(Effect::Apic),
            MICROCODE_REVISION | DEBUG_CONTROL if value == 0 => Ok(Effect::None),
            MISC_ENABLE if value == self.misc_enable => Ok(Effect::None),
            _ => Err(GeneralProtection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::apic::Mode;
    use super::*;
    use crate::arch::apic::BASE_X2APIC;

    fn listed() -> impl Iterator<Item = &'static (u32, Pass, &'static str)> {
        PASSED.iter().chain(PASSED_X2APIC)
    }

    #[test]
    fn nothing_that_names_a_physical_core_is_passed() {
        for trapped in [register::ID, register::LDR, register::ICR] {
            assert!(listed().all(|&(msr, ..)| msr != trapped));
        }
        for lvt in [register::LVT_CMCI, register::LVT_LINT0, register::LVT_LINT1] {
            assert!(listed().all(|&(msr, ..)| msr != lvt));
        }
        for &(msr, pass, why) in listed() {
            // All but the timer's can name what a guest may not have delivered, or are next to one.
            let lvt = (register::LVT_THERMAL..=register::LVT_ERROR).contains(&msr);
            assert!(!lvt || pass == Read, "{why}");
        }
    }

    #[test]
    fn the_x2apics_registers_are_in_their_list_alone() {
        let of_x2apic = |msr: &u32| (X2APIC_FIRST..=X2APIC_LAST).contains(msr);
        assert!(PASSED.iter().all(|(msr, ..)| !of_x2apic(msr)));
        assert!(PASSED_X2APIC.iter().all(|(msr, ..)| of_x2apic(msr)));
    }

    #[test]
    fn an_unknown_register_is_a_fault() {
        let (mut apic, identities) = (LocalApic::new(0), Identities::new(1));
        let base = apic.base() | BASE_X2APIC;
        let mut accessor = Accessor {
            apic: &mut apic,
            identities: &identities,
            tsc: Tsc::new(None),
            misc_enable: 0x1801,
        };
        // In xAPIC mode, then in x2APIC mode.
        for _ in 0..2 {
            // Feature control, SMM base, SMI count, VMX capabilities, machine checks, MTRRs, TSC
            // deadline, RTIT, an AMD one, a hole.
            for msr in
                [0x3A, 0x9E, 0x34, 0x480, 0x400, 0x2FF, 0x6E0, 0x570, 0xC001_0015, 0x4000_0000]
            {
                assert_eq!(accessor.read(msr), Err(GeneralProtection), "{msr:#x}");
                assert_eq!(accessor.write(msr, 0), Err(GeneralProtection), "{msr:#x}");
            }
            assert_eq!(accessor.read(register::EOI), Err(GeneralProtection), "write only");
            assert_eq!(accessor.write(register::ID, 0), Err(GeneralProtection), "read only");
            assert!(accessor.write(APIC_BASE, base).is_ok());
        }
    }

    #[test]
    fn the_x2apics_registers_are_faults_until_it_is_on() {
        let (mut apic, identities) = (LocalApic::new(0), Identities::new(1));
        let base = apic.base() | BASE_X2APIC;
        let mut accessor = Accessor {
            apic: &mut apic,
            identities: &identities,
            tsc: Tsc::new(None),
            misc_enable: 0x1801,
        };
        for msr in X2APIC_FIRST..=X2APIC_LAST {
            assert_eq!(accessor.read(msr), Err(GeneralProtection), "{msr:#x}");
            assert_eq!(accessor.write(msr, 0), Err(GeneralProtection), "{msr:#x}");
        }
        let entered = Effect::Apic(apic::Effect::Mode(Mode::X2Apic));
        assert_eq!(accessor.write(APIC_BASE, base), Ok(entered));
        assert_eq!(accessor.read(APIC_BASE), Ok(base));
        assert_eq!(accessor.read(register::ID), Ok(0));
    }
}
