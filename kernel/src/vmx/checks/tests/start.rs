//! The states that guests' processors start in are valid, whatever ran before.

use super::*;
use crate::arch::cpu::cr4;
use crate::vmx::start::{Start, Start32, Start64, write};
use core::convert::Infallible;

const LONG: Start = Start::Long(Start64 {
    rip: 0x100_0200,
    rsp: 0x6FF8,
    cr3: 0x8000,
    gdt_base: 0x500,
    gdt_limit: 0x1F,
    code: 0x10,
    data: 0x18,
});
const PROTECTED: Start = Start::Protected(Start32 {
    eip: 0x10_0000,
    esp: 0x6FF8,
    gdt_base: 0x500,
    gdt_limit: 0x1F,
    code: 0x10,
    data: 0x18,
});

fn started(before: &FakeVmcs, start: &Start) -> FakeVmcs {
    let mut vmcs = before.clone();
    write(start, cr4::MCE, |field, value| {
        vmcs.0.insert(field, value);
        Ok::<(), Infallible>(())
    })
    .unwrap();
    let mode = if matches!(start, Start::Long(_)) { Plus(IA32E) } else { Minus(IA32E) };
    vmcs.with(&[(ENTRY, mode)])
}

#[test]
fn each_start_is_valid_and_leaves_nothing_of_what_ran_before() {
    let stopped = guest_64().with(&[
        (guest::DR7, To(0x401)),
        (guest::INTERRUPTIBILITY_STATE, To(8)),
        (guest::ACTIVITY_STATE, To(1)),
        (guest::PENDING_DBG_EXCEPTIONS, To(0x4000)),
        (guest::RFLAGS, To(0x302)),
        (EVENT, To(0x8000_0B0E)),
    ]);
    for start in [LONG, PROTECTED, Start::Real { page: 0 }, Start::Real { page: 0xFF }] {
        let first = started(&guest_64(), &start);
        for before in [guest_real(), guest_8086(), guest_pae(), stopped.clone()] {
            let vmcs = started(&before, &start);
            expect_valid(&vmcs, &skylake());
            expect_valid(&vmcs, &everything());
            let differ: Vec<_> = first.0.iter().filter(|(f, v)| vmcs.0[f] != **v).collect();
            assert!(differ.is_empty(), "{start:?}: {differ:x?}");
        }
    }
}

#[test]
fn a_start_up_ipi_starts_at_its_page_in_real_mode() {
    let vmcs = started(&guest_64(), &Start::Real { page: 0x9A });
    for (field, value) in [
        (guest::CS_SELECTOR, 0x9A00),
        (guest::CS_BASE, 0x9_A000),
        (guest::RIP, 0),
        (guest::CR0, 0x30),
        (control::CR0_READ_SHADOW, 0x6000_0010),
        (guest::CR4, 0x2040),
        (control::CR4_READ_SHADOW, 0),
        (guest::IA32_EFER_FULL, 0),
    ] {
        assert_eq!(vmcs.0[&field], value, "field {field:#x}");
    }
}

#[test]
fn init_keeps_msrs_and_a_reset_does_not() {
    let ran = guest_64().with(&[
        (guest::IA32_PAT_FULL, To(0x0606_0606_0606_0606)),
        (guest::IA32_SYSENTER_EIP, To(0x1234)),
    ]);
    let after = |start: &Start| {
        let vmcs = started(&ran, start);
        (vmcs.0[&guest::IA32_PAT_FULL], vmcs.0[&guest::IA32_SYSENTER_EIP])
    };
    assert_eq!(after(&Start::Real { page: 8 }), (0x0606_0606_0606_0606, 0x1234));
    for start in [LONG, PROTECTED] {
        assert_eq!(after(&start), (PAT_RESET, 0));
    }
}
