//! Two processors that send each other IPIs, each when the other's has come, and what a round trip costs.
//!
//! Command line: `rounds=N` round trips, 1000 without it; `wait=halt` to sleep in between, otherwise
//! they spin. Nothing else is done meanwhile, so that two runs differ by what their rounds cost.
#![no_std]
#![no_main]

use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::count_of;
use bulkhead_guests::{cpu, entry, power, println, smp};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

entry!(main);

const VECTOR: u8 = 0x40;
const DEFAULT_ROUNDS: u64 = 1000;

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static HALT: AtomicBool = AtomicBool::new(false);

fn main(boot: &BootParams) -> ! {
    let rounds = boot.number("rounds", DEFAULT_ROUNDS);
    ROUNDS.store(rounds, Ordering::SeqCst);
    HALT.store(boot.option("wait") == Some("halt"), Ordering::SeqCst);
    apic::enable();
    if smp::start(1, apic::enable).is_none() || !smp::ends(1, smp::PATIENCE) {
        println!("processor 1 does not come up");
        power::power_off();
    }
    smp::begin(1, || {
        for round in 1..=ROUNDS.load(Ordering::SeqCst) {
            wait_for(1, round);
            send(0);
        }
    });
    let start = cpu::rdtsc();
    for round in 1..=rounds {
        send(1);
        wait_for(0, round);
    }
    let ticks = cpu::rdtsc() - start;
    let ended = smp::ends(1, smp::PATIENCE);
    println!("{rounds} round trips of {} ticks, ended: {ended}", ticks / rounds.max(1));
    power::power_off()
}

fn send(to: u32) {
    apic::command(icr::to(to) | icr::ASSERT | u64::from(VECTOR));
}

/// Waits on a processor until so many IPIs have come to it.
fn wait_for(number: usize, round: u64) {
    while count_of(number, VECTOR) < round {
        if HALT.load(Ordering::SeqCst) {
            cpu::halt();
        } else {
            cpu::enable_interrupts();
            core::hint::spin_loop();
            cpu::disable_interrupts();
        }
    }
}
