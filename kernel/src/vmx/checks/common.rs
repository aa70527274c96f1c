//! Checks that the host state and the guest state share.

use super::{Checker, Field, RESERVED, UPPER_HALF};
use crate::arch::cpu::cr0;

/// CR4.LA57, which root mode does not use.
pub(super) const CR4_LA57: u64 = 1 << 12;
/// CR4.CET.
const CR4_CET: u64 = 1 << 23;

/// Bits of CR0 that VM entries and exits leave alone, and that are never checked.
const CR0_UNCHECKED: u64 = cr0::NW | cr0::CD;

/// `IA32_S_CET`: SUPPRESS and TRACKER.
const S_CET_SUPPRESS: u64 = 1 << 10;
const S_CET_TRACKER: u64 = 1 << 11;

/// A byte of PAT may have one of these values: UC, WC, WT, WP, WB, UC-.
const MEMORY_TYPES: [u8; 6] = [0, 1, 4, 5, 6, 7];

const FIXED_1: &str = "must be 1 in VMX operation";
const FIXED_0: &str = "must be 0 in VMX operation";

/// CR0 and CR4 against the bits that are fixed in VMX operation; `exempt` are bits of CR0 that
/// may be 0 all the same.
pub(super) fn fixed_bits(checker: &mut Checker<'_>, cr0: Field, cr4: Field, exempt: u64) {
    let (of_cr0, of_cr4) = (checker.limits.cr0, checker.limits.cr4);
    checker.ones(cr0, of_cr0.must & !CR0_UNCHECKED & !exempt, FIXED_1);
    checker.zero(cr0, !of_cr0.may & !CR0_UNCHECKED, FIXED_0);
    checker.ones(cr4, of_cr4.must, FIXED_1);
    checker.zero(cr4, !of_cr4.may, FIXED_0);
    if checker.read(cr4) & CR4_CET != 0 {
        checker.ones(cr0, cr0::WP, "must be 1, as CR4.CET is");
    }
}

/// CR3: no bits beyond the physical-address width, but for linear-address masking.
pub(super) fn cr3(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, !checker.limits.cr3, super::BEYOND_WIDTH);
}

/// `IA32_PERF_GLOBAL_CTRL`.
pub(super) fn perf_global_ctrl(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, !checker.limits.perf_global_ctrl, RESERVED);
}

/// `IA32_PAT`.
pub(super) fn pat(checker: &mut Checker<'_>, field: Field) {
    let entries = checker.read(field).to_le_bytes();
    let known = entries.iter().all(|entry| MEMORY_TYPES.contains(entry));
    checker.require(known, field, "must hold 0, 1, 4, 5, 6 or 7 in each byte");
}

/// `IA32_EFER`: the reserved bits alone.
pub(super) fn efer(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, !checker.limits.efer, RESERVED);
}

/// `IA32_S_CET`.
pub(super) fn s_cet(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, !checker.limits.s_cet, RESERVED);
    let both = S_CET_SUPPRESS | S_CET_TRACKER;
    let holds = checker.read(field) & both != both;
    checker.require(holds, field, "must not set both SUPPRESS and TRACKER");
}

/// SSP's alignment.
pub(super) fn ssp(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, 0b11, "must be 0, as SSP is 4-byte aligned");
}

/// `IA32_PKRS`.
pub(super) fn pkrs(checker: &mut Checker<'_>, field: Field) {
    checker.zero(field, !u64::from(u32::MAX), UPPER_HALF);
}
