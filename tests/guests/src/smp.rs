//! Further processors: started by INIT and SIPI (SDM Vol. 3A, 9.4.4), and what they are to do.
//!
//! A processor's number is its APIC ID, from 0 on. It is in `IA32_TSC_AUX`, where operating systems
//! have it, as reading that register exits nowhere and needs no memory.

use crate::apic::{self, icr};
use crate::cpu::{rdmsr, rdtsc, wrmsr};
use crate::start::{STACK_SIZE, Stack};
use crate::trampoline::{self, Found, START_PAGE};
use crate::{cpu, interrupts};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most processors of a guest here; Bochs has no more.
pub const MOST: usize = 8;

/// `IA32_TSC_AUX`.
pub const TSC_AUX: u32 = 0xC000_0103;
/// Ticks between INIT and SIPI: 10 ms at the 10 MHz of the tests' machine. Processors with VT-x
/// need none.
const INIT_DELAY: u64 = 100_000;
/// Ticks after which a processor that has been started does not come any more.
pub const PATIENCE: u64 = 10_000_000;

/// A processor as the others see it.
struct Processor {
    /// Times that it came up.
    starts: AtomicU64,
    /// What was in `IA32_TSC_AUX` when it came up last.
    auxiliary: AtomicU64,
    /// A `fn()` that waits to be run, or 0.
    job: AtomicUsize,
    /// Jobs that it has begun, and ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

static PROCESSORS: [Processor; MOST] = [const {
    Processor {
        starts: AtomicU64::new(0),
        auxiliary: AtomicU64::new(0),
        job: AtomicUsize::new(0),
        begun: AtomicU64::new(0),
        ended: AtomicU64::new(0),
    }
}; MOST];

/// Of the further processors, the first of which is number 1.
static mut STACKS: [Stack; MOST - 1] = [const { Stack::new() }; MOST - 1];

/// The processor that this runs on.
pub fn number() -> usize {
    rdmsr(TSC_AUX) as usize % MOST
}

/// Times that a processor came up.
pub fn starts(number: usize) -> u64 {
    PROCESSORS[number].starts.load(Ordering::SeqCst)
}

/// What a processor had in `IA32_TSC_AUX` when it came up last, before its number was put there.
pub fn found_auxiliary(number: usize) -> u64 {
    PROCESSORS[number].auxiliary.load(Ordering::SeqCst)
}

/// The destination that is a processor.
fn to(number: usize) -> u64 {
    icr::to(number as u32)
}

/// Sends INIT.
pub fn send_init(target: u64) {
    apic::command(target | icr::INIT | icr::ASSERT);
}

/// Sends a start-up IPI.
pub fn send_startup(target: u64, page: u8) {
    apic::command(target | icr::STARTUP | icr::ASSERT | u64::from(page));
}

/// Waits for `ticks` of the TSC.
pub fn delay(ticks: u64) {
    wait(ticks, || false);
}

/// Waits until `done`, at most for `ticks` of the TSC; says whether it came to that.
pub fn wait(ticks: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = rdtsc();
    loop {
        if done() {
            return true;
        }
        if rdtsc().wrapping_sub(start) > ticks {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// Sends INIT to a processor and waits until it has arrived.
pub fn stop(number: usize) {
    send_init(to(number));
    delay(INIT_DELAY);
    // What it was doing is over.
    let processor = &PROCESSORS[number];
    processor.job.store(0, Ordering::SeqCst);
    processor.ended.store(processor.begun.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// Starts a processor, whatever it is doing: `first` runs before anything but its stack, its
/// interrupt table and x2APIC mode are set up; after it, jobs. Gives what it found in its registers, or
/// nothing when it did not come up.
pub fn start(number: usize, first: fn()) -> Option<Found> {
    stop(number);
    start_stopped(number, first)
}

/// The same with a processor that has been sent INIT.
pub fn start_stopped(number: usize, first: fn()) -> Option<Found> {
    prepare(number, first);
    let before = starts(number);
    send_startup(to(number), START_PAGE);
    wait(PATIENCE, || starts(number) > before).then(trampoline::found)
}

/// Prepares all for a processor that is about to start.
pub fn prepare(number: usize, first: fn()) {
    let processor = &PROCESSORS[number];
    processor.job.store(first as usize, Ordering::SeqCst);
    let stacks = &raw mut STACKS as u64;
    // The first processor has a stack of its own.
    let top = stacks + (number * STACK_SIZE) as u64;
    // SAFETY: only the first processor starts others, one at a time.
    unsafe { trampoline::prepare(arrive, number as u64, top) };
}

/// Starts processors `1..processors`, with their APICs on. Gives the first that did not come up.
pub fn start_all(processors: usize) -> Result<(), usize> {
    for number in 1..processors {
        start(number, apic::enable).ok_or(number)?;
    }
    Ok(())
}

/// A further processor's first Rust.
extern "C" fn arrive(number: u64) -> ! {
    let processor = &PROCESSORS[number as usize];
    processor.auxiliary.store(rdmsr(TSC_AUX), Ordering::SeqCst);
    // SAFETY: the register is this module's.
    unsafe { wrmsr(TSC_AUX, number) };
    // After INIT it is in the mode that it was in before.
    apic::enter_x2apic_mode();
    interrupts::use_table();
    processor.starts.fetch_add(1, Ordering::SeqCst);
    loop {
        let job = processor.job.load(Ordering::SeqCst);
        if job == 0 {
            core::hint::spin_loop();
            continue;
        }
        // SAFETY: only functions of this type are put there.
        let job: fn() = unsafe { core::mem::transmute(job) };
        processor.begun.fetch_add(1, Ordering::SeqCst);
        processor.job.store(0, Ordering::SeqCst);
        cpu::disable_interrupts();
        job();
        cpu::enable_interrupts();
        processor.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Gives a processor something to do, with interrupts off. Between jobs they are on.
pub fn begin(number: usize, job: fn()) {
    let processor = &PROCESSORS[number];
    processor.job.store(job as usize, Ordering::SeqCst);
    wait(PATIENCE, || processor.job.load(Ordering::SeqCst) == 0);
}

/// Whether a processor has ended what it was given to do, within a time.
pub fn ends(number: usize, ticks: u64) -> bool {
    let processor = &PROCESSORS[number];
    wait(ticks, || {
        processor.job.load(Ordering::SeqCst) == 0
            && processor.ended.load(Ordering::SeqCst) == processor.begun.load(Ordering::SeqCst)
    })
}

/// Has a processor do something and waits for it; says whether it came to an end.
pub fn run(number: usize, job: fn()) -> bool {
    begin(number, job);
    ends(number, PATIENCE)
}
