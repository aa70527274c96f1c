//! 27.2.1: the VMX controls.

use super::*;

const EXECUTION: &str = "27.2.1.1";
const OF_EXIT: &str = "27.2.1.2";
const OF_ENTRY: &str = "27.2.1.3";

const RESERVED: &str = "must be 0, as reserved";
const BEYOND: &str = "must be 0, beyond the physical-address width";
const MUST_BE_1: &str = "must be 1 on this processor";
const MUST_BE_0: &str = "must be 0 on this processor";
const NO_EPT: &str = "must be 0 without \"enable EPT\"";
const NO_TPR: &str = "must be 0 without \"use TPR shadow\"";

const PIN_NAME: &str = "pin-based controls";
const PRIMARY_NAME: &str = "primary processor-based controls";
const SECONDARY_NAME: &str = "secondary processor-based controls";

/// Turns the TPR shadow on, with what it needs.
const TPR: [(u32, Change); 3] = [
    (PRIMARY, Plus(1 << 21)),
    (control::VIRT_APIC_ADDR_FULL, To(0x7000)),
    (control::TPR_THRESHOLD, To(0)),
];

#[test]
fn controls_that_the_processor_insists_on_or_lacks() {
    each(
        &guest_64(),
        &skylake(),
        EXECUTION,
        &[
            (&[(PIN, Minus(1 << 4))], PIN_NAME, MUST_BE_1),
            (&[(PIN, Plus(1 << 7))], PIN_NAME, MUST_BE_0),
            (&[(PRIMARY, Minus(1 << 8))], PRIMARY_NAME, MUST_BE_1),
            (&[(PRIMARY, Plus(1 << 17))], PRIMARY_NAME, MUST_BE_0),
            (&[(SECONDARY, Plus(1 << 15))], SECONDARY_NAME, MUST_BE_0),
            (
                &[(SECONDARY, Plus(1 << 13)), (control::VM_FUNCTION_CONTROLS_FULL, To(2))],
                "VM-function controls",
                MUST_BE_0,
            ),
        ],
    );
    each(
        &guest_64(),
        &everything(),
        EXECUTION,
        &[(
            &[(PRIMARY, Plus(1 << 17)), (0x2034, To(1 << 40))],
            "tertiary processor-based controls",
            MUST_BE_0,
        )],
    );
    each(
        &guest_64(),
        &skylake(),
        OF_EXIT,
        &[
            (&[(EXIT, Minus(1 << 0))], "VM-exit controls", MUST_BE_1),
            (&[(EXIT, Plus(1 << 28))], "VM-exit controls", MUST_BE_0),
        ],
    );
    each(
        &guest_64(),
        &everything(),
        OF_EXIT,
        &[(&[(EXIT, Plus(1 << 31)), (0x2044, To(1))], "secondary VM-exit controls", MUST_BE_0)],
    );
    each(
        &guest_64(),
        &skylake(),
        OF_ENTRY,
        &[
            (&[(ENTRY, Minus(1 << 0))], "VM-entry controls", MUST_BE_1),
            (&[(ENTRY, Plus(1 << 20))], "VM-entry controls", MUST_BE_0),
        ],
    );
}

#[test]
fn secondary_controls_do_not_count_unless_activated() {
    let vmcs = guest_64().with(&[(PRIMARY, Minus(1 << 31)), (SECONDARY, To(u64::MAX))]);
    expect_valid(&vmcs, &skylake());
}

#[test]
fn what_one_control_demands_of_another() {
    each(
        &guest_64(),
        &everything(),
        EXECUTION,
        &[
            (&[(PIN, Minus(1 << 3))], PIN_NAME, "must be 0 without \"NMI exiting\""),
            (
                &[(PIN, Minus(1 << 5)), (PRIMARY, Plus(1 << 22))],
                PRIMARY_NAME,
                "must be 0 without \"virtual NMIs\"",
            ),
            (&[(SECONDARY, Plus(1 << 4))], SECONDARY_NAME, NO_TPR),
            (&[(SECONDARY, Plus(1 << 8))], SECONDARY_NAME, NO_TPR),
            (&[(SECONDARY, Plus(1 << 9)), (PIN, Plus(1))], SECONDARY_NAME, NO_TPR),
            (&[(SECONDARY, Minus(EPT))], SECONDARY_NAME, NO_EPT),
            (
                &[
                    (SECONDARY, Minus(EPT | UNRESTRICTED)),
                    (SECONDARY, Plus(1 << 17)),
                    (control::PML_ADDR_FULL, To(0x8000)),
                ],
                SECONDARY_NAME,
                NO_EPT,
            ),
            (
                &[(SECONDARY, Minus(EPT | UNRESTRICTED)), (SECONDARY, Plus(1 << 22))],
                SECONDARY_NAME,
                NO_EPT,
            ),
            (
                &[
                    (SECONDARY, Minus(EPT | UNRESTRICTED)),
                    (SECONDARY, Plus(1 << 23)),
                    (control::SUBPAGE_PERM_TABLE_PTR_FULL, To(0x8000)),
                ],
                SECONDARY_NAME,
                NO_EPT,
            ),
            (
                &[
                    (SECONDARY, Minus(EPT | UNRESTRICTED)),
                    (SECONDARY, Plus(1 << 13)),
                    (control::VM_FUNCTION_CONTROLS_FULL, To(1)),
                    (control::EPTP_LIST_ADDR_FULL, To(0x8000)),
                ],
                "VM-function controls",
                NO_EPT,
            ),
            (
                &[
                    (SECONDARY, Minus(EPT | UNRESTRICTED)),
                    (SECONDARY, Plus(1 << 24)),
                    (ENTRY, Plus(1 << 18)),
                    (EXIT, Plus(1 << 25)),
                ],
                SECONDARY_NAME,
                NO_EPT,
            ),
            (
                &[(SECONDARY, Plus(1 << 24)), (EXIT, Plus(1 << 25))],
                SECONDARY_NAME,
                "must be 0 without \"load IA32_RTIT_CTL\"",
            ),
            (
                &[(SECONDARY, Plus(1 << 24)), (ENTRY, Plus(1 << 18))],
                SECONDARY_NAME,
                "must be 0 without \"clear IA32_RTIT_CTL\"",
            ),
        ],
    );
    each(
        &guest_64().with(&TPR),
        &everything(),
        EXECUTION,
        &[
            (
                &[(SECONDARY, Plus(1 << 4 | 1 << 0)), (control::APIC_ACCESS_ADDR_FULL, To(0x8000))],
                SECONDARY_NAME,
                "must be 0 with \"virtualize APIC accesses\"",
            ),
            (
                &[(SECONDARY, Plus(1 << 9))],
                SECONDARY_NAME,
                "must be 0 without \"external-interrupt exiting\"",
            ),
        ],
    );
    each(
        &posting(),
        &everything(),
        EXECUTION,
        &[
            (
                &[(SECONDARY, Minus(1 << 9))],
                PIN_NAME,
                "must be 0 without \"virtual-interrupt delivery\"",
            ),
            (
                &[(EXIT, Minus(1 << 15))],
                PIN_NAME,
                "must be 0 without \"acknowledge interrupt on exit\"",
            ),
        ],
    );
    each(
        &guest_64(),
        &everything(),
        OF_EXIT,
        &[(
            &[(EXIT, Plus(1 << 22))],
            "VM-exit controls",
            "must be 0 without \"activate VMX-preemption timer\"",
        )],
    );
    expect_valid(&guest_64().with(&[(EXIT, Plus(1 << 22)), (PIN, Plus(1 << 6))]), &everything());
}

/// A guest to which interrupts are posted.
fn posting() -> FakeVmcs {
    guest_64().with(&TPR).with(&[
        (PIN, Plus(1 << 7 | 1 << 0)),
        (EXIT, Plus(1 << 15)),
        (SECONDARY, Plus(1 << 9)),
        (control::POSTED_INTERRUPT_NOTIFICATION_VECTOR, To(0xF2)),
        (control::POSTED_INTERRUPT_DESC_ADDR_FULL, To(0x9040)),
    ])
}

/// Each structure with a control that makes it count, its name and its alignment.
#[test]
fn addresses_of_structures() {
    const FOUR_K: &str = "must be 0, as the address is 4-KByte aligned";
    const LINE: &str = "must be 0, as the address is 64-byte aligned";
    type Structure = (&'static [(u32, Change)], u32, &'static str, u64, &'static str);
    let structures: [Structure; 12] = [
        (&[], control::IO_BITMAP_A_ADDR_FULL, "address of I/O bitmap A", 0xFFF, FOUR_K),
        (&[], control::IO_BITMAP_B_ADDR_FULL, "address of I/O bitmap B", 0xFFF, FOUR_K),
        (&[], control::MSR_BITMAPS_ADDR_FULL, "address of MSR bitmaps", 0xFFF, FOUR_K),
        (&TPR, control::VIRT_APIC_ADDR_FULL, "virtual-APIC address", 0xFFF, FOUR_K),
        (
            &[(SECONDARY, Plus(1 << 0))],
            control::APIC_ACCESS_ADDR_FULL,
            "APIC-access address",
            0xFFF,
            FOUR_K,
        ),
        (&[(SECONDARY, Plus(1 << 17))], control::PML_ADDR_FULL, "PML address", 0xFFF, FOUR_K),
        (
            &[(SECONDARY, Plus(1 << 23))],
            control::SUBPAGE_PERM_TABLE_PTR_FULL,
            "sub-page-permission-table pointer",
            0xFFF,
            FOUR_K,
        ),
        (
            &[(SECONDARY, Plus(1 << 13)), (control::VM_FUNCTION_CONTROLS_FULL, To(1))],
            control::EPTP_LIST_ADDR_FULL,
            "EPTP-list address",
            0xFFF,
            FOUR_K,
        ),
        (
            &[(SECONDARY, Plus(1 << 14)), (control::VMWRITE_BITMAP_ADDR_FULL, To(0))],
            control::VMREAD_BITMAP_ADDR_FULL,
            "VMREAD-bitmap address",
            0xFFF,
            FOUR_K,
        ),
        (
            &[(SECONDARY, Plus(1 << 14)), (control::VMREAD_BITMAP_ADDR_FULL, To(0))],
            control::VMWRITE_BITMAP_ADDR_FULL,
            "VMWRITE-bitmap address",
            0xFFF,
            FOUR_K,
        ),
        (
            &[(SECONDARY, Plus(1 << 18))],
            control::VIRT_EXCEPTION_INFO_ADDR_FULL,
            "virtualization-exception information address",
            0xFFF,
            FOUR_K,
        ),
        (
            &[],
            control::POSTED_INTERRUPT_DESC_ADDR_FULL,
            "posted-interrupt descriptor address",
            0x3F,
            LINE,
        ),
    ];
    for (control, field, name, low, rule) in structures {
        let base = if low == 0x3F { posting() } else { guest_64() }.with(control);
        let most = (1 << 46) - 1 - low;
        expect_valid(&base.with(&[(field, To(most))]), &everything());
        for bit in [1, (low + 1) >> 1] {
            let misaligned = base.with(&[(field, To(0x9000 | bit))]);
            expect(&misaligned, &everything(), &[(EXECUTION, name, rule)]);
        }
        let beyond = base.with(&[(field, To(1 << 46))]);
        expect(&beyond, &everything(), &[(EXECUTION, name, BEYOND)]);
    }
}

#[test]
fn execution_control_fields() {
    each(
        &guest_64(),
        &everything(),
        EXECUTION,
        &[
            (
                &[(control::CR3_TARGET_COUNT, To(5))],
                "CR3-target count",
                "must not exceed what the processor has",
            ),
            (&[(control::VPID, To(0))], "VPID", "must not be 0"),
            (
                &[(SECONDARY, Plus(1 << 25)), (control::TSC_MULTIPLIER_FULL, To(0))],
                "TSC multiplier",
                "must not be 0",
            ),
        ],
    );
    each(
        &guest_64().with(&TPR),
        &everything(),
        EXECUTION,
        &[(&[(control::TPR_THRESHOLD, To(0x10))], "TPR threshold", RESERVED)],
    );
    each(
        &posting(),
        &everything(),
        EXECUTION,
        &[(
            &[(control::POSTED_INTERRUPT_NOTIFICATION_VECTOR, To(0x100))],
            "posted-interrupt notification vector",
            "must be 0, as vectors are at most 255",
        )],
    );
    // The threshold does not matter with virtual-interrupt delivery.
    expect_valid(&posting().with(&[(control::TPR_THRESHOLD, To(0x10))]), &everything());
}

#[test]
fn ept_pointer() {
    const TYPE: &str = "must have a memory type (bits 2:0) that EPT supports";
    const WALK: &str = "must have a page-walk length (bits 5:3) that EPT supports";
    const FIELD: u32 = control::EPTP_FULL;
    each(
        &guest_64(),
        &everything(),
        EXECUTION,
        &[
            (&[(FIELD, To(0x10_401D))], "EPTP", TYPE),
            (&[(FIELD, To(0x10_4016))], "EPTP", WALK),
            (&[(FIELD, Plus(1 << 8))], "EPTP", RESERVED),
            (&[(FIELD, Plus(1 << 46))], "EPTP", BEYOND),
        ],
    );
    for valid in [0x10_4018, 0x10_405E, 0x10_409E, 0x10_4026] {
        expect_valid(&guest_64().with(&[(FIELD, To(valid))]), &everything());
    }
    let mut poor = skylake();
    poor.ept_vpid = 1 << 6 | 1 << 14;
    each(
        &guest_64(),
        &poor,
        EXECUTION,
        &[
            (&[(FIELD, To(0x10_4018))], "EPTP", TYPE),
            (&[(FIELD, To(0x10_4026))], "EPTP", WALK),
            (&[(FIELD, Plus(1 << 6))], "EPTP", "must be 0, as EPT has no accessed and dirty flags"),
            (&[(FIELD, Plus(1 << 7))], "EPTP", "must be 0, as EPT has no shadow-stack rights"),
        ],
    );
}

#[test]
fn msr_areas() {
    for (section, count, field, name) in [
        (
            OF_EXIT,
            control::VMEXIT_MSR_STORE_COUNT,
            control::VMEXIT_MSR_STORE_ADDR_FULL,
            "VM-exit MSR-store address",
        ),
        (
            OF_EXIT,
            control::VMEXIT_MSR_LOAD_COUNT,
            control::VMEXIT_MSR_LOAD_ADDR_FULL,
            "VM-exit MSR-load address",
        ),
        (
            OF_ENTRY,
            control::VMENTRY_MSR_LOAD_COUNT,
            control::VMENTRY_MSR_LOAD_ADDR_FULL,
            "VM-entry MSR-load address",
        ),
    ] {
        let end = 1 << 46;
        let with =
            |entries, address| guest_64().with(&[(count, To(entries)), (field, To(address))]);
        expect_valid(&with(0, 1), &skylake());
        expect_valid(&with(2, end - 32), &skylake());
        for (entries, address, rule) in [
            (1, 0x9008, "must be 0, as the address is 16-byte aligned"),
            (1, end, BEYOND),
            (3, end - 32, "must leave the area within the physical-address width"),
        ] {
            expect(&with(entries, address), &skylake(), &[(section, name, rule)]);
        }
    }
}

#[test]
fn system_management_mode() {
    let rule = "must be 0 outside SMM";
    for bit in [10, 11] {
        let vmcs = guest_64().with(&[(ENTRY, Plus(1 << bit))]);
        expect(&vmcs, &everything(), &[(OF_ENTRY, "VM-entry controls", rule)]);
    }
}
