//! What operations cost, in ticks of the TSC, which are instructions in Bochs: the guest of `cargo xtask bench`,
//! and of the test that an exit has not become dearer.
//!
//! It needs nothing of Bulkhead's but what any guest has, and runs unchanged under KVM. Each line is
//! `bench: NAME TICKS`, with one decimal, or `bench: NAME absent` where there is no second processor to try it with.
//! Command line: `rounds=N` rounds of which the least counts, 1000 without it.
#![no_std]
#![no_main]

mod alone;
mod memory;
mod timing;
mod together;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{apic, entry, power, println};

entry!(main);

/// Rounds unless the command line says otherwise.
const ROUNDS: u32 = 1000;

fn main(boot: &BootParams) -> ! {
    let rounds = boot.number("rounds", ROUNDS);
    apic::enable();
    // RAM first, while nobody has touched it.
    memory::measure(boot);
    alone::measure(rounds);
    together::measure(boot, rounds);
    println!("bench: end");
    power::power_off()
}
