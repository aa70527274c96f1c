//! What a processor allows in a VMCS.

use super::group::{self, Group};
use super::low_bits;
use crate::arch::cpu::{CpuidResult, efer};
use crate::vmx::capability::Processor;
use x86::msr;

/// `IA32_VMX_PROCBASED_CTLS3` (SDM Vol. 3D, A.3.4).
const VMX_PROCBASED_CTLS3: u32 = 0x492;
/// `IA32_VMX_EXIT_CTLS2` (SDM Vol. 3D, A.4.2).
const VMX_EXIT_CTLS2: u32 = 0x493;

/// `IA32_VMX_BASIC`: structures that the VMCS points to are below 4 GiB (SDM Vol. 3D, A.1).
const BASIC_32_BIT_STRUCTURES: u64 = 1 << 48;
/// `IA32_VMX_BASIC`: the TRUE control MSRs exist.
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;

/// CPUID.1:ECX.PDCM: `IA32_PERF_CAPABILITIES` exists.
const CPUID_1_ECX_PDCM: u32 = 1 << 15;
/// CPUID.7.0:EBX.SGX.
const CPUID_7_EBX_SGX: u32 = 1 << 2;
/// CPUID.7.0:EBX.RTM.
const CPUID_7_EBX_RTM: u32 = 1 << 11;
/// CPUID.7.0:ECX.CET_SS.
const CPUID_7_ECX_SHADOW_STACKS: u32 = 1 << 7;
/// CPUID.7.0:ECX.BUS_LOCK_DETECT.
const CPUID_7_ECX_BUS_LOCK_DETECT: u32 = 1 << 24;
/// CPUID.7.0:EDX.CET_IBT.
const CPUID_7_EDX_INDIRECT_BRANCHES: u32 = 1 << 20;
/// CPUID.7.1:EAX.LAM.
const CPUID_7_1_EAX_LAM: u32 = 1 << 26;
/// CPUID.80000001H:EDX, SYSCALL, execute-disable and Intel 64.
const CPUID_EXTENDED_EDX_SYSCALL: u32 = 1 << 11;
const CPUID_EXTENDED_EDX_NX: u32 = 1 << 20;
const CPUID_EXTENDED_EDX_LONG_MODE: u32 = 1 << 29;

/// `IA32_PERF_CAPABILITIES`: there is a metrics counter, bit 48 of `IA32_PERF_GLOBAL_CTRL`.
const PERF_METRICS: u64 = 1 << 15;

/// CR3's bits for linear-address masking, LAM_U48 and LAM_U57 (SDM Vol. 3A, 4.5).
const CR3_LAM: u64 = 0b11 << 61;

/// `IA32_DEBUGCTL`: bits that some processor defines, but for bus locks (SDM Vol. 4, table 2-2).
const DEBUGCTL_DEFINED: u64 = 0xFFC3;
const DEBUGCTL_BUS_LOCK_DETECT: u64 = 1 << 2;

/// Pending debug exceptions: B0 to B3, enabled breakpoint, BS, RTM (SDM Vol. 3C, table 25-4).
const PENDING_DEFINED: u64 = 0x1_500F;
/// Pending debug exceptions: a bus lock.
const PENDING_BUS_LOCK: u64 = 1 << 11;

/// `IA32_S_CET`: what shadow stacks need (SDM Vol. 4, table 2-2).
const S_CET_SHADOW_STACKS: u64 = 0b11;
/// `IA32_S_CET`: what tracking of indirect branches needs, with the legacy bitmap's base.
const S_CET_INDIRECT_BRANCHES: u64 = 0xFFFF_FFFF_FFFF_FC3C;

/// Which bits must be 1, and which may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub must: u64,
    pub may: u64,
}

impl Settings {
    /// From the capability MSR of 32 controls (SDM Vol. 3D, A.3.1).
    fn of_controls(msr: u64) -> Self {
        Self { must: msr & u64::from(u32::MAX), may: msr >> 32 }
    }

    /// Controls that may all be 0.
    fn optional(may: u64) -> Self {
        Self { must: 0, may }
    }
}

/// What a processor allows in a VMCS.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub(super) controls: [Settings; Group::COUNT],
    pub(super) cr0: Settings,
    pub(super) cr4: Settings,
    /// Bits that CR3 may set.
    pub(super) cr3: u64,
    pub(super) basic: u64,
    pub(super) misc: u64,
    pub(super) ept_vpid: u64,
    /// Bits of a physical address.
    pub(super) physical: u64,
    /// Bits that the address of a structure for VMX may have.
    pub(super) structure: u64,
    /// Bits in the widest linear address.
    pub(super) linear_bits: u32,
    /// Bits that are not reserved.
    pub(super) efer: u64,
    pub(super) perf_global_ctrl: u64,
    pub(super) debugctl: u64,
    pub(super) s_cet: u64,
    pub(super) pending_debug: u64,
    pub(super) rtm: bool,
    pub(super) sgx: bool,
}

impl Limits {
    /// Reads what a processor allows. It must have VMX; each MSR is read only after what says
    /// that it exists.
    pub fn read(processor: &impl Processor, cpuid: impl Fn(u32, u32) -> CpuidResult) -> Self {
        let basic = processor.msr(msr::IA32_VMX_BASIC);
        let leaf = |number: u32, subleaf: u32| {
            let most = cpuid(number & 0x8000_0000, 0).eax;
            let none = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
            if number <= most { cpuid(number, subleaf) } else { none }
        };
        let structured = leaf(7, 0);
        let more_structured = if structured.eax >= 1 { leaf(7, 1).eax } else { 0 };
        let bus_locks = structured.ecx & CPUID_7_ECX_BUS_LOCK_DETECT != 0;
        let widths = leaf(0x8000_0008, 0).eax;
        // Without the leaf: SDM Vol. 3A, 4.1.4.
        let (physical, linear_bits) =
            if widths == 0 { (36, 48) } else { (widths & 0xFF, widths >> 8 & 0xFF) };
        let physical = low_bits(physical);
        let below_4g = if basic & BASIC_32_BIT_STRUCTURES != 0 { low_bits(32) } else { u64::MAX };
        let controls = read_controls(processor, basic);
        let secondary = controls[Group::Secondary as usize].may;
        // The MSR exists as EPT or VPID does (SDM Vol. 3D, A.10).
        let ept_vpid = if secondary & (group::ENABLE_EPT.bit | group::ENABLE_VPID.bit) != 0 {
            processor.msr(msr::IA32_VMX_EPT_VPID_CAP)
        } else {
            0
        };
        Self {
            controls,
            cr0: Settings {
                must: processor.msr(msr::IA32_VMX_CR0_FIXED0),
                may: processor.msr(msr::IA32_VMX_CR0_FIXED1),
            },
            cr4: Settings {
                must: processor.msr(msr::IA32_VMX_CR4_FIXED0),
                may: processor.msr(msr::IA32_VMX_CR4_FIXED1),
            },
            cr3: physical | given(more_structured, CPUID_7_1_EAX_LAM, CR3_LAM),
            basic,
            misc: processor.msr(msr::IA32_VMX_MISC),
            ept_vpid,
            physical,
            structure: physical & below_4g,
            linear_bits,
            efer: read_efer(leaf(0x8000_0001, 0).edx),
            perf_global_ctrl: read_perf_global_ctrl(processor, leaf(0xA, 0)),
            debugctl: DEBUGCTL_DEFINED | if bus_locks { DEBUGCTL_BUS_LOCK_DETECT } else { 0 },
            s_cet: given(structured.ecx, CPUID_7_ECX_SHADOW_STACKS, S_CET_SHADOW_STACKS)
                | given(structured.edx, CPUID_7_EDX_INDIRECT_BRANCHES, S_CET_INDIRECT_BRANCHES),
            pending_debug: PENDING_DEFINED | if bus_locks { PENDING_BUS_LOCK } else { 0 },
            rtm: structured.ebx & CPUID_7_EBX_RTM != 0,
            sgx: structured.ebx & CPUID_7_EBX_SGX != 0,
        }
    }

    pub(super) fn of(&self, group: Group) -> Settings {
        self.controls[group as usize]
    }
}

/// `bits` where a feature is there.
fn given(features: u32, feature: u32, bits: u64) -> u64 {
    if features & feature != 0 { bits } else { 0 }
}

fn read_controls(processor: &impl Processor, basic: u64) -> [Settings; Group::COUNT] {
    let numbers = if basic & BASIC_TRUE_CONTROLS != 0 {
        [
            msr::IA32_VMX_TRUE_PINBASED_CTLS,
            msr::IA32_VMX_TRUE_PROCBASED_CTLS,
            msr::IA32_VMX_TRUE_EXIT_CTLS,
            msr::IA32_VMX_TRUE_ENTRY_CTLS,
        ]
    } else {
        [
            msr::IA32_VMX_PINBASED_CTLS,
            msr::IA32_VMX_PROCBASED_CTLS,
            msr::IA32_VMX_EXIT_CTLS,
            msr::IA32_VMX_ENTRY_CTLS,
        ]
    };
    let [pin, primary, exit, entry] =
        numbers.map(|number| Settings::of_controls(processor.msr(number)));
    // A further group's MSR exists as the control does that activates the group.
    let behind = |settings: Settings, control: group::Control, number: u32| {
        if settings.may & control.bit != 0 { processor.msr(number) } else { 0 }
    };
    let secondary = Settings::of_controls(behind(
        primary,
        group::SECONDARY_CONTROLS,
        msr::IA32_VMX_PROCBASED_CTLS2,
    ));
    let tertiary = behind(primary, group::TERTIARY_CONTROLS, VMX_PROCBASED_CTLS3);
    let functions = behind(secondary, group::VM_FUNCTIONS, msr::IA32_VMX_VMFUNC);
    let secondary_exit = behind(exit, group::SECONDARY_EXIT_CONTROLS, VMX_EXIT_CTLS2);
    let mut controls = [Settings::default(); Group::COUNT];
    for (group, settings) in [
        (Group::Pin, pin),
        (Group::Primary, primary),
        (Group::Secondary, secondary),
        (Group::Tertiary, Settings::optional(tertiary)),
        (Group::VmFunctions, Settings::optional(functions)),
        (Group::Exit, exit),
        (Group::SecondaryExit, Settings::optional(secondary_exit)),
        (Group::Entry, entry),
    ] {
        controls[group as usize] = settings;
    }
    controls
}

fn read_efer(extended: u32) -> u64 {
    given(extended, CPUID_EXTENDED_EDX_SYSCALL, efer::SCE)
        | given(extended, CPUID_EXTENDED_EDX_NX, efer::NXE)
        | given(extended, CPUID_EXTENDED_EDX_LONG_MODE, efer::LME | efer::LMA)
}

/// Bits of `IA32_PERF_GLOBAL_CTRL` that have a counter (SDM Vol. 4, table 2-2).
fn read_perf_global_ctrl(processor: &impl Processor, leaf: CpuidResult) -> u64 {
    let version = leaf.eax & 0xFF;
    let general = low_bits(leaf.eax >> 8 & 0xFF) & low_bits(32);
    let mut fixed = if version > 1 { low_bits(leaf.edx & 0x1F) } else { 0 };
    if version >= 5 {
        fixed |= u64::from(leaf.ecx);
    }
    let metrics = processor.features() & CPUID_1_ECX_PDCM != 0
        && processor.msr(msr::IA32_PERF_CAPABILITIES) & PERF_METRICS != 0;
    general | (fixed & low_bits(16)) << 32 | if metrics { 1 << 48 } else { 0 }
}
