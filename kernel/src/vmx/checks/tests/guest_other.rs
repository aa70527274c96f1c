//! 27.3.1.3 to 27.3.1.6: descriptor tables, RIP, RFLAGS, SSP, other state, PDPTEs.

use super::*;

const RESERVED: &str = "must be 0, as reserved";
const BEYOND: &str = "must be 0, beyond the physical-address width";

const ACTIVITY: u32 = guest::ACTIVITY_STATE;
const INTERRUPTIBILITY: u32 = guest::INTERRUPTIBILITY_STATE;
const PENDING: u32 = guest::PENDING_DBG_EXCEPTIONS;
const RFLAGS: u32 = guest::RFLAGS;
const SSP: u32 = 0x682A;

/// RFLAGS.IF and RFLAGS.TF.
const IF: u64 = 1 << 9;
const TF: u64 = 1 << 8;
/// Events to inject.
const INTERRUPT: Change = To(0x8000_0020);
const NMI: Change = To(0x8000_0202);
const DEBUG: Change = To(0x8000_0301);
const INVALID_OPCODE: Change = To(0x8000_0306);
const MACHINE_CHECK: Change = To(0x8000_0312);
const PENDING_TRAP: Change = To(0x8000_0700);

#[test]
fn descriptor_tables() {
    each(
        &guest_64(),
        &skylake(),
        "27.3.1.3",
        &[
            (&[(guest::GDTR_BASE, To(1 << 47))], "guest GDTR base", "must be canonical"),
            (&[(guest::GDTR_LIMIT, To(1 << 16))], "guest GDTR limit", "must be 0, above 16 bits"),
            (&[(guest::IDTR_BASE, To(1 << 47))], "guest IDTR base", "must be canonical"),
            (&[(guest::IDTR_LIMIT, To(1 << 31))], "guest IDTR limit", "must be 0, above 16 bits"),
        ],
    );
}

#[test]
fn instruction_pointer_and_flags() {
    const NOT_64_BIT: &str = "must be 0, as the guest is not in 64-bit mode";
    each(
        &guest_64(),
        &skylake(),
        "27.3.1.4",
        &[
            (
                &[(guest::RIP, To(1 << 48))],
                "guest RIP",
                "must have equal bits beyond the linear-address width",
            ),
            // Compatibility mode.
            (
                &[(guest::RIP, To(1 << 32)), (guest::CS_ACCESS_RIGHTS, Minus(1 << 13))],
                "guest RIP",
                NOT_64_BIT,
            ),
            (&[(RFLAGS, Plus(1 << 3))], "guest RFLAGS", RESERVED),
            (&[(RFLAGS, Plus(1 << 5))], "guest RFLAGS", RESERVED),
            (&[(RFLAGS, Plus(1 << 15))], "guest RFLAGS", RESERVED),
            (&[(RFLAGS, Plus(1 << 22))], "guest RFLAGS", RESERVED),
            (&[(RFLAGS, Plus(1 << 63))], "guest RFLAGS", RESERVED),
            (&[(RFLAGS, Minus(1 << 1))], "guest RFLAGS", "must be 1, as reserved"),
            (&[(EVENT, INTERRUPT)], "guest RFLAGS", "must be 1: IF, for an external interrupt"),
        ],
    );
    each(
        &guest_real(),
        &skylake(),
        "27.3.1.4",
        &[(&[(guest::RIP, To(1 << 32))], "guest RIP", NOT_64_BIT)],
    );
    each(
        &guest_8086(),
        &skylake(),
        "27.3.1.4",
        &[(&[(guest::CR0, Minus(1))], "guest RFLAGS", "must be 0: VM, as CR0.PE is 0")],
    );
    let long = [
        (ENTRY, Plus(IA32E)),
        (guest::CR0, To(0x8000_0031)),
        (guest::CR4, To(0x2020)),
        (guest::IA32_EFER_FULL, To(0x500)),
    ];
    let rule = "must be 0: VM, with \"IA-32e mode guest\"";
    expect(&guest_8086().with(&long), &skylake(), &[("27.3.1.4", "guest RFLAGS", rule)]);
    // Not canonical, but as RIP is behind the last instruction of the lower half.
    for rip in [1 << 47, u64::MAX << 48] {
        expect_valid(&guest_64().with(&[(guest::RIP, To(rip))]), &skylake());
    }
}

#[test]
fn shadow_stack_pointer() {
    let cet = [(ENTRY, Plus(1 << 20)), (0x6828, To(1)), (SSP, To(0x1000)), (0x682C, To(0))];
    each(
        &guest_64().with(&cet),
        &everything(),
        "27.3.1.4",
        &[
            (&[(SSP, Plus(1))], "guest SSP", "must be 0, as SSP is 4-byte aligned"),
            (
                &[(SSP, To(1 << 60))],
                "guest SSP",
                "must have equal bits beyond the linear-address width",
            ),
        ],
    );
    each(
        &guest_pae().with(&cet),
        &everything(),
        "27.3.1.4",
        &[(&[(SSP, To(1 << 32))], "guest SSP", "must be 0, as the guest is not in 64-bit mode")],
    );
}

#[test]
fn activity() {
    const NAME: &str = "guest activity state";
    const LACKING: &str = "must be a state that the processor has";
    const BLOCKED: &str = "must be active with blocking by STI or MOV SS";
    each(
        &guest_64(),
        &skylake(),
        "27.3.1.5",
        &[
            (&[(ACTIVITY, To(4))], NAME, LACKING),
            (
                &[
                    (ACTIVITY, To(1)),
                    (guest::SS_ACCESS_RIGHTS, To(0xC0F3)),
                    (guest::CS_ACCESS_RIGHTS, To(0xA0FB)),
                ],
                NAME,
                "must not be HLT, as SS's DPL is not 0",
            ),
            (&[(ACTIVITY, To(1)), (INTERRUPTIBILITY, To(1)), (RFLAGS, Plus(IF))], NAME, BLOCKED),
            (&[(ACTIVITY, To(2)), (INTERRUPTIBILITY, To(2))], NAME, BLOCKED),
        ],
    );
    for state in 1..=3 {
        let vmcs = guest_64().with(&[(ACTIVITY, To(state))]);
        expect_valid(&vmcs, &skylake());
        let mut limits = skylake();
        limits.misc &= !(1 << (5 + state));
        expect(&vmcs, &limits, &[("27.3.1.5", NAME, LACKING)]);
    }
    let vmcs = guest_64().with(&[(ACTIVITY, To(3)), (ENTRY, Plus(1 << 10))]);
    let wanted = [
        ("27.2.1.3", "VM-entry controls", "must be 0 outside SMM"),
        ("27.3.1.5", NAME, "must not be wait-for-SIPI with \"entry to SMM\""),
    ];
    expect(&vmcs, &skylake(), &wanted);
}

/// Which events may be injected in which state.
#[test]
fn activity_and_events() {
    let rule = "must be one in which the injected event is possible";
    for (event, states) in [
        (INTERRUPT, &[0, 1][..]),
        (NMI, &[0, 1, 2]),
        (DEBUG, &[0, 1]),
        (MACHINE_CHECK, &[0, 1, 2]),
        (PENDING_TRAP, &[0, 1]),
        (INVALID_OPCODE, &[0]),
    ] {
        for state in 0..=3 {
            let vmcs =
                guest_64().with(&[(EVENT, event), (ACTIVITY, To(state)), (RFLAGS, Plus(IF))]);
            if states.contains(&state) {
                expect_valid(&vmcs, &skylake());
            } else {
                expect(&vmcs, &skylake(), &[("27.3.1.5", "guest activity state", rule)]);
            }
        }
    }
}

#[test]
fn interruptibility() {
    const NAME: &str = "guest interruptibility state";
    each(
        &guest_64().with(&[(RFLAGS, Plus(IF))]),
        &everything(),
        "27.3.1.5",
        &[
            (&[(INTERRUPTIBILITY, To(1 << 5))], NAME, RESERVED),
            (&[(INTERRUPTIBILITY, To(3))], NAME, "must not block by both STI and MOV SS"),
            (
                &[(INTERRUPTIBILITY, To(1)), (RFLAGS, Minus(IF))],
                NAME,
                "must be 0: blocking by STI, as RFLAGS.IF is 0",
            ),
            (
                &[(INTERRUPTIBILITY, To(1)), (EVENT, INTERRUPT)],
                NAME,
                "must be 0: blocking, for an external interrupt",
            ),
            (
                &[(INTERRUPTIBILITY, To(2)), (EVENT, INTERRUPT)],
                NAME,
                "must be 0: blocking, for an external interrupt",
            ),
            (
                &[(INTERRUPTIBILITY, To(2)), (EVENT, NMI)],
                NAME,
                "must be 0: blocking by MOV SS, for an NMI",
            ),
            (
                &[(INTERRUPTIBILITY, To(1)), (EVENT, NMI)],
                NAME,
                "must be 0 on some processors: blocking by STI, for an NMI",
            ),
            (
                &[(INTERRUPTIBILITY, To(8)), (EVENT, NMI)],
                NAME,
                "must be 0: blocking by NMI, for an NMI",
            ),
            (&[(INTERRUPTIBILITY, To(4))], NAME, "must be 0: blocking by SMI, outside SMM"),
            (&[(INTERRUPTIBILITY, To(0x12))], NAME, "must be 0: blocking by MOV SS, in an enclave"),
        ],
    );
    let enclave = guest_64().with(&[(INTERRUPTIBILITY, To(0x10))]);
    expect_valid(&enclave, &everything());
    let rule = "must be 0, as the processor has no SGX";
    expect(&enclave, &skylake(), &[("27.3.1.5", NAME, rule)]);
    // Without virtual NMIs blocking by NMI is the processor's own.
    let vmcs = guest_64().with(&[(INTERRUPTIBILITY, To(8)), (EVENT, NMI), (PIN, Minus(1 << 5))]);
    expect_valid(&vmcs, &skylake());
}

#[test]
fn pending_debug_exceptions() {
    const NAME: &str = "guest pending debug exceptions";
    const DUE: &str = "must be 1: BS, for a single step that is due";
    const NOT_DUE: &str = "must be 0: BS, as no single step is due";
    const BS: u64 = 1 << 14;
    each(
        &guest_64(),
        &everything(),
        "27.3.1.5",
        &[
            (&[(PENDING, To(1 << 4))], NAME, RESERVED),
            (&[(PENDING, To(1 << 10))], NAME, RESERVED),
            (&[(PENDING, To(1 << 13))], NAME, RESERVED),
            (&[(PENDING, To(1 << 15))], NAME, RESERVED),
            (&[(PENDING, To(1 << 17))], NAME, RESERVED),
            (&[(PENDING, To(0x1_1001))], NAME, "must be 0 with RTM (bit 16)"),
            (&[(PENDING, To(0x1_5000))], NAME, "must be 0 with RTM (bit 16)"),
            (&[(PENDING, To(0x1_0000))], NAME, "must be 1 with RTM (bit 16)"),
            (
                &[(PENDING, To(0x1_1000)), (INTERRUPTIBILITY, To(2))],
                "guest interruptibility state",
                "must be 0: blocking by MOV SS, with RTM pending",
            ),
        ],
    );
    let transaction = guest_64().with(&[(PENDING, To(0x1_1000))]);
    expect_valid(&transaction, &everything());
    let rule = "must be 0, as the processor has no RTM";
    expect(&transaction, &skylake(), &[("27.3.1.5", NAME, rule)]);
    let bus_lock = guest_64().with(&[(PENDING, To(1 << 11))]);
    expect_valid(&bus_lock, &everything());
    expect(&bus_lock, &skylake(), &[("27.3.1.5", NAME, RESERVED)]);

    // Blocking by STI, by MOV SS, and HLT.
    for state in [(INTERRUPTIBILITY, To(1)), (INTERRUPTIBILITY, To(2)), (ACTIVITY, To(1))] {
        let base = guest_64().with(&[state, (RFLAGS, Plus(IF))]);
        let stepping = base.with(&[(RFLAGS, Plus(TF))]);
        let by_branches = stepping.with(&[(guest::IA32_DEBUGCTL_FULL, To(2))]);
        let pending = [(PENDING, To(BS))];
        expect(&stepping, &skylake(), &[("27.3.1.5", NAME, DUE)]);
        expect_valid(&stepping.with(&pending), &skylake());
        for not_due in [base, by_branches] {
            expect_valid(&not_due, &skylake());
            expect(&not_due.with(&pending), &skylake(), &[("27.3.1.5", NAME, NOT_DUE)]);
        }
    }
}

#[test]
fn link_pointer() {
    each(
        &guest_64(),
        &skylake(),
        "27.3.1.5",
        &[
            (
                &[(guest::LINK_PTR_FULL, To(0x9800))],
                "VMCS link pointer",
                "must be 0, as the address is 4-KByte aligned",
            ),
            (&[(guest::LINK_PTR_FULL, To(1 << 46))], "VMCS link pointer", BEYOND),
        ],
    );
}

#[test]
fn page_directory_pointers() {
    for (field, name) in [
        (guest::PDPTE0_FULL, "guest PDPTE0"),
        (guest::PDPTE1_FULL, "guest PDPTE1"),
        (guest::PDPTE2_FULL, "guest PDPTE2"),
        (guest::PDPTE3_FULL, "guest PDPTE3"),
    ] {
        for (bit, rule) in
            [(1, RESERVED), (2, RESERVED), (5, RESERVED), (8, RESERVED), (46, BEYOND), (63, BEYOND)]
        {
            let vmcs = guest_pae().with(&[(field, To(0x5001 | 1 << bit))]);
            expect(&vmcs, &skylake(), &[("27.3.1.6", name, rule)]);
            // Without paging they do not count.
            expect_valid(&vmcs.with(&[(guest::CR0, Minus(1 << 31))]), &skylake());
        }
    }
}
