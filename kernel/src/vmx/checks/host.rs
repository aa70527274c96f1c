//! Checks on the host state (SDM Vol. 3C, 27.2.2 to 27.2.4).

use super::group::{self, Group};
use super::{CANONICAL, Checker, Field, UPPER_HALF, canonical, common};
use crate::arch::cpu::{cr4, efer};
use x86::vmx::vmcs::host;

const CR0: Field = Field::new(host::CR0, "host CR0");
const CR3: Field = Field::new(host::CR3, "host CR3");
const CR4: Field = Field::new(host::CR4, "host CR4");
const RIP: Field = Field::new(host::RIP, "host RIP");
const PERF_GLOBAL_CTRL: Field =
    Field::new(host::IA32_PERF_GLOBAL_CTRL_FULL, "host IA32_PERF_GLOBAL_CTRL");
const PAT: Field = Field::new(host::IA32_PAT_FULL, "host IA32_PAT");
const EFER: Field = Field::new(host::IA32_EFER_FULL, "host IA32_EFER");
const CS: Field = Field::new(host::CS_SELECTOR, "host CS selector");
const SS: Field = Field::new(host::SS_SELECTOR, "host SS selector");
const TR: Field = Field::new(host::TR_SELECTOR, "host TR selector");
/// The `x86` crate lacks these four encodings (SDM Vol. 3D, tables B-7 and B-15).
const PKRS: Field = Field::new(0x2C06, "host IA32_PKRS");
const S_CET: Field = Field::new(0x6C18, "host IA32_S_CET");
const SSP: Field = Field::new(0x6C1A, "host SSP");
const SSP_TABLE: Field = Field::new(0x6C1C, "host IA32_INTERRUPT_SSP_TABLE_ADDR");

const SELECTORS: [Field; 7] = [
    CS,
    SS,
    Field::new(host::DS_SELECTOR, "host DS selector"),
    Field::new(host::ES_SELECTOR, "host ES selector"),
    Field::new(host::FS_SELECTOR, "host FS selector"),
    Field::new(host::GS_SELECTOR, "host GS selector"),
    TR,
];

const SYSENTER: [Field; 2] = [
    Field::new(host::IA32_SYSENTER_ESP, "host IA32_SYSENTER_ESP"),
    Field::new(host::IA32_SYSENTER_EIP, "host IA32_SYSENTER_EIP"),
];

const BASES: [Field; 5] = [
    Field::new(host::FS_BASE, "host FS base"),
    Field::new(host::GS_BASE, "host GS base"),
    Field::new(host::TR_BASE, "host TR base"),
    Field::new(host::GDTR_BASE, "host GDTR base"),
    Field::new(host::IDTR_BASE, "host IDTR base"),
];

/// Goes through 27.2.2 to 27.2.4.
pub(super) fn check(checker: &mut Checker<'_>) {
    checker.section = "27.2.2";
    registers(checker);
    checker.section = "27.2.3";
    segments(checker);
    checker.section = "27.2.4";
    address_space(checker);
}

fn registers(checker: &mut Checker<'_>) {
    common::fixed_bits(checker, CR0, CR4, 0);
    common::cr3(checker, CR3);
    for field in SYSENTER {
        checker.canonical(field);
    }
    if checker.has(group::EXIT_LOAD_PERF) {
        common::perf_global_ctrl(checker, PERF_GLOBAL_CTRL);
    }
    if checker.has(group::EXIT_LOAD_PAT) {
        common::pat(checker, PAT);
    }
    if checker.has(group::EXIT_LOAD_EFER) {
        common::efer(checker, EFER);
        let long = efer::LMA | efer::LME;
        if checker.has(group::HOST_64_BIT) {
            checker.ones(EFER, long, "must be 1 with \"host address-space size\"");
        } else {
            checker.zero(EFER, long, "must be 0 without \"host address-space size\"");
        }
    }
    if checker.has(group::EXIT_LOAD_CET) {
        common::s_cet(checker, S_CET);
        common::ssp(checker, SSP);
        checker.canonical(SSP_TABLE);
    }
    if checker.has(group::EXIT_LOAD_PKRS) {
        common::pkrs(checker, PKRS);
    }
}

fn segments(checker: &mut Checker<'_>) {
    for field in SELECTORS {
        checker.zero(field, 0b111, "must be 0: RPL and TI of a host selector");
    }
    for field in [CS, TR] {
        let holds = checker.read(field) != 0;
        checker.require(holds, field, "must not be 0");
    }
    if !checker.has(group::HOST_64_BIT) {
        let holds = checker.read(SS) != 0;
        checker.require(holds, SS, "must not be 0 without \"host address-space size\"");
    }
    for field in BASES {
        checker.canonical(field);
    }
}

/// The hypervisor is in IA-32e mode at every entry.
fn address_space(checker: &mut Checker<'_>) {
    let cet = checker.has(group::EXIT_LOAD_CET);
    if checker.has(group::HOST_64_BIT) {
        checker.ones(CR4, cr4::PAE, "must be 1 with \"host address-space size\"");
        // RIP, unlike bases and MSRs, must suit the paging mode that is loaded with it.
        let five_levels = checker.read(CR4) & common::CR4_LA57 != 0;
        let holds = canonical(checker.read(RIP), if five_levels { 57 } else { 48 });
        checker.require(holds, RIP, CANONICAL);
        if cet {
            checker.canonical(S_CET);
            checker.canonical(SSP);
        }
        return;
    }
    let exit = Group::Exit.field();
    checker.ones(exit, group::HOST_64_BIT.bit, "must be 1 for an entry from IA-32e mode");
    if checker.has(group::IA32E_MODE_GUEST) {
        let rule = "must be 0 without \"host address-space size\"";
        checker.zero(Group::Entry.field(), group::IA32E_MODE_GUEST.bit, rule);
    }
    checker.zero(CR4, cr4::PCIDE, "must be 0 without \"host address-space size\"");
    checker.zero(RIP, !u64::from(u32::MAX), UPPER_HALF);
    if cet {
        checker.zero(S_CET, !u64::from(u32::MAX), UPPER_HALF);
        checker.zero(SSP, !u64::from(u32::MAX), UPPER_HALF);
    }
}
