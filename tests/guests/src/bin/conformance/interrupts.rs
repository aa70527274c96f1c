//! Interrupts between processors, of which a guest with one has but itself.

use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::{self, Frame, count, vector};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{cpu, ensure};
use core::sync::atomic::{AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "an IPI to oneself arrives once",
        what: "SELF_IPI; ICR by shorthand, physical and logical destination, broadcast",
        run: to_oneself,
    },
    Test {
        title: "an IPI to others arrives nowhere",
        what: "ICR: IDs 1, 2, 255, a million, other logical ones, all but oneself",
        run: to_others,
    },
    Test {
        title: "INIT and start-up to others do nothing",
        what: "ICR: INIT and start-up to ID 1 and to all but oneself",
        run: start_others,
    },
    Test {
        title: "two IPIs of one vector that wait are one, of two vectors two",
        what: "SELF_IPI with interrupts off, then on",
        run: pending,
    },
    Test {
        title: "an interrupt below the task priority waits",
        what: "SELF_IPI with TPR above, then below its class",
        run: priority,
    },
    Test { title: "an NMI to oneself arrives", what: "ICR with NMI delivery to ID 0", run: nmi },
    Test {
        title: "an NMI waits until the one before has returned",
        what: "an NMI sent in the NMI's handler comes after IRET",
        run: nmi_blocking,
    },
    Test {
        title: "an NMI to another arrives nowhere",
        what: "ICR with NMI delivery to ID 1 and to all but oneself",
        run: nmi_to_others,
    },
    Test {
        title: "an IPI wakes from HLT",
        what: "SELF_IPI with interrupts off, then STI and HLT",
        run: wakes,
    },
];

const VECTOR: u8 = 0x41;
const OTHER_VECTOR: u8 = 0x52;
/// Ticks for what should come: more than it can take.
const PATIENCE: u64 = 100_000_000;
/// Ticks for what should not come: more than it would take.
const A_WHILE: u64 = 300_000;

/// A fixed interrupt command.
fn fixed(target: u64) -> u64 {
    target | icr::ASSERT | u64::from(VECTOR)
}

fn to_oneself(_: &BootParams) -> Outcome {
    const SELF_MSR: u64 = 0;
    let commands = [
        ("SELF_IPI", SELF_MSR),
        ("shorthand self", fixed(icr::SELF)),
        ("shorthand all", fixed(icr::ALL)),
        ("ID 0", fixed(icr::to(0))),
        ("logical ID 1", fixed(icr::LOGICAL | icr::to(1))),
        ("broadcast", fixed(icr::to(icr::BROADCAST))),
    ];
    for (name, command) in commands {
        let (before, all) = (count(VECTOR), interrupts::count_all());
        if command == SELF_MSR {
            apic::interrupt_self(VECTOR);
        } else {
            apic::command(command);
        }
        let came = interrupts::wait_for(PATIENCE, || count(VECTOR) > before);
        ensure!(came, "{name}: nothing came");
        interrupts::let_in_for(A_WHILE);
        same(format_args!("{name}: its count"), count(VECTOR) - before, 1)?;
        same(format_args!("{name}: the count of all"), interrupts::count_all() - all, 1)?;
    }
    Ok(())
}

/// Commands of which nothing may come back.
fn send_to_others(commands: &[u64]) -> Outcome {
    for &command in commands {
        let before = interrupts::count_all() + count(vector::NMI);
        apic::command(command);
        interrupts::let_in_for(A_WHILE);
        let came = interrupts::count_all() + count(vector::NMI) - before;
        same(format_args!("after {command:#x}, the count"), came, 0)?;
    }
    Ok(())
}

fn to_others(_: &BootParams) -> Outcome {
    send_to_others(&[
        fixed(icr::to(1)),
        fixed(icr::to(2)),
        fixed(icr::to(u8::MAX.into())),
        fixed(icr::to(1_000_000)),
        fixed(icr::LOGICAL | icr::to(1 << 1)),
        fixed(icr::LOGICAL | icr::to(1 << 16 | 1)),
        fixed(icr::OTHERS),
    ])
}

fn start_others(_: &BootParams) -> Outcome {
    const INIT: u64 = 0b101 << 8;
    const STARTUP: u64 = 0b110 << 8;
    const PAGE: u64 = 0x99;
    send_to_others(&[
        icr::to(1) | INIT | icr::ASSERT,
        icr::to(1) | STARTUP | icr::ASSERT | PAGE,
        icr::OTHERS | INIT | icr::ASSERT,
        icr::OTHERS | STARTUP | icr::ASSERT | PAGE,
    ])
}

fn pending(_: &BootParams) -> Outcome {
    let (first, other) = (count(VECTOR), count(OTHER_VECTOR));
    for vector in [VECTOR, OTHER_VECTOR, VECTOR, OTHER_VECTOR] {
        apic::interrupt_self(vector);
    }
    interrupts::let_in_for(A_WHILE);
    same("the first's count", count(VECTOR) - first, 1)?;
    same("the other's count", count(OTHER_VECTOR) - other, 1)
}

fn priority(_: &BootParams) -> Outcome {
    let before = count(VECTOR);
    apic::set_task_priority(VECTOR | 0xF);
    apic::interrupt_self(VECTOR);
    interrupts::let_in_for(A_WHILE);
    let early = count(VECTOR) - before;
    apic::set_task_priority(0);
    interrupts::let_in_for(A_WHILE);
    same("the count above", early, 0)?;
    same("the count below", count(VECTOR) - before, 1)
}

/// An NMI to this processor: by its ID, as the shorthand is for fixed delivery only (SDM Vol. 3A,
/// table 11-3).
const NMI_TO_ONESELF: u64 = icr::to(0) | icr::NMI | icr::ASSERT;

fn nmi(_: &BootParams) -> Outcome {
    interrupts::handle(vector::NMI, |_| {});
    let before = count(vector::NMI);
    apic::command(NMI_TO_ONESELF);
    let came = interrupts::wait_for(PATIENCE, || count(vector::NMI) > before);
    ensure!(came, "nothing came");
    interrupts::let_in_for(A_WHILE);
    same("the count", count(vector::NMI) - before, 1)
}

/// NMIs that came when the first one's handler was about to return.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

fn nmi_blocking(_: &BootParams) -> Outcome {
    fn send_another(_: &mut Frame) {
        // The second one's handler does no more.
        interrupts::handle(vector::NMI, |_| {});
        apic::command(NMI_TO_ONESELF);
        let start = cpu::rdtsc();
        while cpu::rdtsc() - start < A_WHILE {}
        IN_HANDLER.store(count(vector::NMI), Ordering::SeqCst);
    }

    interrupts::handle(vector::NMI, send_another);
    let before = count(vector::NMI);
    apic::command(NMI_TO_ONESELF);
    let came = interrupts::wait_for(PATIENCE, || count(vector::NMI) >= before + 2);
    let in_handler = IN_HANDLER.load(Ordering::SeqCst);
    ensure!(came, "{} came, not 2", count(vector::NMI) - before);
    same("the count in the handler", in_handler - before, 1)
}

fn nmi_to_others(_: &BootParams) -> Outcome {
    interrupts::handle(vector::NMI, |_| {});
    send_to_others(&[icr::to(1) | icr::NMI | icr::ASSERT, icr::OTHERS | icr::NMI | icr::ASSERT])
}

fn wakes(_: &BootParams) -> Outcome {
    let before = count(VECTOR);
    apic::interrupt_self(VECTOR);
    cpu::halt();
    same("the count", count(VECTOR) - before, 1)
}
