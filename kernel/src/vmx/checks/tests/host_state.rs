//! 27.2.2 to 27.2.4: the host state.

use super::*;

const REGISTERS: &str = "27.2.2";
const SEGMENTS: &str = "27.2.3";
const SIZE: &str = "27.2.4";
const RESERVED: &str = "must be 0, as reserved";
const CANONICAL: &str = "must be canonical";

const PERF: u32 = host::IA32_PERF_GLOBAL_CTRL_FULL;
const PKRS: u32 = 0x2C06;
const S_CET: u32 = 0x6C18;
const SSP: u32 = 0x6C1A;
const SSP_TABLE: u32 = 0x6C1C;

/// Loads CET state at exits.
fn with_cet() -> FakeVmcs {
    guest_64().with(&[(EXIT, Plus(1 << 28)), (S_CET, To(3)), (SSP, To(0x1000)), (SSP_TABLE, To(0))])
}

#[test]
fn control_registers_and_msrs() {
    each(
        &guest_64(),
        &everything(),
        REGISTERS,
        &[
            (&[(host::CR0, Minus(1 << 5))], "host CR0", "must be 1 in VMX operation"),
            (&[(host::CR0, Plus(1 << 32))], "host CR0", "must be 0 in VMX operation"),
            (&[(host::CR4, Minus(1 << 13))], "host CR4", "must be 1 in VMX operation"),
            (&[(host::CR4, Plus(1 << 24))], "host CR4", "must be 0 in VMX operation"),
            (
                &[(host::CR4, Plus(1 << 23)), (host::CR0, Minus(1 << 16))],
                "host CR0",
                "must be 1, as CR4.CET is",
            ),
            (
                &[(host::CR3, Plus(1 << 46))],
                "host CR3",
                "must be 0, beyond the physical-address width",
            ),
            (&[(host::IA32_SYSENTER_ESP, To(1 << 60))], "host IA32_SYSENTER_ESP", CANONICAL),
            (&[(host::IA32_SYSENTER_EIP, To(1 << 60))], "host IA32_SYSENTER_EIP", CANONICAL),
            (&[(EXIT, Plus(1 << 12)), (PERF, To(1 << 4))], "host IA32_PERF_GLOBAL_CTRL", RESERVED),
            (
                &[(host::IA32_PAT_FULL, To(PAT_RESET | 2 << 56))],
                "host IA32_PAT",
                "must hold 0, 1, 4, 5, 6 or 7 in each byte",
            ),
            (&[(host::IA32_EFER_FULL, Plus(1 << 1))], "host IA32_EFER", RESERVED),
            (
                &[(host::IA32_EFER_FULL, Minus(1 << 10))],
                "host IA32_EFER",
                "must be 1 with \"host address-space size\"",
            ),
            (
                &[(host::IA32_EFER_FULL, Minus(1 << 8))],
                "host IA32_EFER",
                "must be 1 with \"host address-space size\"",
            ),
            (
                &[(EXIT, Plus(1 << 29)), (PKRS, To(1 << 32))],
                "host IA32_PKRS",
                "must be 0, above 32 bits",
            ),
        ],
    );
}

#[test]
fn shadow_stacks() {
    expect_valid(&with_cet(), &everything());
    each(
        &with_cet(),
        &everything(),
        REGISTERS,
        &[
            (&[(S_CET, Plus(1 << 6))], "host IA32_S_CET", RESERVED),
            (
                &[(S_CET, Plus(3 << 10))],
                "host IA32_S_CET",
                "must not set both SUPPRESS and TRACKER",
            ),
            (&[(SSP, Plus(2))], "host SSP", "must be 0, as SSP is 4-byte aligned"),
            (&[(SSP_TABLE, To(1 << 60))], "host IA32_INTERRUPT_SSP_TABLE_ADDR", CANONICAL),
        ],
    );
    each(
        &with_cet(),
        &everything(),
        SIZE,
        &[
            (&[(S_CET, Plus(1 << 60))], "host IA32_S_CET", CANONICAL),
            (&[(SSP, Plus(1 << 60))], "host SSP", CANONICAL),
        ],
    );
}

#[test]
fn segments() {
    for (field, name) in [
        (host::CS_SELECTOR, "host CS selector"),
        (host::SS_SELECTOR, "host SS selector"),
        (host::DS_SELECTOR, "host DS selector"),
        (host::ES_SELECTOR, "host ES selector"),
        (host::FS_SELECTOR, "host FS selector"),
        (host::GS_SELECTOR, "host GS selector"),
        (host::TR_SELECTOR, "host TR selector"),
    ] {
        for bit in 0..3 {
            let vmcs = guest_64().with(&[(field, Plus(1 << bit))]);
            let rule = "must be 0: RPL and TI of a host selector";
            expect(&vmcs, &skylake(), &[(SEGMENTS, name, rule)]);
        }
        let null = guest_64().with(&[(field, To(0))]);
        match field {
            host::CS_SELECTOR | host::TR_SELECTOR => {
                expect(&null, &skylake(), &[(SEGMENTS, name, "must not be 0")]);
            }
            _ => expect_valid(&null, &skylake()),
        }
    }
    for (field, name) in [
        (host::FS_BASE, "host FS base"),
        (host::GS_BASE, "host GS base"),
        (host::TR_BASE, "host TR base"),
        (host::GDTR_BASE, "host GDTR base"),
        (host::IDTR_BASE, "host IDTR base"),
    ] {
        let vmcs = guest_64().with(&[(field, To(1 << 47))]);
        expect(&vmcs, &skylake(), &[(SEGMENTS, name, CANONICAL)]);
        expect_valid(&vmcs, &everything());
    }
}

#[test]
fn a_64_bit_host() {
    each(
        &guest_64(),
        &everything(),
        SIZE,
        &[
            (
                &[(host::CR4, Minus(1 << 5))],
                "host CR4",
                "must be 1 with \"host address-space size\"",
            ),
            (&[(host::RIP, To(1 << 47))], "host RIP", CANONICAL),
            (&[(host::RIP, To(1 << 56)), (host::CR4, Plus(1 << 12))], "host RIP", CANONICAL),
        ],
    );
    let five_levels = guest_64().with(&[(host::RIP, To(1 << 47)), (host::CR4, Plus(1 << 12))]);
    expect_valid(&five_levels, &everything());
}

/// The hypervisor is 64-bit, so that this control is itself a violation.
#[test]
fn a_host_that_is_not_64_bit() {
    let exit = (SIZE, "VM-exit controls", "must be 1 for an entry from IA-32e mode");
    let base = guest_real().with(&[
        (EXIT, Minus(1 << 9)),
        (host::IA32_EFER_FULL, To(0x801)),
        (host::RIP, To(0x10_0000)),
    ]);
    let limits = everything();
    expect(&base, &limits, &[exit]);
    let rule = "must be 0 without \"host address-space size\"";
    for bit in [8, 10] {
        let vmcs = base.with(&[(host::IA32_EFER_FULL, Plus(1 << bit))]);
        expect(&vmcs, &limits, &[(REGISTERS, "host IA32_EFER", rule), exit]);
    }
    let vmcs = base.with(&[(host::SS_SELECTOR, To(0))]);
    let null = "must not be 0 without \"host address-space size\"";
    expect(&vmcs, &limits, &[(SEGMENTS, "host SS selector", null), exit]);
    let vmcs = base.with(&[(host::CR4, Plus(1 << 17))]);
    expect(&vmcs, &limits, &[exit, (SIZE, "host CR4", rule)]);
    let vmcs = base.with(&[(host::RIP, Plus(1 << 32))]);
    let upper = "must be 0, above 32 bits";
    expect(&vmcs, &limits, &[exit, (SIZE, "host RIP", upper)]);
    let vmcs = base.with(&[
        (EXIT, Plus(1 << 28)),
        (S_CET, To(1 << 32)),
        (SSP, To(1 << 32)),
        (SSP_TABLE, To(0)),
    ]);
    let cet = [exit, (SIZE, "host IA32_S_CET", upper), (SIZE, "host SSP", upper)];
    expect(&vmcs, &limits, &cet);
    let vmcs = guest_64().with(&[
        (EXIT, Minus(1 << 9)),
        (host::IA32_EFER_FULL, To(0x801)),
        (host::RIP, To(0x10_0000)),
    ]);
    expect(&vmcs, &limits, &[exit, (SIZE, "VM-entry controls", rule)]);
}

#[test]
fn bits_that_exits_leave_alone_are_not_checked() {
    let mut limits = skylake();
    limits.cr0.may &= !(3 << 29);
    for register in [host::CR0, guest::CR0] {
        expect_valid(&guest_64().with(&[(register, Plus(3 << 29))]), &limits);
    }
    limits.cr0.must |= 3 << 29;
    expect_valid(&guest_64(), &limits);
}

#[test]
fn linear_address_masking_uses_bits_of_cr3() {
    for (field, name, section) in
        [(host::CR3, "host CR3", REGISTERS), (guest::CR3, "guest CR3", "27.3.1.1")]
    {
        let masked = guest_64().with(&[(field, Plus(3 << 61))]);
        expect_valid(&masked, &everything());
        let rule = "must be 0, beyond the physical-address width";
        expect(&masked, &skylake(), &[(section, name, rule)]);
    }
}
