//! A heart that must not miss a beat: a timer interrupts every so many ticks, and the handler notes
//! when it ran. At the end come the least, the largest and the mean interval between two beats, and how
//! many beats too few came for the time that passed.
//!
//! Command line: `beats=N`, 1000 without it, every `period=N` of the timer's ticks, 100,000 without it;
//! with `say=N`, a line every N beats; with `wait=1`, it begins when something is typed; with `until=1`, it ends when
//! something is typed.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::LINE_STATUS;
use bulkhead_guests::{apic, cpu, entry, interrupts, port, power, println};
use core::sync::atomic::{AtomicU64, Ordering};

entry!(main);

/// Line status: a byte has come.
const DATA_READY: u8 = 1 << 0;
const VECTOR: u8 = 0x40;
const DEFAULT_BEATS: u64 = 1000;
const DEFAULT_PERIOD: u32 = 100_000;

static FIRST: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static LEAST: AtomicU64 = AtomicU64::new(u64::MAX);
static LARGEST: AtomicU64 = AtomicU64::new(0);
static BEATS: AtomicU64 = AtomicU64::new(0);

fn main(boot: &BootParams) -> ! {
    let beats = boot.number("beats", DEFAULT_BEATS);
    let period = boot.number("period", DEFAULT_PERIOD);
    let say = boot.number("say", 0);
    apic::enable();
    if boot.number("wait", 0) > 0 {
        println!("heartbeat: type to begin");
        while !typed() {
            core::hint::spin_loop();
        }
    }
    let until = boot.number("until", 0) > 0;
    println!("heartbeat: {beats} beats of {period} ticks");
    interrupts::handle(VECTOR, |_| beat());
    apic::start_periodic(VECTOR, period);
    let mut said = 0;
    // One more, as between so many are that many intervals.
    // The look at the port, an exit, comes right after a beat and so delays none.
    while BEATS.load(Ordering::SeqCst) <= beats && !(until && typed()) {
        cpu::halt();
        let now = BEATS.load(Ordering::SeqCst);
        if say > 0 && now / say > said {
            said = now / say;
            println!("beat {now}");
        }
    }
    apic::stop_timer();
    let intervals = BEATS.load(Ordering::SeqCst) - 1;
    let passed = LAST.load(Ordering::SeqCst) - FIRST.load(Ordering::SeqCst);
    let mean = passed / intervals.max(1);
    // What is not a whole period yet is none that was missed.
    let due = (passed + u64::from(period) / 2) / u64::from(period);
    let (least, largest) = (LEAST.load(Ordering::SeqCst), LARGEST.load(Ordering::SeqCst));
    let missed = due.saturating_sub(intervals);
    println!("intervals: least {least}, largest {largest}, mean {mean}; missed beats: {missed}");
    power::power_off()
}

fn typed() -> bool {
    port::read::<u8>(LINE_STATUS) & DATA_READY != 0
}

fn beat() {
    let now = cpu::rdtsc();
    if BEATS.fetch_add(1, Ordering::SeqCst) == 0 {
        FIRST.store(now, Ordering::SeqCst);
    } else {
        let interval = now - LAST.load(Ordering::SeqCst);
        LEAST.fetch_min(interval, Ordering::SeqCst);
        LARGEST.fetch_max(interval, Ordering::SeqCst);
    }
    LAST.store(now, Ordering::SeqCst);
}
