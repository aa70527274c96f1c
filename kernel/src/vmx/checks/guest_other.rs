//! Checks on the rest of the guest state (SDM Vol. 3C, 27.3.1.3 to 27.3.1.6): descriptor tables,
//! RIP, RFLAGS and SSP, state that is not in registers, and PDPTEs.

use super::controls::{injected, kind};
use super::{BEYOND_WIDTH, Checker, Field, RESERVED, common, group, guest_segments};
use crate::arch::cpu::{cr0, cr4};
use x86::vmx::vmcs::guest;

/// Base and limit of each descriptor table.
const TABLES: [(Field, Field); 2] = [
    (
        Field::new(guest::GDTR_BASE, "guest GDTR base"),
        Field::new(guest::GDTR_LIMIT, "guest GDTR limit"),
    ),
    (
        Field::new(guest::IDTR_BASE, "guest IDTR base"),
        Field::new(guest::IDTR_LIMIT, "guest IDTR limit"),
    ),
];
const RIP: Field = Field::new(guest::RIP, "guest RIP");
const RFLAGS: Field = Field::new(guest::RFLAGS, "guest RFLAGS");
/// The `x86` crate lacks this encoding (SDM Vol. 3D, table B-14).
const SSP: Field = Field::new(0x682A, "guest SSP");
const ACTIVITY: Field = Field::new(guest::ACTIVITY_STATE, "guest activity state");
const INTERRUPTIBILITY: Field =
    Field::new(guest::INTERRUPTIBILITY_STATE, "guest interruptibility state");
const PENDING_DEBUG: Field =
    Field::new(guest::PENDING_DBG_EXCEPTIONS, "guest pending debug exceptions");
const LINK_POINTER: Field = Field::new(guest::LINK_PTR_FULL, "VMCS link pointer");
const PDPTES: [Field; 4] = [
    Field::new(guest::PDPTE0_FULL, "guest PDPTE0"),
    Field::new(guest::PDPTE1_FULL, "guest PDPTE1"),
    Field::new(guest::PDPTE2_FULL, "guest PDPTE2"),
    Field::new(guest::PDPTE3_FULL, "guest PDPTE3"),
];

/// Flags of RFLAGS.
mod rflags {
    /// Bits 63:22, 15, 5 and 3.
    pub const RESERVED_0: u64 = 0xFFFF_FFFF_FFC0_8028;
    pub const RESERVED_1: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const VM: u64 = 1 << 17;
}

/// Activity states (SDM Vol. 3C, 25.4.2).
mod activity {
    pub const ACTIVE: u64 = 0;
    pub const HLT: u64 = 1;
    pub const SHUTDOWN: u64 = 2;
    pub const WAIT_FOR_SIPI: u64 = 3;
}

/// Interruptibility state (SDM Vol. 3C, table 25-3).
mod blocking {
    pub const STI: u64 = 1 << 0;
    pub const MOV_SS: u64 = 1 << 1;
    pub const SMI: u64 = 1 << 2;
    pub const NMI: u64 = 1 << 3;
    pub const ENCLAVE: u64 = 1 << 4;
}

/// Pending debug exceptions (SDM Vol. 3C, table 25-4).
mod pending {
    pub const ENABLED_BREAKPOINT: u64 = 1 << 12;
    pub const BS: u64 = 1 << 14;
    pub const RTM: u64 = 1 << 16;
}

/// #DB and #MC.
const DEBUG: u64 = 1;
const MACHINE_CHECK: u64 = 18;

/// Goes through 27.3.1.3 to 27.3.1.6.
pub(super) fn check(checker: &mut Checker<'_>) {
    checker.section = "27.3.1.3";
    for (base, limit) in TABLES {
        checker.canonical(base);
        checker.zero(limit, !0xFFFF, "must be 0, above 16 bits");
    }
    checker.section = "27.3.1.4";
    instruction_pointer(checker, RIP);
    flags(checker);
    if checker.has(group::ENTRY_LOAD_CET) {
        common::ssp(checker, SSP);
        instruction_pointer(checker, SSP);
    }
    checker.section = "27.3.1.5";
    activity_state(checker);
    interruptibility(checker);
    pending_debug(checker);
    link_pointer(checker);
    checker.section = "27.3.1.6";
    pdptes(checker);
}

/// RIP, and likewise SSP. In 64-bit mode the value need not be canonical: the bit below those
/// that must be alike may differ from them.
fn instruction_pointer(checker: &mut Checker<'_>, field: Field) {
    if !guest_segments::is_64_bit(checker) {
        checker.zero(field, !u64::from(u32::MAX), "must be 0, as the guest is not in 64-bit mode");
        return;
    }
    let spare = u64::MAX.checked_shl(checker.limits.linear_bits).unwrap_or(0);
    let upper = checker.read(field) & spare;
    let holds = upper == 0 || upper == spare;
    checker.require(holds, field, "must have equal bits beyond the linear-address width");
}

fn flags(checker: &mut Checker<'_>) {
    checker.zero(RFLAGS, rflags::RESERVED_0, RESERVED);
    checker.ones(RFLAGS, rflags::RESERVED_1, "must be 1, as reserved");
    if checker.has(group::IA32E_MODE_GUEST) {
        checker.zero(RFLAGS, rflags::VM, "must be 0: VM, with \"IA-32e mode guest\"");
    } else if checker.vmcs.read(guest::CR0) & cr0::PE == 0 {
        checker.zero(RFLAGS, rflags::VM, "must be 0: VM, as CR0.PE is 0");
    }
    if matches!(injected(checker), Some((kind::EXTERNAL_INTERRUPT, _))) {
        checker.ones(RFLAGS, rflags::IF, "must be 1: IF, for an external interrupt");
    }
}

fn activity_state(checker: &mut Checker<'_>) {
    let state = checker.read(ACTIVITY);
    // IA32_VMX_MISC[8:6]: HLT, shutdown, wait-for-SIPI (SDM Vol. 3D, A.6).
    let supported = match state {
        activity::ACTIVE => true,
        activity::HLT..=activity::WAIT_FOR_SIPI => checker.limits.misc >> (5 + state) & 1 != 0,
        _ => false,
    };
    checker.require(supported, ACTIVITY, "must be a state that the processor has");
    if state == activity::HLT {
        let holds = guest_segments::privilege_level(checker) == 0;
        checker.require(holds, ACTIVITY, "must not be HLT, as SS's DPL is not 0");
    }
    let blocked = checker.read(INTERRUPTIBILITY) & (blocking::STI | blocking::MOV_SS) != 0;
    let holds = state == activity::ACTIVE || !blocked;
    checker.require(holds, ACTIVITY, "must be active with blocking by STI or MOV SS");
    if let Some((kind, vector)) = injected(checker) {
        let machine_check = kind == kind::HARDWARE_EXCEPTION && vector == MACHINE_CHECK;
        let debug = kind == kind::HARDWARE_EXCEPTION && vector == DEBUG;
        let holds = match state {
            activity::HLT => {
                matches!(kind, kind::EXTERNAL_INTERRUPT | kind::NMI)
                    || debug
                    || machine_check
                    || kind == kind::OTHER && vector == 0
            }
            activity::SHUTDOWN => kind == kind::NMI || machine_check,
            activity::WAIT_FOR_SIPI => false,
            _ => true,
        };
        checker.require(holds, ACTIVITY, "must be one in which the injected event is possible");
    }
    if checker.has(group::ENTRY_TO_SMM) {
        let holds = state != activity::WAIT_FOR_SIPI;
        checker.require(holds, ACTIVITY, "must not be wait-for-SIPI with \"entry to SMM\"");
    }
}

fn interruptibility(checker: &mut Checker<'_>) {
    const DEFINED: u64 =
        blocking::STI | blocking::MOV_SS | blocking::SMI | blocking::NMI | blocking::ENCLAVE;
    const BOTH: u64 = blocking::STI | blocking::MOV_SS;
    let field = INTERRUPTIBILITY;
    let state = checker.read(field);
    checker.zero(field, !DEFINED, RESERVED);
    checker.require(state & BOTH != BOTH, field, "must not block by both STI and MOV SS");
    if checker.read(RFLAGS) & rflags::IF == 0 {
        checker.zero(field, blocking::STI, "must be 0: blocking by STI, as RFLAGS.IF is 0");
    }
    match injected(checker) {
        Some((kind::EXTERNAL_INTERRUPT, _)) => {
            checker.zero(field, BOTH, "must be 0: blocking, for an external interrupt");
        }
        Some((kind::NMI, _)) => {
            checker.zero(field, blocking::MOV_SS, "must be 0: blocking by MOV SS, for an NMI");
            let rule = "must be 0 on some processors: blocking by STI, for an NMI";
            checker.zero(field, blocking::STI, rule);
            if checker.has(group::VIRTUAL_NMIS) {
                checker.zero(field, blocking::NMI, "must be 0: blocking by NMI, for an NMI");
            }
        }
        _ => {}
    }
    // The hypervisor never runs in SMM. That the bit must be 1 with "entry to SMM" cannot be met
    // there, and the control itself is named.
    checker.zero(field, blocking::SMI, "must be 0: blocking by SMI, outside SMM");
    if state & blocking::ENCLAVE != 0 {
        checker.zero(field, blocking::MOV_SS, "must be 0: blocking by MOV SS, in an enclave");
        if !checker.limits.sgx {
            checker.zero(field, blocking::ENCLAVE, "must be 0, as the processor has no SGX");
        }
    }
}

fn pending_debug(checker: &mut Checker<'_>) {
    /// `IA32_DEBUGCTL`: single-step on branches.
    const BTF: u64 = 1 << 1;
    /// With RTM: everything but bits 12 and 16.
    const NOT_WITH_RTM: u64 = !(pending::ENABLED_BREAKPOINT | pending::RTM);
    let field = PENDING_DEBUG;
    let state = checker.read(INTERRUPTIBILITY);
    let defined = checker.limits.pending_debug;
    checker.zero(field, !defined, RESERVED);
    if state & (blocking::STI | blocking::MOV_SS) != 0 || checker.read(ACTIVITY) == activity::HLT {
        let stepping = checker.read(RFLAGS) & rflags::TF != 0
            && checker.vmcs.read(guest::IA32_DEBUGCTL_FULL) & BTF == 0;
        if stepping {
            checker.ones(field, pending::BS, "must be 1: BS, for a single step that is due");
        } else {
            checker.zero(field, pending::BS, "must be 0: BS, as no single step is due");
        }
    }
    if checker.read(field) & pending::RTM != 0 {
        // What is reserved anyway has been named.
        checker.zero(field, NOT_WITH_RTM & defined, "must be 0 with RTM (bit 16)");
        checker.ones(field, pending::ENABLED_BREAKPOINT, "must be 1 with RTM (bit 16)");
        if !checker.limits.rtm {
            checker.zero(field, pending::RTM, "must be 0, as the processor has no RTM");
        }
        let rule = "must be 0: blocking by MOV SS, with RTM pending";
        checker.zero(INTERRUPTIBILITY, blocking::MOV_SS, rule);
    }
}

/// All ones stands for "none". What the pointer leads to is not looked at.
fn link_pointer(checker: &mut Checker<'_>) {
    if checker.read(LINK_POINTER) != u64::MAX {
        checker.zero(LINK_POINTER, 0xFFF, "must be 0, as the address is 4-KByte aligned");
        checker.zero(LINK_POINTER, !checker.limits.structure, BEYOND_WIDTH);
    }
}

/// With PAE paging. Without EPT they are in memory, where CR3 says.
fn pdptes(checker: &mut Checker<'_>) {
    const PRESENT: u64 = 1 << 0;
    /// Bits 2:1 and 8:5.
    const ENTRY_RESERVED: u64 = 0x1E6;
    let paging = checker.vmcs.read(guest::CR0) & cr0::PG != 0;
    let pae = checker.vmcs.read(guest::CR4) & cr4::PAE != 0;
    if !(paging && pae && checker.has(group::ENABLE_EPT)) || checker.has(group::IA32E_MODE_GUEST) {
        return;
    }
    for field in PDPTES {
        if checker.read(field) & PRESENT != 0 {
            checker.zero(field, ENTRY_RESERVED, RESERVED);
            checker.zero(field, !checker.limits.physical, BEYOND_WIDTH);
        }
    }
}
