//! A guest in its steady state: sleeps, wakes at its timer's interrupt, sleeps again. After it
//! has begun, it should cause no exit until it is done.
//!
//! Command line: `ticks=N` interrupts, 100 without it, every `period=N` of the timer's ticks.
//! A heartbeat is printed at the beginning and at the end only, as the console exits; with
//! `quiet=1`, none at all.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{apic, cpu, entry, interrupts, power, println};

entry!(main);

const TIMER_VECTOR: u8 = 0x40;
const DEFAULT_TICKS: u64 = 100;
const DEFAULT_PERIOD: u32 = 100_000;

fn main(boot: &BootParams) -> ! {
    let ticks = boot.number("ticks", DEFAULT_TICKS);
    let period = boot.number("period", DEFAULT_PERIOD);
    let quiet = boot.number("quiet", 0) > 0;
    if !quiet {
        println!("idle for {ticks} ticks of {period}");
    }
    apic::enable();
    apic::start_periodic(TIMER_VECTOR, period);
    while interrupts::count(TIMER_VECTOR) < ticks {
        cpu::halt();
    }
    apic::stop_timer();
    if !quiet {
        println!("heartbeat: {} ticks", interrupts::count(TIMER_VECTOR));
    }
    power::power_off()
}
