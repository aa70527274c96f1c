//! Made-up processors, and what the limits make of them.

use super::super::Limits;
use super::super::group::Group;
use super::super::limits::Settings;
use crate::arch::cpu::CpuidResult;
use crate::vmx::capability::{FEATURE_CONTROL, Processor};
use std::collections::BTreeMap;
use x86::msr;

/// A processor in maps. A read of what is not there fails the test: on a processor it would
/// raise #GP.
pub struct Fake {
    pub features: u32,
    pub msrs: BTreeMap<u32, u64>,
    /// EAX, EBX, ECX and EDX of each leaf and subleaf.
    pub leaves: BTreeMap<(u32, u32), [u32; 4]>,
}

impl Processor for Fake {
    fn features(&self) -> u32 {
        self.features
    }

    fn msr(&self, number: u32) -> u64 {
        *self.msrs.get(&number).unwrap_or_else(|| panic!("MSR {number:#x} would fault"))
    }
}

impl Fake {
    /// A Skylake server's values.
    pub fn skylake() -> Self {
        Self {
            // VMX, PDCM, x2APIC, XSAVE.
            features: 1 << 5 | 1 << 15 | 1 << 21 | 1 << 26,
            msrs: BTreeMap::from([
                (FEATURE_CONTROL, 5),
                (msr::IA32_PERF_CAPABILITIES, 0x33C5),
                (msr::IA32_VMX_BASIC, 0x00D8_1000_0000_002B),
                (msr::IA32_VMX_MISC, 0x7004_C1E7),
                (msr::IA32_VMX_CR0_FIXED0, 0x8000_0021),
                (msr::IA32_VMX_CR0_FIXED1, 0xFFFF_FFFF),
                (msr::IA32_VMX_CR4_FIXED0, 0x2000),
                (msr::IA32_VMX_CR4_FIXED1, 0x37_27FF),
                (msr::IA32_VMX_TRUE_PINBASED_CTLS, 0x0000_007F_0000_0016),
                (msr::IA32_VMX_TRUE_PROCBASED_CTLS, 0xFFF9_FFFE_0400_6172),
                (msr::IA32_VMX_PROCBASED_CTLS2, 0x0217_7FFF_0000_0000),
                (msr::IA32_VMX_TRUE_EXIT_CTLS, 0x01FF_FFFF_0003_6DFB),
                (msr::IA32_VMX_TRUE_ENTRY_CTLS, 0x0003_FFFF_0000_11FB),
                (msr::IA32_VMX_EPT_VPID_CAP, 0x0000_0F01_0673_4141),
                (msr::IA32_VMX_VMFUNC, 1),
            ]),
            leaves: BTreeMap::from([
                ((0, 0), [0x16, 0, 0, 0]),
                ((7, 0), [0, 0, 0, 0]),
                ((0xA, 0), [0x0730_0404, 0, 0, 0x603]),
                ((0x8000_0000, 0), [0x8000_0008, 0, 0, 0]),
                ((0x8000_0001, 0), [0, 0, 0, 0x2C10_0800]),
                ((0x8000_0008, 0), [0x302E, 0, 0, 0]),
            ]),
        }
    }

    /// A processor that has every control and feature that the checks know of.
    pub fn everything() -> Self {
        let mut fake = Self::skylake();
        for number in [
            msr::IA32_VMX_TRUE_PINBASED_CTLS,
            msr::IA32_VMX_TRUE_PROCBASED_CTLS,
            msr::IA32_VMX_PROCBASED_CTLS2,
            msr::IA32_VMX_TRUE_EXIT_CTLS,
            msr::IA32_VMX_TRUE_ENTRY_CTLS,
        ] {
            *fake.msrs.get_mut(&number).unwrap() |= 0xFFFF_FFFF << 32;
        }
        fake.msrs.extend([
            (msr::IA32_VMX_CR4_FIXED1, 0xFF_FFFF),
            (msr::IA32_VMX_EPT_VPID_CAP, 0x0000_0F01_06F3_41C1),
            (0x492, 0x1F),
            (0x493, 0x8),
            (msr::IA32_PERF_CAPABILITIES, 1 << 15),
        ]);
        fake.leaves.extend([
            // SGX and RTM; CET_SS and BUS_LOCK_DETECT; CET_IBT.
            ((7, 0), [1, 1 << 2 | 1 << 11, 1 << 7 | 1 << 24, 1 << 20]),
            ((7, 1), [1 << 26, 0, 0, 0]),
            ((0xA, 0), [0x0730_0405, 0, 0xF, 0x603]),
            ((0x8000_0008, 0), [0x392E, 0, 0, 0]),
        ]);
        fake
    }

    pub fn limits(&self) -> Limits {
        Limits::read(self, |leaf, subleaf| {
            let values = self.leaves.get(&(leaf, subleaf));
            let [eax, ebx, ecx, edx] =
                *values.unwrap_or_else(|| panic!("CPUID {leaf:#x}.{subleaf} was not asked for"));
            CpuidResult { eax, ebx, ecx, edx }
        })
    }
}

#[test]
fn a_skylake_s_limits() {
    let limits = Fake::skylake().limits();
    assert_eq!(limits.of(Group::Pin), Settings { must: 0x16, may: 0x7F });
    assert_eq!(limits.of(Group::Tertiary), Settings::default());
    assert_eq!(limits.of(Group::VmFunctions), Settings { must: 0, may: 1 });
    assert_eq!(limits.physical, (1 << 46) - 1);
    assert_eq!(limits.structure, limits.physical);
    assert_eq!(limits.cr3, limits.physical, "no linear-address masking");
    assert_eq!(limits.linear_bits, 48);
    assert_eq!(limits.efer, 0xD01);
    assert_eq!(limits.perf_global_ctrl, 0x7_0000_000F);
    assert_eq!(limits.s_cet, 0);
    assert!(!limits.rtm && !limits.sgx);
}

#[test]
fn a_processor_with_everything() {
    let limits = Fake::everything().limits();
    assert_eq!(limits.of(Group::Tertiary), Settings { must: 0, may: 0x1F });
    assert_eq!(limits.of(Group::SecondaryExit), Settings { must: 0, may: 8 });
    assert_eq!(limits.cr3 & 3 << 61, 3 << 61);
    assert_eq!(limits.linear_bits, 57);
    assert_eq!(limits.perf_global_ctrl, 1 << 48 | 0xF_0000_000F);
    assert_eq!(!limits.s_cet, 0x3C0);
    assert!(limits.rtm && limits.sgx);
}

/// The maps hold no more than the processor has, so that a read too many would panic.
#[test]
fn an_old_processor_is_asked_for_nothing_that_it_lacks() {
    let mut old = Fake::skylake();
    old.features = 1 << 5;
    old.msrs = BTreeMap::from([
        // Structures below 4 GiB, no TRUE controls.
        (msr::IA32_VMX_BASIC, 0x0019_1000_0000_0007),
        (msr::IA32_VMX_MISC, 0x4001C0),
        (msr::IA32_VMX_CR0_FIXED0, 0x8000_0021),
        (msr::IA32_VMX_CR0_FIXED1, 0xFFFF_FFFF),
        (msr::IA32_VMX_CR4_FIXED0, 0x2000),
        (msr::IA32_VMX_CR4_FIXED1, 0x67FF),
        (msr::IA32_VMX_PINBASED_CTLS, 0x0000_003F_0000_0016),
        (msr::IA32_VMX_PROCBASED_CTLS, 0x77B9_FFFE_0401_E172),
        (msr::IA32_VMX_EXIT_CTLS, 0x0003_EFFF_0003_6DFF),
        (msr::IA32_VMX_ENTRY_CTLS, 0x0000_1FFF_0000_11FF),
    ]);
    old.leaves = BTreeMap::from([
        ((0, 0), [5, 0, 0, 0]),
        ((0x8000_0000, 0), [0x8000_0001, 0, 0, 0]),
        ((0x8000_0001, 0), [0, 0, 0, 1 << 29]),
    ]);
    let limits = old.limits();
    assert_eq!(limits.of(Group::Secondary), Settings::default());
    assert_eq!(limits.physical, (1 << 36) - 1);
    assert_eq!(limits.structure, 0xFFFF_FFFF);
    assert_eq!(limits.linear_bits, 48);
    assert_eq!(limits.efer, 0x500);
    assert_eq!(limits.perf_global_ctrl, 0);
}
