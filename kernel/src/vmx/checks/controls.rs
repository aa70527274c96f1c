//! Checks on the VMX controls (SDM Vol. 3C, 27.2.1).

use super::group::{self, Control, GROUPS, Group};
use super::{BEYOND_WIDTH, Checker, Field, RESERVED};
use crate::arch::cpu::cr0;
use x86::vmx::vmcs::{control, guest};

const EXECUTION: &str = "27.2.1.1";
const EXIT: &str = "27.2.1.2";
const ENTRY: &str = "27.2.1.3";

const CR3_TARGETS: Field = Field::new(control::CR3_TARGET_COUNT, "CR3-target count");
const TPR_THRESHOLD: Field = Field::new(control::TPR_THRESHOLD, "TPR threshold");
const POSTED_VECTOR: Field = Field::new(
    control::POSTED_INTERRUPT_NOTIFICATION_VECTOR,
    "posted-interrupt notification vector",
);
const VPID: Field = Field::new(control::VPID, "VPID");
const EPTP: Field = Field::new(control::EPTP_FULL, "EPTP");
const TSC_MULTIPLIER: Field = Field::new(control::TSC_MULTIPLIER_FULL, "TSC multiplier");
const EVENT: Field =
    Field::new(control::VMENTRY_INTERRUPTION_INFO_FIELD, "VM-entry interruption information");
const EVENT_ERROR_CODE: Field =
    Field::new(control::VMENTRY_EXCEPTION_ERR_CODE, "VM-entry exception error code");
const EVENT_LENGTH: Field =
    Field::new(control::VMENTRY_INSTRUCTION_LEN, "VM-entry instruction length");

/// What a control that is 1 demands of another.
enum Demand {
    One(Control),
    Zero(Control),
}
use Demand::{One, Zero};

/// Which control, what it demands, what to say.
const DEMANDS: &[(Control, Demand, &str)] = &[
    (group::VIRTUAL_NMIS, One(group::NMI_EXITING), "must be 0 without \"NMI exiting\""),
    (group::NMI_WINDOW_EXITING, One(group::VIRTUAL_NMIS), "must be 0 without \"virtual NMIs\""),
    (group::VIRTUALIZE_X2APIC, One(group::TPR_SHADOW), "must be 0 without \"use TPR shadow\""),
    (
        group::VIRTUALIZE_APIC_REGISTERS,
        One(group::TPR_SHADOW),
        "must be 0 without \"use TPR shadow\"",
    ),
    (
        group::VIRTUAL_INTERRUPT_DELIVERY,
        One(group::TPR_SHADOW),
        "must be 0 without \"use TPR shadow\"",
    ),
    (
        group::VIRTUALIZE_X2APIC,
        Zero(group::VIRTUALIZE_APIC_ACCESSES),
        "must be 0 with \"virtualize APIC accesses\"",
    ),
    (
        group::VIRTUAL_INTERRUPT_DELIVERY,
        One(group::EXTERNAL_INTERRUPT_EXITING),
        "must be 0 without \"external-interrupt exiting\"",
    ),
    (
        group::POSTED_INTERRUPTS,
        One(group::VIRTUAL_INTERRUPT_DELIVERY),
        "must be 0 without \"virtual-interrupt delivery\"",
    ),
    (
        group::POSTED_INTERRUPTS,
        One(group::ACKNOWLEDGE_INTERRUPT),
        "must be 0 without \"acknowledge interrupt on exit\"",
    ),
    (group::ENABLE_PML, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (group::UNRESTRICTED_GUEST, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (group::MODE_BASED_EPT, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (group::SUB_PAGE_EPT, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (group::EPTP_SWITCHING, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (group::PT_GUEST_PHYSICAL, One(group::ENABLE_EPT), "must be 0 without \"enable EPT\""),
    (
        group::PT_GUEST_PHYSICAL,
        One(group::ENTRY_LOAD_RTIT_CTL),
        "must be 0 without \"load IA32_RTIT_CTL\"",
    ),
    (
        group::PT_GUEST_PHYSICAL,
        One(group::CLEAR_RTIT_CTL),
        "must be 0 without \"clear IA32_RTIT_CTL\"",
    ),
    (
        group::SAVE_PREEMPTION_TIMER,
        One(group::PREEMPTION_TIMER),
        "must be 0 without \"activate VMX-preemption timer\"",
    ),
];

/// How an address must be aligned: the bits that must be 0, and what to say.
type Alignment = (u64, &'static str);

const PAGE: Alignment = (0xFFF, "must be 0, as the address is 4-KByte aligned");
const LINE: Alignment = (0x3F, "must be 0, as the address is 64-byte aligned");
const ENTRIES: Alignment = (0xF, "must be 0, as the address is 16-byte aligned");

/// A structure that the VMCS points to: the control that makes it count, its address.
const STRUCTURES: &[(Control, Field, Alignment)] = &[
    (
        group::IO_BITMAPS,
        Field::new(control::IO_BITMAP_A_ADDR_FULL, "address of I/O bitmap A"),
        PAGE,
    ),
    (
        group::IO_BITMAPS,
        Field::new(control::IO_BITMAP_B_ADDR_FULL, "address of I/O bitmap B"),
        PAGE,
    ),
    (
        group::MSR_BITMAPS,
        Field::new(control::MSR_BITMAPS_ADDR_FULL, "address of MSR bitmaps"),
        PAGE,
    ),
    (group::TPR_SHADOW, Field::new(control::VIRT_APIC_ADDR_FULL, "virtual-APIC address"), PAGE),
    (
        group::VIRTUALIZE_APIC_ACCESSES,
        Field::new(control::APIC_ACCESS_ADDR_FULL, "APIC-access address"),
        PAGE,
    ),
    (
        group::POSTED_INTERRUPTS,
        Field::new(control::POSTED_INTERRUPT_DESC_ADDR_FULL, "posted-interrupt descriptor address"),
        LINE,
    ),
    (group::ENABLE_PML, Field::new(control::PML_ADDR_FULL, "PML address"), PAGE),
    (
        group::SUB_PAGE_EPT,
        Field::new(control::SUBPAGE_PERM_TABLE_PTR_FULL, "sub-page-permission-table pointer"),
        PAGE,
    ),
    (group::EPTP_SWITCHING, Field::new(control::EPTP_LIST_ADDR_FULL, "EPTP-list address"), PAGE),
    (
        group::VMCS_SHADOWING,
        Field::new(control::VMREAD_BITMAP_ADDR_FULL, "VMREAD-bitmap address"),
        PAGE,
    ),
    (
        group::VMCS_SHADOWING,
        Field::new(control::VMWRITE_BITMAP_ADDR_FULL, "VMWRITE-bitmap address"),
        PAGE,
    ),
    (
        group::EPT_VIOLATION_VE,
        Field::new(
            control::VIRT_EXCEPTION_INFO_ADDR_FULL,
            "virtualization-exception information address",
        ),
        PAGE,
    ),
];

/// An MSR area: section, count of its entries, its address.
const MSR_AREAS: &[(&str, u32, Field)] = &[
    (
        EXIT,
        control::VMEXIT_MSR_STORE_COUNT,
        Field::new(control::VMEXIT_MSR_STORE_ADDR_FULL, "VM-exit MSR-store address"),
    ),
    (
        EXIT,
        control::VMEXIT_MSR_LOAD_COUNT,
        Field::new(control::VMEXIT_MSR_LOAD_ADDR_FULL, "VM-exit MSR-load address"),
    ),
    (
        ENTRY,
        control::VMENTRY_MSR_LOAD_COUNT,
        Field::new(control::VMENTRY_MSR_LOAD_ADDR_FULL, "VM-entry MSR-load address"),
    ),
];

/// Bytes of an entry in an MSR area.
const MSR_ENTRY: u64 = 16;

/// Goes through 27.2.1.
pub(super) fn check(checker: &mut Checker<'_>) {
    for section in [EXECUTION, EXIT, ENTRY] {
        checker.section = section;
        settings(checker);
        demands(checker);
        if section == EXECUTION {
            structures(checker);
            execution(checker);
            eptp(checker);
        }
        msr_areas(checker);
    }
    smm(checker);
    event(checker);
}

/// Controls that the processor insists on, or lacks.
fn settings(checker: &mut Checker<'_>) {
    for (group, field, activated_by, section) in GROUPS {
        let counts = activated_by.is_none_or(|control| checker.has(control));
        if section == checker.section && counts {
            let allowed = checker.limits.of(group);
            checker.ones(field, allowed.must, "must be 1 on this processor");
            checker.zero(field, !allowed.may, "must be 0 on this processor");
        }
    }
}

fn demands(checker: &mut Checker<'_>) {
    for (control, demand, rule) in DEMANDS {
        let met = match *demand {
            One(other) => checker.has(other),
            Zero(other) => !checker.has(other),
        };
        if control.group.section() == checker.section && checker.has(*control) && !met {
            checker.zero(control.group.field(), control.bit, rule);
        }
    }
}

fn structures(checker: &mut Checker<'_>) {
    for &(control, field, (low, rule)) in STRUCTURES {
        if checker.has(control) {
            checker.zero(field, low, rule);
            checker.zero(field, !checker.limits.structure, BEYOND_WIDTH);
        }
    }
}

fn execution(checker: &mut Checker<'_>) {
    // IA32_VMX_MISC[24:16] (SDM Vol. 3D, A.6).
    let most = checker.limits.misc >> 16 & 0x1FF;
    let holds = checker.read(CR3_TARGETS) <= most;
    checker.require(holds, CR3_TARGETS, "must not exceed what the processor has");
    if checker.has(group::TPR_SHADOW) && !checker.has(group::VIRTUAL_INTERRUPT_DELIVERY) {
        checker.zero(TPR_THRESHOLD, !0xF, RESERVED);
    }
    if checker.has(group::POSTED_INTERRUPTS) {
        checker.zero(POSTED_VECTOR, !0xFF, "must be 0, as vectors are at most 255");
    }
    if checker.has(group::ENABLE_VPID) {
        let holds = checker.read(VPID) != 0;
        checker.require(holds, VPID, "must not be 0");
    }
    if checker.has(group::TSC_SCALING) {
        let holds = checker.read(TSC_MULTIPLIER) != 0;
        checker.require(holds, TSC_MULTIPLIER, "must not be 0");
    }
}

/// The EPT pointer's format (SDM Vol. 3C, table 25-9) and `IA32_VMX_EPT_VPID_CAP` (Vol. 3D, A.10).
fn eptp(checker: &mut Checker<'_>) {
    const ACCESSED_DIRTY: u64 = 1 << 6;
    const SHADOW_STACK_RIGHTS: u64 = 1 << 7;
    if !checker.has(group::ENABLE_EPT) {
        return;
    }
    let capability = checker.limits.ept_vpid;
    let has = |bit: u32| capability >> bit & 1 != 0;
    let pointer = checker.read(EPTP);
    let type_known = match pointer & 0b111 {
        0 => has(8),
        6 => has(14),
        _ => false,
    };
    checker.require(type_known, EPTP, "must have a memory type (bits 2:0) that EPT supports");
    let walk_known = match pointer >> 3 & 0b111 {
        3 => has(6),
        4 => has(7),
        _ => false,
    };
    checker.require(walk_known, EPTP, "must have a page-walk length (bits 5:3) that EPT supports");
    if !has(21) {
        checker.zero(EPTP, ACCESSED_DIRTY, "must be 0, as EPT has no accessed and dirty flags");
    }
    if !has(23) {
        checker.zero(EPTP, SHADOW_STACK_RIGHTS, "must be 0, as EPT has no shadow-stack rights");
    }
    checker.zero(EPTP, 0xF00, RESERVED);
    checker.zero(EPTP, !checker.limits.physical, BEYOND_WIDTH);
}

fn msr_areas(checker: &mut Checker<'_>) {
    for &(section, count, field) in MSR_AREAS {
        let count = checker.vmcs.read(count) & u64::from(u32::MAX);
        if section != checker.section || count == 0 {
            continue;
        }
        let (low, rule) = ENTRIES;
        let beyond = !checker.limits.structure;
        checker.zero(field, low, rule);
        checker.zero(field, beyond, BEYOND_WIDTH);
        let start = checker.read(field);
        let last = start.saturating_add(count * MSR_ENTRY - 1);
        let holds = start & beyond != 0 || last & beyond == 0;
        checker.require(holds, field, "must leave the area within the physical-address width");
    }
}

/// The hypervisor never runs in SMM.
fn smm(checker: &mut Checker<'_>) {
    for control in [group::ENTRY_TO_SMM, group::DEACTIVATE_DUAL_MONITOR] {
        if checker.has(control) {
            checker.zero(Group::Entry.field(), control.bit, "must be 0 outside SMM");
        }
    }
}

/// Kinds of event (SDM Vol. 3C, table 25-17).
pub(super) mod kind {
    pub const EXTERNAL_INTERRUPT: u64 = 0;
    pub const NMI: u64 = 2;
    pub const HARDWARE_EXCEPTION: u64 = 3;
    pub const SOFTWARE_INTERRUPT: u64 = 4;
    pub const PRIVILEGED_SOFTWARE_EXCEPTION: u64 = 5;
    pub const SOFTWARE_EXCEPTION: u64 = 6;
    pub const OTHER: u64 = 7;
}

/// Kind and vector of the event that the entry injects.
pub(super) fn injected(checker: &Checker<'_>) -> Option<(u64, u64)> {
    const VALID: u64 = 1 << 31;
    let event = checker.read(EVENT);
    (event & VALID != 0).then_some((event >> 8 & 0b111, event & 0xFF))
}

fn event(checker: &mut Checker<'_>) {
    const ERROR_CODE: u64 = 1 << 11;
    const EVENT_RESERVED: u64 = 0x7FFF_F000;
    let Some((kind, vector)) = injected(checker) else {
        return;
    };
    let has_trap_flag = checker.limits.of(Group::Primary).may & group::MONITOR_TRAP_FLAG.bit != 0;
    let known = kind != 1 && (kind != kind::OTHER || has_trap_flag);
    checker.require(known, EVENT, "must have a type (bits 10:8) that is not reserved");
    match kind {
        kind::NMI => checker.require(vector == 2, EVENT, "must have vector 2, as an NMI"),
        kind::HARDWARE_EXCEPTION => {
            let rule = "must have a vector of at most 31, as a hardware exception";
            checker.require(vector <= 31, EVENT, rule);
        }
        kind::OTHER => {
            checker.require(vector == 0, EVENT, "must have vector 0, as \"other event\"")
        }
        _ => {}
    }
    error_code_bit(checker, kind, vector, ERROR_CODE);
    checker.zero(EVENT, EVENT_RESERVED, RESERVED);
    if checker.read(EVENT) & ERROR_CODE != 0 {
        checker.zero(EVENT_ERROR_CODE, !0xFFFF, RESERVED);
    }
    if matches!(
        kind,
        kind::SOFTWARE_INTERRUPT | kind::PRIVILEGED_SOFTWARE_EXCEPTION | kind::SOFTWARE_EXCEPTION
    ) {
        instruction_length(checker);
    }
}

/// An error code comes with the exceptions that have one, and with nothing else.
fn error_code_bit(checker: &mut Checker<'_>, kind: u64, vector: u64, bit: u64) {
    /// #DF, #TS, #NP, #SS, #GP, #PF, #AC.
    const WITH_ERROR_CODE: [u64; 7] = [8, 10, 11, 12, 13, 14, 17];
    /// `IA32_VMX_BASIC`: hardware exceptions are injected with or without an error code,
    /// whatever their vector (SDM Vol. 3D, A.1).
    const BASIC_ANY_ERROR_CODE: u64 = 1 << 56;
    // Without "unrestricted guest", processors take CR0.PE for 1 here, whatever it is.
    let protected =
        !checker.has(group::UNRESTRICTED_GUEST) || checker.vmcs.read(guest::CR0) & cr0::PE != 0;
    if kind != kind::HARDWARE_EXCEPTION {
        checker.zero(EVENT, bit, "must be 0: only hardware exceptions have an error code");
    } else if !protected {
        checker.zero(EVENT, bit, "must be 0: no error codes in real mode");
    } else if checker.limits.basic & BASIC_ANY_ERROR_CODE == 0 {
        if WITH_ERROR_CODE.contains(&vector) {
            checker.ones(EVENT, bit, "must be 1: the exception has an error code");
        } else {
            checker.zero(EVENT, bit, "must be 0: the exception has no error code");
        }
    }
}

fn instruction_length(checker: &mut Checker<'_>) {
    /// `IA32_VMX_MISC`: an instruction may have length 0 (SDM Vol. 3D, A.6).
    const MISC_LENGTH_0: u64 = 1 << 30;
    let length = checker.read(EVENT_LENGTH);
    checker.require(length <= 15, EVENT_LENGTH, "must be at most 15");
    if checker.limits.misc & MISC_LENGTH_0 == 0 {
        checker.require(length != 0, EVENT_LENGTH, "must not be 0 on this processor");
    }
}
