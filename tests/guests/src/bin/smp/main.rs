//! A guest with several processors: that they start, reach each other, and share memory, as the manual
//! says.
//!
//! `cores=N` on the command line is how many there should be; `test=TEXT` runs the tests with TEXT in
//! their titles alone.
#![no_std]
#![no_main]

mod ipi;
mod nmi;
mod start;
mod stop;
mod together;
mod topology;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::{self, vector};
use bulkhead_guests::suite::{self, Shortfall};
use bulkhead_guests::{acpi, apic, cpu, entry, fail, smp};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

entry!(main);

/// Ticks for what should not come: more than it would take.
const A_WHILE: u64 = 300_000;

fn main(boot: &BootParams) -> ! {
    let groups =
        [start::TESTS, topology::TESTS, ipi::TESTS, nmi::TESTS, stop::TESTS, together::TESTS];
    apic::enable();
    interrupts::handle(vector::NMI, |_| {});
    suite::run(boot, &groups)
}

/// How many processors there are.
fn count(boot: &BootParams) -> usize {
    acpi::processors(boot).count().min(smp::MOST)
}

/// The processors beside this one, all of which wait for a job with interrupts on. Those that do not
/// are started.
fn others(boot: &BootParams) -> Result<Range<usize>, Shortfall> {
    let others = 1..count(boot);
    for number in others.clone() {
        let idle = smp::starts(number) > 0 && smp::ends(number, 0);
        if !idle && smp::start(number, apic::enable).is_none() {
            fail!("processor {number} does not come up");
        }
        if !smp::ends(number, smp::PATIENCE) {
            fail!("processor {number} does not get ready");
        }
    }
    Ok(others)
}

/// What a processor can be doing when something comes.
type Job = (&'static str, fn());

/// Jobs that end when [`release`] is called, or when something wakes their processor.
const SPINNING: Job = ("spinning", || {
    cpu::enable_interrupts();
    spin();
});
const DEAF: Job = ("spinning with interrupts off", spin);
const ASLEEP: Job = ("asleep", || {
    while !RELEASED.load(Ordering::SeqCst) {
        ROUNDS.fetch_add(1, Ordering::SeqCst);
        cpu::halt();
    }
});
const DEAF_ASLEEP: Job = ("asleep with interrupts off", || {
    ROUNDS.fetch_add(1, Ordering::SeqCst);
    cpu::halt_without_interrupts();
    ROUNDS.fetch_add(1, Ordering::SeqCst);
});

static RELEASED: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);

fn spin() {
    while !RELEASED.load(Ordering::SeqCst) {
        ROUNDS.fetch_add(1, Ordering::SeqCst);
        core::hint::spin_loop();
    }
}

/// Rounds that jobs have gone through.
fn rounds() -> u64 {
    ROUNDS.load(Ordering::SeqCst)
}

/// Has a processor begin such a job, and waits until it is at it.
fn occupy(number: usize, (_, job): Job) {
    RELEASED.store(false, Ordering::SeqCst);
    let before = rounds();
    smp::begin(number, job);
    smp::wait(smp::PATIENCE, || rounds() > before);
    // From the count of its round to its sleep.
    smp::delay(A_WHILE / 10);
}

/// Lets those go that spin, and those that are asleep as soon as they wake.
fn release() {
    RELEASED.store(true, Ordering::SeqCst);
}
