//! What exits cost, and what does not exit: ticks of the TSC for each of a list of operations.
//!
//! An operation is timed in batches, as the TSC may move in steps; of many batches the least
//! counts, so that what came in between does not.
#![no_std]
#![no_main]

use bulkhead_guests::apic::{self, register};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{console, cpu, entry, interrupts, port, power, println};
use core::hint::black_box;

entry!(main);

/// Batches of which the least counts, and operations in one.
const BATCHES: u32 = 1000;
const BATCH: u64 = 10;

const VECTOR: u8 = 0x40;
/// Where old PCs show how far they have come; nothing answers.
const POST_CODE_PORT: u16 = 0x80;
/// A hypercall that there is not.
const NO_CALL: u64 = u64::MAX;

/// The operations, and what is to be said of them.
const OPERATIONS: [(&str, fn()); 13] = [
    ("CPUID", || drop_value(cpu::cpuid(0, 0))),
    ("VMCALL", || drop_value(cpu::vmcall(NO_CALL))),
    ("RDMSR APIC base", || drop_value(cpu::rdmsr(register::BASE))),
    ("WRMSR LVT error", mask_errors),
    ("RDMSR x2APIC ID", || drop_value(cpu::rdmsr(register::ID))),
    ("WRMSR x2APIC EOI", apic::end_of_interrupt),
    ("WRMSR x2APIC TPR", || apic::set_task_priority(0)),
    ("WRMSR x2APIC self-IPI", || apic::interrupt_self(VECTOR)),
    ("WRMSR x2APIC ICR, self", || apic::command(apic::icr::SELF | u64::from(VECTOR))),
    ("WRMSR x2APIC ICR, ID 0", || apic::command(u64::from(VECTOR))),
    ("OUT 0x80", || port::write(POST_CODE_PORT, 0u8)),
    ("IN UART line status", || drop_value(port::read::<u8>(console::LINE_STATUS))),
    ("RDTSC", || drop_value(cpu::rdtsc())),
];

fn main(_boot: &BootParams) -> ! {
    apic::enable();
    // Interrupts stay off: the IPIs add up to one that waits.
    let nothing = least(|| {});
    println!("cost in TSC ticks, least of {BATCHES} batches of {BATCH}:");
    for (name, operation) in OPERATIONS {
        let cost = least(operation).saturating_sub(nothing);
        println!("{name:<24}{:>8}.{}", cost / BATCH, cost % BATCH);
    }
    interrupts::wait_for(u64::from(u32::MAX), || interrupts::count(VECTOR) > 0);
    power::power_off()
}

/// Ticks of the quickest batch.
fn least(operation: fn()) -> u64 {
    let operation = black_box(operation);
    let batch = |_| {
        let start = cpu::rdtsc();
        for _ in 0..BATCH {
            operation();
        }
        cpu::rdtsc() - start
    };
    (0..BATCHES).map(batch).min().unwrap_or(0)
}

fn drop_value<T>(value: T) {
    black_box(value);
}

fn mask_errors() {
    // SAFETY: a masked entry interrupts nobody.
    unsafe { cpu::wrmsr(register::LVT_ERROR, apic::LVT_MASKED) };
}
