//! The local APIC.

use crate::{A_WHILE, expect};
use bulkhead_guests::apic::{self, LVT_MASKED, icr, register};
use bulkhead_guests::cpu::{self, rdmsr, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::{interrupts, smp};

/// Registers, and what they are after reset (SDM Vol. 3A, 11.4.7.1 and 11.12.5.1).
const AFTER_RESET: [(&str, u32, u64); 13] = [
    ("TPR", register::TPR, 0),
    ("PPR", register::PPR, 0),
    ("SVR", register::SVR, 0xFF),
    ("ESR", register::ESR, 0),
    ("ICR", register::ICR, 0),
    ("LVT timer", register::LVT_TIMER, LVT_MASKED),
    ("LVT LINT0", register::LVT_LINT0, LVT_MASKED),
    ("LVT LINT1", register::LVT_LINT1, LVT_MASKED),
    ("LVT error", register::LVT_ERROR, LVT_MASKED),
    ("the timer's initial count", register::TIMER_INITIAL, 0),
    ("the timer's current count", register::TIMER_CURRENT, 0),
    ("the timer's divider", register::TIMER_DIVIDE, 0),
    ("the first part of TMR", register::TMR, 0),
];

/// A vector that stays in service, and others that wait.
const IN_SERVICE: u8 = 0x41;
const WAITING: [u8; 4] = [0x30, 0x42, 0x99, 0xFE];

/// Looks whether it is as after reset.
pub fn look() {
    for (name, msr, expected) in AFTER_RESET {
        expect(name, rdmsr(msr), expected);
    }
    for (name, first) in [("ISR", register::ISR), ("IRR", register::IRR)] {
        expect(format_args!("any bit of {name}"), apic::any_vector(first).into(), 0);
    }
}

/// Leaves an interrupt in service and others waiting, the timer running, and entries in use.
pub fn leave() {
    interrupts::handle(IN_SERVICE, |_| {
        for vector in WAITING.into_iter().chain([IN_SERVICE]) {
            apic::interrupt_self(vector);
        }
        apic::start_periodic(WAITING[0], 1000);
        // SAFETY: entries that interrupt nobody, as nothing raises them.
        unsafe {
            wrmsr(register::LVT_LINT0, WAITING[1].into());
            wrmsr(register::LVT_LINT1, icr::NMI);
            wrmsr(register::LVT_ERROR, WAITING[2].into());
        }
        apic::set_task_priority(0x20);
        smp::delay(A_WHILE);
        // Out of the handler without an end of interrupt: it stays in service.
        cpu::undefined();
    });
    cpu::disable_interrupts();
    apic::enable();
    expect_fault(|| {
        apic::interrupt_self(IN_SERVICE);
        interrupts::let_in_for(A_WHILE);
    });
}
