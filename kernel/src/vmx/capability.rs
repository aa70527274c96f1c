//! What a processor must be able to do, checked on every core before VMXON.
//!
//! One table: each feature, what it is needed for, and what to say when it is missing.

use super::controls::{Allowed, Entry, Exit, Pin, Primary, Secondary};
use core::fmt;

/// Reads a processor's capabilities; the real ones, or made-up ones in a test.
pub trait Processor {
    /// CPUID leaf 1, ECX.
    fn features(&self) -> u32;
    /// An MSR of which the manual says that it exists, given what was read before.
    fn msr(&self, number: u32) -> u64;
}

/// CPUID.1:ECX.VMX.
const CPUID_VMX: u32 = 1 << 5;
/// CPUID.1:ECX.x2APIC.
const CPUID_X2APIC: u32 = 1 << 21;
/// CPUID.1:ECX.XSAVE.
const CPUID_XSAVE: u32 = 1 << 26;

/// `IA32_FEATURE_CONTROL`.
pub const FEATURE_CONTROL: u32 = 0x3A;
/// `IA32_FEATURE_CONTROL`: no more writes until reset.
pub const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
/// `IA32_FEATURE_CONTROL`: VMXON is allowed outside SMX operation.
pub const FEATURE_CONTROL_VMXON: u64 = 1 << 2;

const VMX_BASIC: u32 = 0x480;
const VMX_PROCBASED_CTLS2: u32 = 0x48B;
const VMX_EPT_VPID_CAP: u32 = 0x48C;
const VMX_TRUE_PINBASED_CTLS: u32 = 0x48D;
const VMX_TRUE_PROCBASED_CTLS: u32 = 0x48E;
const VMX_TRUE_EXIT_CTLS: u32 = 0x48F;
const VMX_TRUE_ENTRY_CTLS: u32 = 0x490;

/// `IA32_VMX_BASIC`: the TRUE control MSRs exist (SDM Vol. 3D, A.1).
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;
/// `IA32_VMX_BASIC`: VMCS memory type, and its value for write-back.
const BASIC_MEMORY_TYPE: u64 = 0xF << 50;
const BASIC_WRITE_BACK: u64 = 6 << 50;

/// EPT and VPID capabilities (SDM Vol. 3D, A.10).
mod ept_cap {
    pub const WALK_4: u64 = 1 << 6;
    pub const WRITE_BACK: u64 = 1 << 14;
    pub const PAGES_2M: u64 = 1 << 16;
    pub const INVEPT: u64 = 1 << 20;
    pub const INVEPT_ALL: u64 = 1 << 26;
    pub const INVVPID: u64 = 1 << 32;
    pub const INVVPID_ALL: u64 = 1 << 42;
}

/// Why a processor cannot run guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// CPUID shows no VMX.
    NoVtx,
    /// The firmware forbids VMXON and has locked that.
    LockedOff,
    /// A feature is missing: its name, and what it is needed for.
    Missing(&'static str, &'static str),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVtx => f.write_str(
                "no VT-x: CPUID.1:ECX.VMX is 0; an Intel processor with VT-x is needed \
                 (under an emulator or hypervisor: one that offers nested VT-x)",
            ),
            Self::LockedOff => f.write_str(
                "VT-x is locked off by the firmware (IA32_FEATURE_CONTROL); switch \
                 \"Intel Virtualization Technology\" on in the firmware's set-up, then power-cycle",
            ),
            Self::Missing(name, why) => {
                write!(f, "this processor's VT-x lacks \"{name}\", which is needed {why}")
            }
        }
    }
}

/// A required control: bit, name by the manual, purpose.
type Required<F> = (F, &'static str, &'static str);

const PIN: &[Required<Pin>] = &[
    (Pin::NMI_EXITING, "NMI exiting", "to reach a core that runs its guest"),
    (Pin::VIRTUAL_NMIS, "virtual NMIs", "so that guests have an NMI state of their own"),
];
/// Controls that are switched on when they are needed: they must be there, and are off at first.
const PIN_LATER: &[Required<Pin>] = &[(
    Pin::PREEMPTION_TIMER,
    "activate VMX-preemption timer",
    "to reach a core on its way to its guest",
)];
const PRIMARY: &[Required<Primary>] = &[
    (Primary::SECONDARY_CONTROLS, "activate secondary controls", "for EPT"),
    (Primary::IO_BITMAPS, "use I/O bitmaps", "to deny ports"),
    (Primary::MSR_BITMAPS, "use MSR bitmaps", "to let guests use their APIC without exits"),
    (Primary::TSC_OFFSETTING, "use TSC offsetting", "to give a guest a TSC of its own"),
    (Primary::MWAIT_EXITING, "MWAIT exiting", "to hide MWAIT"),
    (Primary::MONITOR_EXITING, "MONITOR exiting", "to hide MONITOR"),
    (Primary::RDPMC_EXITING, "RDPMC exiting", "to hide performance counters"),
];
/// As [`PIN_LATER`].
const PRIMARY_LATER: &[Required<Primary>] =
    &[(Primary::NMI_WINDOW_EXITING, "NMI-window exiting", "to deliver a guest's NMIs")];
const SECONDARY: &[Required<Secondary>] = &[
    (Secondary::EPT, "enable EPT", "to confine a guest to its memory"),
    (Secondary::UNRESTRICTED_GUEST, "unrestricted guest", "to run guests in every mode"),
    (Secondary::VPID, "enable VPID", "to keep translations across exits"),
];
const EXIT: &[Required<Exit>] = &[
    (Exit::HOST_64_BIT, "host address-space size", "as the hypervisor is 64-bit"),
    (Exit::SAVE_DEBUG_CONTROLS, "save debug controls", "to keep a guest's DR7"),
    (Exit::SAVE_PAT, "save IA32_PAT", "to keep a guest's PAT"),
    (Exit::LOAD_PAT, "load IA32_PAT at exit", "to restore the hypervisor's PAT"),
    (Exit::SAVE_EFER, "save IA32_EFER", "to keep a guest's EFER"),
    (Exit::LOAD_EFER, "load IA32_EFER at exit", "to restore the hypervisor's EFER"),
];
const ENTRY: &[Required<Entry>] = &[
    (Entry::LOAD_DEBUG_CONTROLS, "load debug controls", "to restore a guest's DR7"),
    (Entry::GUEST_IA32E, "IA-32e mode guest", "to run 64-bit guests"),
    (Entry::LOAD_PAT, "load IA32_PAT at entry", "to restore a guest's PAT"),
    (Entry::LOAD_EFER, "load IA32_EFER at entry", "to restore a guest's EFER"),
];
const EPT_VPID: &[Required<u64>] = &[
    (ept_cap::WALK_4, "EPT page-walk length 4", "for the EPT tables"),
    (ept_cap::WRITE_BACK, "EPT write-back memory", "to run guests at full speed"),
    (ept_cap::PAGES_2M, "EPT 2-MByte pages", "to map guests with few tables"),
    (ept_cap::INVEPT, "INVEPT", "to drop stale translations"),
    (ept_cap::INVEPT_ALL, "all-context INVEPT", "to drop stale translations"),
    (ept_cap::INVVPID, "INVVPID", "to drop stale translations"),
    (ept_cap::INVVPID_ALL, "all-context INVVPID", "to drop stale translations"),
];

/// Controls that are used where the processor has them: without them it is as
/// safe, but the guest lacks the instruction or WBINVD flushes more than its own.
const OPTIONAL_SECONDARY: Secondary = Secondary::RDTSCP
    .union(Secondary::INVPCID)
    .union(Secondary::WBINVD_EXITING)
    .union(Secondary::ENCLS_EXITING);

/// Controls which must not be forced on: with one of them interrupts or
/// timing would work otherwise than the rest of the code takes for granted.
const UNWANTED_PRIMARY: Primary = Primary::HLT_EXITING
    .union(Primary::INVLPG_EXITING)
    .union(Primary::RDTSC_EXITING)
    .union(Primary::CR3_LOAD_EXITING)
    .union(Primary::CR3_STORE_EXITING)
    .union(Primary::CR8_LOAD_EXITING)
    .union(Primary::CR8_STORE_EXITING)
    .union(Primary::TPR_SHADOW);

/// The controls as chosen for one processor, and what else it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// VMCS revision identifier.
    pub revision: u32,
    /// Pin-based controls.
    pub pin: u32,
    /// Primary processor-based controls.
    pub primary: u32,
    /// Secondary processor-based controls.
    pub secondary: u32,
    /// VM-exit controls.
    pub exit: u32,
    /// VM-entry controls.
    pub entry: u32,
    /// `IA32_VMX_EPT_VPID_CAP` (SDM Vol. 3D, A.10).
    pub ept_vpid: u64,
    /// `IA32_FEATURE_CONTROL` is not locked: VMXON must be allowed there first.
    pub must_unlock: bool,
}

impl Capabilities {
    /// Goes through the table. The order matters: each MSR is read only after
    /// what says that it exists.
    pub fn check(processor: &impl Processor) -> Result<Self, Unusable> {
        if processor.features() & CPUID_VMX == 0 {
            return Err(Unusable::NoVtx);
        }
        let control = processor.msr(FEATURE_CONTROL);
        let locked = control & FEATURE_CONTROL_LOCKED != 0;
        if locked && control & FEATURE_CONTROL_VMXON == 0 {
            return Err(Unusable::LockedOff);
        }
        require(
            processor.features() & CPUID_X2APIC != 0,
            "x2APIC",
            "for interrupts without exits",
        )?;
        require(processor.features() & CPUID_XSAVE != 0, "XSAVE", "to wipe vector registers")?;
        let basic = processor.msr(VMX_BASIC);
        require(basic & BASIC_TRUE_CONTROLS != 0, "TRUE control MSRs", "to let MOV CR3 run")?;
        require(
            basic & BASIC_MEMORY_TYPE == BASIC_WRITE_BACK,
            "write-back VMCS memory",
            "as VMCSs are in ordinary memory",
        )?;
        let pin = choose(processor.msr(VMX_TRUE_PINBASED_CTLS), PIN, Pin::bits, 0)?;
        choose(processor.msr(VMX_TRUE_PINBASED_CTLS), PIN_LATER, Pin::bits, 0)?;
        require(
            pin & Pin::EXTERNAL_INTERRUPT_EXITING.bits() == 0,
            "external interrupts without exits",
            "for interrupts without exits",
        )?;
        let primary = choose(processor.msr(VMX_TRUE_PROCBASED_CTLS), PRIMARY, Primary::bits, 0)?;
        choose(processor.msr(VMX_TRUE_PROCBASED_CTLS), PRIMARY_LATER, Primary::bits, 0)?;
        require(
            primary & UNWANTED_PRIMARY.bits() == 0,
            "HLT, CR3, CR8 and RDTSC without exits",
            "for guests that run at full speed",
        )?;
        // The MSR exists as the primary control does (SDM Vol. 3D, A.3.3).
        let secondary = choose(
            processor.msr(VMX_PROCBASED_CTLS2),
            SECONDARY,
            Secondary::bits,
            OPTIONAL_SECONDARY.bits(),
        )?;
        let exit = choose(processor.msr(VMX_TRUE_EXIT_CTLS), EXIT, Exit::bits, 0)?;
        let entry = choose(processor.msr(VMX_TRUE_ENTRY_CTLS), ENTRY, Entry::bits, 0)?;
        // The MSR exists as EPT does (SDM Vol. 3D, A.10).
        let ept = processor.msr(VMX_EPT_VPID_CAP);
        for &(bit, name, why) in EPT_VPID {
            require(ept & bit != 0, name, why)?;
        }
        Ok(Self {
            revision: basic as u32 & 0x7FFF_FFFF,
            pin,
            primary,
            secondary,
            exit,
            entry,
            ept_vpid: ept,
            must_unlock: !locked,
        })
    }

    /// Whether a secondary control is in use.
    pub fn has(&self, control: Secondary) -> bool {
        self.secondary & control.bits() == control.bits()
    }
}

fn require(holds: bool, name: &'static str, why: &'static str) -> Result<(), Unusable> {
    if holds { Ok(()) } else { Err(Unusable::Missing(name, why)) }
}

fn choose<F: Copy>(
    msr: u64,
    required: &[Required<F>],
    bits: impl Fn(&F) -> u32,
    optional: u32,
) -> Result<u32, Unusable> {
    let wanted = required.iter().fold(0, |sum, (flag, ..)| sum | bits(flag));
    Allowed::from_msr(msr).choose(wanted, optional).map_err(|missing| {
        let named = required.iter().find(|(flag, ..)| bits(flag) & missing != 0);
        named.map_or(Unusable::NoVtx, |&(_, name, why)| Unusable::Missing(name, why))
    })
}

/// The processor that this code runs on.
pub struct ThisProcessor;

impl Processor for ThisProcessor {
    fn features(&self) -> u32 {
        crate::arch::cpu::cpuid(1, 0).ecx
    }

    fn msr(&self, number: u32) -> u64 {
        crate::arch::msr::Msr::claimed(number).read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::string::ToString;

    struct Fake {
        features: u32,
        msrs: BTreeMap<u32, u64>,
    }

    impl Processor for Fake {
        fn features(&self) -> u32 {
            self.features
        }

        fn msr(&self, number: u32) -> u64 {
            *self.msrs.get(&number).unwrap_or_else(|| panic!("MSR {number:#x} would fault"))
        }
    }

    /// A Skylake server's values.
    fn skylake() -> Fake {
        Fake {
            features: CPUID_VMX | CPUID_X2APIC | CPUID_XSAVE,
            msrs: BTreeMap::from([
                (FEATURE_CONTROL, 5),
                (VMX_BASIC, 0x00d8_1000_0000_002b),
                (VMX_TRUE_PINBASED_CTLS, 0x0000_007f_0000_0016),
                (VMX_TRUE_PROCBASED_CTLS, 0xfff9_fffe_0400_6172),
                (VMX_PROCBASED_CTLS2, 0x0217_7fff_0000_0000),
                (VMX_TRUE_EXIT_CTLS, 0x01ff_ffff_0003_6dfb),
                (VMX_TRUE_ENTRY_CTLS, 0x0003_ffff_0000_11fb),
                (VMX_EPT_VPID_CAP, 0x0000_0f01_0633_4141),
            ]),
        }
    }

    #[test]
    fn a_skylake_passes_with_the_controls_as_wanted() {
        let found = Capabilities::check(&skylake()).unwrap();
        assert_eq!(found.revision, 0x2b);
        assert!(!found.must_unlock);
        assert_eq!(found.pin & Pin::EXTERNAL_INTERRUPT_EXITING.bits(), 0);
        assert_eq!(found.primary & UNWANTED_PRIMARY.bits(), 0);
        assert!(found.has(Secondary::RDTSCP | Secondary::INVPCID | Secondary::WBINVD_EXITING));
        assert!(!found.has(Secondary::ENCLS_EXITING), "optional, and not there");
        assert!(!found.has(Secondary::XSAVES), "what is not asked for stays off");
    }

    #[test]
    fn without_vtx_no_msr_is_touched() {
        let none = Fake { features: 0, msrs: BTreeMap::new() };
        let error = Capabilities::check(&none).unwrap_err();
        assert!(error.to_string().starts_with("no VT-x"), "{error}");
    }

    #[test]
    fn a_firmware_s_lock_is_told_from_an_open_control() {
        let mut locked = skylake();
        locked.msrs.insert(FEATURE_CONTROL, FEATURE_CONTROL_LOCKED);
        let error = Capabilities::check(&locked).unwrap_err();
        assert_eq!(error, Unusable::LockedOff);
        assert!(error.to_string().contains("locked off by the firmware"));
        locked.msrs.insert(FEATURE_CONTROL, 0);
        assert!(Capabilities::check(&locked).unwrap().must_unlock);
    }

    /// Takes each required bit away in turn: the message must name that feature.
    #[test]
    fn every_missing_feature_is_named() {
        fn without(msr: u32, bit: u64, name: &str) {
            let mut fake = skylake();
            *fake.msrs.get_mut(&msr).unwrap() &= !bit;
            let error = Capabilities::check(&fake).unwrap_err();
            assert!(error.to_string().contains(&std::format!("\"{name}\"")), "{name}: {error}");
        }
        let high = |bits: u32| u64::from(bits) << 32;
        for (flag, name, _) in PIN.iter().chain(PIN_LATER) {
            without(VMX_TRUE_PINBASED_CTLS, high(flag.bits()), name);
        }
        for (flag, name, _) in PRIMARY.iter().chain(PRIMARY_LATER) {
            without(VMX_TRUE_PROCBASED_CTLS, high(flag.bits()), name);
        }
        for (flag, name, _) in SECONDARY {
            without(VMX_PROCBASED_CTLS2, high(flag.bits()), name);
        }
        for (flag, name, _) in EXIT {
            without(VMX_TRUE_EXIT_CTLS, high(flag.bits()), name);
        }
        for (flag, name, _) in ENTRY {
            without(VMX_TRUE_ENTRY_CTLS, high(flag.bits()), name);
        }
        for (bit, name, _) in EPT_VPID {
            without(VMX_EPT_VPID_CAP, *bit, name);
        }
        let mut old = skylake();
        old.features &= !CPUID_X2APIC;
        assert!(Capabilities::check(&old).unwrap_err().to_string().contains("x2APIC"));
    }

    #[test]
    fn a_processor_that_forces_exits_is_refused() {
        let mut nested = skylake();
        *nested.msrs.get_mut(&VMX_TRUE_PINBASED_CTLS).unwrap() |= 1;
        assert!(Capabilities::check(&nested).is_err());
    }
}
