//! Operations of one processor.

use crate::timing::{BATCH, least, print, ticks};
use bulkhead_guests::apic::{self, register};
use bulkhead_guests::{console, cpu, interrupts, port, println};
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

const VECTOR: u8 = 0x40;
/// Where old PCs show how far they have come; nothing answers.
const POST_CODE_PORT: u16 = 0x80;
/// A hypercall that there is not.
const NO_CALL: u64 = u64::MAX;
/// Ticks of the TSC that the processor sleeps: long enough that a hypervisor lets it.
const SLEEP: u64 = 20_000;
/// Ticks of the TSC in which the timer's are counted.
const CALIBRATION: u64 = 20_000_000;
/// A count that does not end before it is replaced.
const LONG: u32 = 1 << 30;
/// Of the rounds, one in so many prints bytes: each is a byte on the console.
const PRINTED: u32 = 10;

/// By name.
const OPERATIONS: [(&str, fn()); 17] = [
    // Says whether ticks are instructions: it is 100.
    ("control", hundred_nops),
    ("cpuid", || drop_value(cpu::cpuid(0, 0))),
    ("vmcall", || drop_value(cpu::vmcall(NO_CALL))),
    ("rdmsr-apic-base", || drop_value(cpu::rdmsr(register::BASE))),
    ("wrmsr-lvt", mask_errors),
    ("x2apic-id", || drop_value(cpu::rdmsr(register::ID))),
    ("eoi", apic::end_of_interrupt),
    ("tpr", || apic::set_task_priority(0)),
    ("self-ipi", || apic::interrupt_self(VECTOR)),
    ("icr-self", || apic::command(u64::from(VECTOR))),
    ("timer-count", || set_timer(LONG)),
    ("out-absent", || port::write(POST_CODE_PORT, 0u8)),
    ("uart-status", || drop_value(port::read::<u8>(console::LINE_STATUS))),
    ("rdtsc", || drop_value(cpu::rdtsc())),
    ("read-cr3", || drop_value(cpu::read_cr3())),
    ("write-cr3", reload_cr3),
    ("invlpg", || cpu::invalidate(0)),
];

pub fn measure(rounds: u32) {
    // Interrupts stay off: the IPIs add up to one that waits.
    for (name, operation) in OPERATIONS {
        print(name, least(rounds, operation));
    }
    apic::stop_timer();
    interrupts::wait_for(u64::from(u32::MAX), || interrupts::count(VECTOR) > 0);
    write_bytes(rounds / PRINTED);
    print("hlt-timer", sleep(rounds) * BATCH);
}

/// Writes to the port when it is ready, as a driver does.
fn write_bytes(rounds: u32) {
    let nothing = least(rounds, || {});
    let round = |_| {
        console::wait_until_ready();
        ticks(|| {
            for _ in 0..BATCH {
                black_box(|| port::write(console::DATA, b'.'))();
            }
        })
    };
    let least = (0..rounds).map(round).min().unwrap_or(0);
    println!();
    print("uart-byte", least.saturating_sub(nothing));
}

/// When the handler was reached.
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Ticks from setting the timer to its handler while the processor sleeps, less those that it was set for, and less
/// what the way from an interrupt to the handler's code takes. The timer need not count at the TSC's rate.
fn sleep(rounds: u32) -> u64 {
    interrupts::handle(VECTOR, |_| REACHED.store(cpu::rdtsc(), Ordering::SeqCst));
    let way = |_| {
        let start = cpu::rdtsc();
        // SAFETY: the vector has a handler.
        unsafe { asm!("int {}", const VECTOR) };
        REACHED.load(Ordering::SeqCst) - start
    };
    let way = (0..rounds).map(way).min().unwrap_or(0);
    apic::start_one_shot(VECTOR, u32::MAX);
    let (left, start) = (apic::timer_left(), cpu::rdtsc());
    while cpu::rdtsc() - start < CALIBRATION {}
    let counted = u64::from(left - apic::timer_left());
    let count = (SLEEP * counted / (cpu::rdtsc() - start)) as u32;
    let round = |_| {
        let start = cpu::rdtsc();
        set_timer(count);
        cpu::halt();
        REACHED.load(Ordering::SeqCst) - start
    };
    let slept = (0..rounds).map(round).min().unwrap_or(0);
    apic::stop_timer();
    interrupts::ignore(VECTOR);
    slept.saturating_sub(SLEEP + way)
}

fn set_timer(count: u32) {
    // SAFETY: the timer interrupts by a vector that has a stub, if at all.
    unsafe { cpu::wrmsr(register::TIMER_INITIAL, count.into()) };
}

/// The instruction is carried out all the same: none is one that the compiler may leave out.
fn drop_value<T>(_: T) {}

fn hundred_nops() {
    // SAFETY: they do nothing.
    unsafe { asm!(".rept 100", "nop", ".endr", options(nomem, nostack, preserves_flags)) };
}

fn reload_cr3() {
    // SAFETY: the value that it has.
    unsafe { cpu::write_cr3(cpu::read_cr3()) };
}

fn mask_errors() {
    // SAFETY: a masked entry interrupts nobody.
    unsafe { cpu::wrmsr(register::LVT_ERROR, apic::LVT_MASKED) };
}
