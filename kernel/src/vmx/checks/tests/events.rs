//! 27.2.1.3: the event to inject.

use super::*;

const OF_ENTRY: &str = "27.2.1.3";
const RESERVED: &str = "must be 0, as reserved";
const INFORMATION: &str = "VM-entry interruption information";
const ERROR_CODE: u32 = control::VMENTRY_EXCEPTION_ERR_CODE;
const LENGTH: u32 = control::VMENTRY_INSTRUCTION_LEN;

#[test]
fn injected_events() {
    each(
        &guest_64(),
        &skylake(),
        OF_ENTRY,
        &[
            (
                &[(EVENT, To(0x8000_0120))],
                INFORMATION,
                "must have a type (bits 10:8) that is not reserved",
            ),
            (&[(EVENT, To(0x8000_0203))], INFORMATION, "must have vector 2, as an NMI"),
            (
                &[(EVENT, To(0x8000_0320))],
                INFORMATION,
                "must have a vector of at most 31, as a hardware exception",
            ),
            (&[(EVENT, To(0x8000_0701))], INFORMATION, "must have vector 0, as \"other event\""),
            (&[(EVENT, To(0x8000_1306))], INFORMATION, RESERVED),
            (
                &[(EVENT, To(0x8000_0A02)), (ERROR_CODE, To(0))],
                INFORMATION,
                "must be 0: only hardware exceptions have an error code",
            ),
            (
                &[(EVENT, To(0x8000_0B06)), (ERROR_CODE, To(0))],
                INFORMATION,
                "must be 0: the exception has no error code",
            ),
            (
                &[(EVENT, To(0x8000_0B0D)), (ERROR_CODE, To(1 << 16))],
                "VM-entry exception error code",
                RESERVED,
            ),
            (
                &[(EVENT, To(0x8000_0480)), (LENGTH, To(16))],
                "VM-entry instruction length",
                "must be at most 15",
            ),
        ],
    );
    for vector in [8, 10, 11, 12, 13, 14, 17] {
        let bare = guest_64().with(&[(EVENT, To(0x8000_0300 | vector)), (ERROR_CODE, To(0))]);
        let rule = "must be 1: the exception has an error code";
        expect(&bare, &skylake(), &[(OF_ENTRY, INFORMATION, rule)]);
        expect_valid(&bare.with(&[(EVENT, Plus(1 << 11))]), &skylake());
    }
    each(
        &guest_real(),
        &skylake(),
        OF_ENTRY,
        &[(
            &[(EVENT, To(0x8000_0B0D)), (ERROR_CODE, To(0))],
            INFORMATION,
            "must be 0: no error codes in real mode",
        )],
    );
}

#[test]
fn what_the_processor_has_decides_of_events() {
    let mut no_trap_flag = Fake::skylake();
    let controls = no_trap_flag.msrs.get_mut(&x86::msr::IA32_VMX_TRUE_PROCBASED_CTLS).unwrap();
    *controls &= !(1 << (32 + 27));
    let pending_trap = guest_64().with(&[(EVENT, To(0x8000_0700))]);
    expect_valid(&pending_trap, &skylake());
    let rule = "must have a type (bits 10:8) that is not reserved";
    expect(&pending_trap, &no_trap_flag.limits(), &[(OF_ENTRY, INFORMATION, rule)]);

    let mut any_error_code = skylake();
    any_error_code.basic |= 1 << 56;
    for event in [0x8000_0B06, 0x8000_030D] {
        let vmcs = guest_64().with(&[(EVENT, To(event)), (ERROR_CODE, To(0))]);
        expect_valid(&vmcs, &any_error_code);
    }

    let mut no_length_0 = skylake();
    no_length_0.misc &= !(1 << 30);
    for kind in 4..=6 {
        let vmcs = guest_64().with(&[(EVENT, To(0x8000_0001 | kind << 8)), (LENGTH, To(0))]);
        expect_valid(&vmcs, &skylake());
        let rule = "must not be 0 on this processor";
        expect(&vmcs, &no_length_0, &[(OF_ENTRY, "VM-entry instruction length", rule)]);
    }
}

#[test]
fn an_event_that_is_not_valid_does_not_matter() {
    expect_valid(&guest_64().with(&[(EVENT, To(0x7FFF_FFFF))]), &skylake());
}
