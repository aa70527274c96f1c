//! 27.3.1.1: control registers, debug registers and MSRs.

use super::*;

const SECTION: &str = "27.3.1.1";
const RESERVED: &str = "must be 0, as reserved";
const CANONICAL: &str = "must be canonical";
const UPPER_HALF: &str = "must be 0, above 32 bits";
const WITH_IA32E: &str = "must be 1 with \"IA-32e mode guest\"";
const WITHOUT_IA32E: &str = "must be 0 without \"IA-32e mode guest\"";

const UINV: u32 = 0x0814;
const LBR_CTL: u32 = 0x2816;
const PKRS: u32 = 0x2818;
const S_CET: u32 = 0x6828;
const SSP: u32 = 0x682A;
const SSP_TABLE: u32 = 0x682C;
const BNDCFGS: u32 = guest::IA32_BNDCFGS_FULL;

#[test]
fn control_registers() {
    each(
        &guest_64(),
        &everything(),
        SECTION,
        &[
            (&[(guest::CR0, Minus(1 << 5))], "guest CR0", "must be 1 in VMX operation"),
            (&[(guest::CR0, Plus(1 << 32))], "guest CR0", "must be 0 in VMX operation"),
            (&[(guest::CR0, Minus(1 << 0))], "guest CR0", "must be 1, as CR0.PG is"),
            (&[(guest::CR4, Minus(1 << 13))], "guest CR4", "must be 1 in VMX operation"),
            (&[(guest::CR4, Plus(1 << 24))], "guest CR4", "must be 0 in VMX operation"),
            (&[(guest::CR4, Plus(1 << 23))], "guest CR0", "must be 1, as CR4.CET is"),
            (&[(guest::CR0, Minus(1 << 31))], "guest CR0", WITH_IA32E),
            (&[(guest::CR4, Minus(1 << 5))], "guest CR4", WITH_IA32E),
            (
                &[(guest::CR3, Plus(1 << 46))],
                "guest CR3",
                "must be 0, beyond the physical-address width",
            ),
        ],
    );
    each(
        &guest_pae(),
        &everything(),
        SECTION,
        &[(&[(guest::CR4, Plus(1 << 17))], "guest CR4", WITHOUT_IA32E)],
    );
}

#[test]
fn a_restricted_guest_must_have_protection_and_paging() {
    let restricted = guest_pae().with(&[(SECONDARY, Minus(UNRESTRICTED))]);
    each(
        &restricted,
        &everything(),
        SECTION,
        &[
            (&[(guest::CR0, Minus(1 << 0))], "guest CR0", "must be 1 in VMX operation"),
            (&[(guest::CR0, Minus(1 << 31))], "guest CR0", "must be 1 in VMX operation"),
        ],
    );
}

#[test]
fn debug_registers_and_msrs() {
    each(
        &guest_64(),
        &everything(),
        SECTION,
        &[
            (&[(guest::IA32_DEBUGCTL_FULL, To(1 << 3))], "guest IA32_DEBUGCTL", RESERVED),
            (&[(guest::IA32_DEBUGCTL_FULL, To(1 << 16))], "guest IA32_DEBUGCTL", RESERVED),
            (&[(guest::DR7, Plus(1 << 32))], "guest DR7", UPPER_HALF),
            (&[(guest::IA32_SYSENTER_ESP, To(1 << 60))], "guest IA32_SYSENTER_ESP", CANONICAL),
            (&[(guest::IA32_SYSENTER_EIP, To(1 << 60))], "guest IA32_SYSENTER_EIP", CANONICAL),
            (
                &[(ENTRY, Plus(1 << 13)), (guest::IA32_PERF_GLOBAL_CTRL_FULL, To(1 << 36))],
                "guest IA32_PERF_GLOBAL_CTRL",
                RESERVED,
            ),
            (
                &[(guest::IA32_PAT_FULL, To(3))],
                "guest IA32_PAT",
                "must hold 0, 1, 4, 5, 6 or 7 in each byte",
            ),
            (&[(guest::IA32_EFER_FULL, Plus(1 << 12))], "guest IA32_EFER", RESERVED),
            (
                &[(guest::IA32_EFER_FULL, Minus(1 << 8))],
                "guest IA32_EFER",
                "must have LMA equal to LME, as CR0.PG is 1",
            ),
            (&[(guest::IA32_EFER_FULL, To(0))], "guest IA32_EFER", WITH_IA32E),
            (&[(ENTRY, Plus(1 << 16)), (BNDCFGS, To(4))], "guest IA32_BNDCFGS", RESERVED),
            (
                &[(ENTRY, Plus(1 << 16)), (BNDCFGS, To(1 << 60 | 3))],
                "guest IA32_BNDCFGS",
                "must have a canonical base (bits 63:12)",
            ),
            (&[(ENTRY, Plus(1 << 21)), (LBR_CTL, To(1 << 4))], "guest IA32_LBR_CTL", RESERVED),
            (&[(ENTRY, Plus(1 << 21)), (LBR_CTL, To(1 << 23))], "guest IA32_LBR_CTL", RESERVED),
            (&[(ENTRY, Plus(1 << 22)), (PKRS, To(1 << 32))], "guest IA32_PKRS", UPPER_HALF),
            (
                &[(ENTRY, Plus(1 << 19)), (UINV, To(0x100))],
                "guest UINV",
                "must be 0, as vectors are at most 255",
            ),
        ],
    );
    each(
        &guest_real(),
        &everything(),
        SECTION,
        &[(&[(guest::IA32_EFER_FULL, Plus(1 << 10))], "guest IA32_EFER", WITHOUT_IA32E)],
    );
    // Without paging LME may be 1 alone, and without bus-lock detection its bit is reserved.
    expect_valid(&guest_real().with(&[(guest::IA32_EFER_FULL, To(1 << 8))]), &skylake());
    let bus_locks = guest_64().with(&[(guest::IA32_DEBUGCTL_FULL, To(1 << 2))]);
    expect_valid(&bus_locks, &everything());
    expect(&bus_locks, &skylake(), &[(SECTION, "guest IA32_DEBUGCTL", RESERVED)]);
}

#[test]
fn shadow_stacks() {
    let base = guest_64().with(&[
        (ENTRY, Plus(1 << 20)),
        (S_CET, To(0x1003)),
        (SSP, To(0x1000)),
        (SSP_TABLE, To(0)),
    ]);
    expect_valid(&base, &everything());
    each(
        &base,
        &everything(),
        SECTION,
        &[
            (&[(S_CET, To(1 << 60))], "guest IA32_S_CET", CANONICAL),
            (&[(S_CET, Plus(1 << 9))], "guest IA32_S_CET", RESERVED),
            (
                &[(S_CET, Plus(3 << 10))],
                "guest IA32_S_CET",
                "must not set both SUPPRESS and TRACKER",
            ),
            (&[(SSP_TABLE, To(1 << 60))], "guest IA32_INTERRUPT_SSP_TABLE_ADDR", CANONICAL),
        ],
    );
}

#[test]
fn what_no_control_loads_does_not_matter() {
    let vmcs = guest_64().with(&[
        (ENTRY, Minus(1 << 2 | 1 << 14 | 1 << 15)),
        (guest::IA32_DEBUGCTL_FULL, To(u64::MAX)),
        (guest::DR7, To(u64::MAX)),
        (guest::IA32_PAT_FULL, To(u64::MAX)),
        (guest::IA32_EFER_FULL, To(u64::MAX)),
    ]);
    expect_valid(&vmcs, &skylake());
}
