//! A guest to be paused, resumed and stopped: one processor counts rounds, the others do what
//! `others=` says: `cli` (spin with interrupts off), `cli-hlt` (sleep with interrupts off), `hlt`
//! (sleep), `jmp` (spin), `exits` (nothing but CPUID), `nmi` (spin in an NMI's handler), `panic` (ask a
//! hypervisor that was built for it to panic, after some rounds), or `off` (were never started).
//!
//! A round takes `period=N` ticks of the TSC, 3 million without it. With `sleep=1` the first processor
//! sleeps between rounds, woken by its timer; otherwise it spins. A line tells each round and how far the
//! TSC has come since the start.
#![no_std]
#![no_main]

use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::{self, vector};
use bulkhead_guests::{acpi, cpu, entry, println, smp};

entry!(main);

const TIMER_VECTOR: u8 = 0x40;
const DEFAULT_PERIOD: u64 = 3_000_000;

const OTHERS: [(&str, fn()); 7] = [
    ("cli", || {
        loop {
            core::hint::spin_loop();
        }
    }),
    ("cli-hlt", || cpu::halt_for_ever()),
    ("hlt", || {
        loop {
            cpu::halt();
        }
    }),
    ("jmp", || {
        cpu::enable_interrupts();
        loop {
            core::hint::spin_loop();
        }
    }),
    ("exits", || {
        loop {
            cpu::cpuid(0, 0);
        }
    }),
    ("nmi", || {
        interrupts::handle(vector::NMI, |_| {
            loop {
                core::hint::spin_loop();
            }
        });
        apic::command(icr::to(smp::number() as u32) | icr::NMI | icr::ASSERT);
        cpu::halt_for_ever()
    }),
    ("panic", || {
        /// RAX of the hypercall that panics, in a hypervisor built with the feature `testing`: "panic".
        const INJECT_PANIC: u64 = 0x70_616e_6963;
        smp::delay(3 * DEFAULT_PERIOD);
        cpu::vmcall(INJECT_PANIC);
    }),
];

fn main(boot: &BootParams) -> ! {
    let period = boot.number("period", DEFAULT_PERIOD);
    let sleep = boot.number("sleep", 0) > 0;
    let what = boot.option("others").unwrap_or("off");
    apic::enable();
    if what != "off" {
        let Some(&(_, job)) = OTHERS.iter().find(|(name, _)| *name == what) else {
            panic!("others={what}: not known")
        };
        let processors = acpi::processors(boot).count().min(smp::MOST);
        if let Err(number) = smp::start_all(processors) {
            panic!("processor {number} does not come up");
        }
        (1..processors).for_each(|number| smp::begin(number, job));
    }
    let start = cpu::rdtsc();
    for round in 1u64.. {
        println!("round {round} at {}", cpu::rdtsc() - start);
        let next = start + round * period;
        // A pause makes a round long, and the rounds behind it no shorter.
        let due = if cpu::rdtsc() < next { next } else { cpu::rdtsc() + period };
        while cpu::rdtsc() < due {
            if sleep {
                // At least one, as zero would stop the timer.
                let left = due.saturating_sub(cpu::rdtsc()).clamp(1, period);
                apic::start_one_shot(TIMER_VECTOR, left as u32);
                cpu::halt();
            }
            core::hint::spin_loop();
        }
    }
    unreachable!("rounds do not end")
}
