//! Checks on guest control registers, debug registers and MSRs (SDM Vol. 3C, 27.3.1.1).

use super::{Checker, Field, RESERVED, UPPER_HALF, canonical, common, group};
use crate::arch::cpu::{cr0, cr4, efer};
use x86::vmx::vmcs::guest;

const CR0: Field = Field::new(guest::CR0, "guest CR0");
const CR3: Field = Field::new(guest::CR3, "guest CR3");
const CR4: Field = Field::new(guest::CR4, "guest CR4");
const DR7: Field = Field::new(guest::DR7, "guest DR7");
const DEBUGCTL: Field = Field::new(guest::IA32_DEBUGCTL_FULL, "guest IA32_DEBUGCTL");
const SYSENTER: [Field; 2] = [
    Field::new(guest::IA32_SYSENTER_ESP, "guest IA32_SYSENTER_ESP"),
    Field::new(guest::IA32_SYSENTER_EIP, "guest IA32_SYSENTER_EIP"),
];
const PERF_GLOBAL_CTRL: Field =
    Field::new(guest::IA32_PERF_GLOBAL_CTRL_FULL, "guest IA32_PERF_GLOBAL_CTRL");
const PAT: Field = Field::new(guest::IA32_PAT_FULL, "guest IA32_PAT");
const EFER: Field = Field::new(guest::IA32_EFER_FULL, "guest IA32_EFER");
const BNDCFGS: Field = Field::new(guest::IA32_BNDCFGS_FULL, "guest IA32_BNDCFGS");
/// The `x86` crate lacks these five encodings (SDM Vol. 3D, tables B-2, B-6 and B-14).
const UINV: Field = Field::new(0x0814, "guest UINV");
const LBR_CTL: Field = Field::new(0x2816, "guest IA32_LBR_CTL");
const PKRS: Field = Field::new(0x2818, "guest IA32_PKRS");
const S_CET: Field = Field::new(0x6828, "guest IA32_S_CET");
const SSP_TABLE: Field = Field::new(0x682C, "guest IA32_INTERRUPT_SSP_TABLE_ADDR");

/// Goes through 27.3.1.1.
pub(super) fn check(checker: &mut Checker<'_>) {
    checker.section = "27.3.1.1";
    control_registers(checker);
    if checker.has(group::LOAD_DEBUG_CONTROLS) {
        checker.zero(DEBUGCTL, !checker.limits.debugctl, RESERVED);
        checker.zero(DR7, !u64::from(u32::MAX), UPPER_HALF);
    }
    for field in SYSENTER {
        checker.canonical(field);
    }
    if checker.has(group::ENTRY_LOAD_PERF) {
        common::perf_global_ctrl(checker, PERF_GLOBAL_CTRL);
    }
    if checker.has(group::ENTRY_LOAD_PAT) {
        common::pat(checker, PAT);
    }
    if checker.has(group::ENTRY_LOAD_EFER) {
        extended_features(checker);
    }
    optional_msrs(checker);
}

fn control_registers(checker: &mut Checker<'_>) {
    let unrestricted = checker.has(group::UNRESTRICTED_GUEST);
    common::fixed_bits(checker, CR0, CR4, if unrestricted { cr0::PE | cr0::PG } else { 0 });
    // Without "unrestricted guest" PE is one of the fixed bits.
    if unrestricted && checker.read(CR0) & cr0::PG != 0 {
        checker.ones(CR0, cr0::PE, "must be 1, as CR0.PG is");
    }
    if checker.has(group::IA32E_MODE_GUEST) {
        checker.ones(CR0, cr0::PG, "must be 1 with \"IA-32e mode guest\"");
        checker.ones(CR4, cr4::PAE, "must be 1 with \"IA-32e mode guest\"");
    } else {
        checker.zero(CR4, cr4::PCIDE, "must be 0 without \"IA-32e mode guest\"");
    }
    common::cr3(checker, CR3);
}

fn extended_features(checker: &mut Checker<'_>) {
    common::efer(checker, EFER);
    if checker.has(group::IA32E_MODE_GUEST) {
        checker.ones(EFER, efer::LMA, "must be 1 with \"IA-32e mode guest\"");
    } else {
        checker.zero(EFER, efer::LMA, "must be 0 without \"IA-32e mode guest\"");
    }
    let value = checker.read(EFER);
    let alike = (value & efer::LMA != 0) == (value & efer::LME != 0);
    let paging = checker.read(CR0) & cr0::PG != 0;
    checker.require(alike || !paging, EFER, "must have LMA equal to LME, as CR0.PG is 1");
}

/// MSRs of which Bulkhead's guests have none; each is checked where a control loads it.
fn optional_msrs(checker: &mut Checker<'_>) {
    /// Bits 11:2; the base is above them.
    const BNDCFGS_RESERVED: u64 = 0xFFC;
    const BNDCFGS_BASE: u64 = !0xFFF;
    /// What is reserved on every processor: bits 15:4 and 63:23.
    const LBR_CTL_RESERVED: u64 = 0xFFFF_FFFF_FF80_FFF0;
    if checker.has(group::ENTRY_LOAD_BNDCFGS) {
        checker.zero(BNDCFGS, BNDCFGS_RESERVED, RESERVED);
        let base = checker.read(BNDCFGS) & BNDCFGS_BASE;
        let holds = canonical(base, checker.limits.linear_bits);
        checker.require(holds, BNDCFGS, "must have a canonical base (bits 63:12)");
    }
    if checker.has(group::ENTRY_LOAD_CET) {
        checker.canonical(S_CET);
        checker.canonical(SSP_TABLE);
        common::s_cet(checker, S_CET);
    }
    if checker.has(group::ENTRY_LOAD_LBR_CTL) {
        checker.zero(LBR_CTL, LBR_CTL_RESERVED, RESERVED);
    }
    if checker.has(group::ENTRY_LOAD_PKRS) {
        common::pkrs(checker, PKRS);
    }
    if checker.has(group::ENTRY_LOAD_UINV) {
        checker.zero(UINV, !0xFF, "must be 0, as vectors are at most 255");
    }
}
