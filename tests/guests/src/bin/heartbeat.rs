//! A heart that must not miss a beat: a timer interrupts every so many ticks, and the handler notes
//! when it ran. At the end come the least, the largest and the mean interval between two beats, and how
//! many beats too few came for the time that passed.
//!
//! Command line: `beats=N`, 1000 without it, every `period=N` of the timer's ticks, 100,000 without it;
//! with `say=N`, a line every N beats; with `wait=1`, it begins when something is typed; with `until=1`, it ends when
//! something is typed.
//!
//! With `guard=N`, it fills N KiB of its memory with a pattern, and its whole memory behind that with another at its beginning;
//! at each beat it looks whether the former is as it was, at the end whether all is. Then it says so, and how many interrupts
//! came that are not its own.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::LINE_STATUS;
use bulkhead_guests::memory::{image, usable};
use bulkhead_guests::{apic, cpu, entry, interrupts, port, power, println};
use core::ops::Range;
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
    let guarded = Guarded::new(boot, boot.number("guard", 0));
    let mut checks = 0_u64;
    println!("heartbeat: {beats} beats of {period} ticks");
    interrupts::handle(VECTOR, |_| beat());
    apic::start_periodic(VECTOR, period);
    let mut said = 0;
    // One more, as between so many are that many intervals.
    // The look at the port, an exit, comes right after a beat and so delays none.
    while BEATS.load(Ordering::SeqCst) <= beats && !(until && typed()) {
        cpu::halt();
        if let Some(guarded) = &guarded {
            checks += 1;
            if let Some(at) = guarded.changed(&guarded.each_beat) {
                println!("memory: CHANGED at {at:#x}");
            }
        }
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
    if let Some(guarded) = &guarded {
        match guarded.changed(&guarded.all) {
            Some(at) => println!("memory: CHANGED at {at:#x}"),
            None => println!("memory: {checks} checks, and at the end of all: unchanged"),
        }
        let others = interrupts::count_all() - interrupts::count(VECTOR)
            + interrupts::count(interrupts::vector::NMI);
        println!("interrupts of others: {others}");
    }
    power::power_off()
}

/// Memory that nobody may change.
struct Guarded {
    /// Looked at at each beat.
    each_beat: Range<u64>,
    /// Looked at at the end: all from the guest's image to the end of RAM.
    all: Range<u64>,
}

impl Guarded {
    /// Fills it; nothing, where `kib` is 0.
    fn new(boot: &BootParams, kib: u64) -> Option<Self> {
        const PAGE: u64 = 4096;
        if kib == 0 {
            return None;
        }
        let start = image().end.next_multiple_of(PAGE);
        let end = usable(boot).map(|range| range.end).max().unwrap_or(start);
        let all = start..end.max(start);
        for at in all.clone().step_by(size_of::<u64>()) {
            // SAFETY: RAM behind the guest's image, which nothing uses.
            unsafe { (at as *mut u64).write_volatile(pattern(at)) };
        }
        interrupts::handle(interrupts::vector::NMI, |_| {});
        Some(Self { each_beat: start..(start + (kib << 10)).min(end), all })
    }

    /// Where a part of it is not as it was.
    fn changed(&self, part: &Range<u64>) -> Option<u64> {
        part.clone().step_by(size_of::<u64>()).find(|&at| {
            // SAFETY: RAM behind the guest's image.
            unsafe { (at as *const u64).read_volatile() != pattern(at) }
        })
    }
}

/// Another number at each address.
const fn pattern(at: u64) -> u64 {
    at.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5641_4C55_4554_5348
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
