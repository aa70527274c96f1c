//! The APIC timer.

use bulkhead_guests::apic;
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu;
use bulkhead_guests::ensure;
use bulkhead_guests::interrupts::{self, count};
use bulkhead_guests::suite::{Outcome, Test, same};

pub const TESTS: &[Test] = &[
    Test {
        title: "the timer fires once, while the processor sleeps",
        what: "one-shot mode, HLT; no second interrupt after it",
        run: one_shot,
    },
    Test {
        title: "the timer fires again and again",
        what: "periodic mode, HLT twenty times; none after it was stopped",
        run: periodic,
    },
    Test {
        title: "the timer counts down to zero without an interrupt when masked",
        what: "one-shot mode with the mask bit",
        run: masked,
    },
    Test {
        title: "the timer takes its time",
        what: "one-shot of ten times the count takes ten times as long, by the TSC",
        run: proportion,
    },
];

const VECTOR: u8 = 0x43;
/// Timer ticks: short in an emulator, where one is an instruction, and on hardware.
const COUNT: u32 = 200_000;
/// TSC ticks in which nothing may come.
const A_WHILE: u64 = 10 * COUNT as u64;

fn one_shot(_: &BootParams) -> Outcome {
    let before = count(VECTOR);
    apic::start_one_shot(VECTOR, COUNT);
    while count(VECTOR) == before {
        cpu::halt();
    }
    interrupts::let_in_for(A_WHILE);
    same("the count", count(VECTOR) - before, 1)?;
    same("what is left", apic::timer_left().into(), 0)
}

fn periodic(_: &BootParams) -> Outcome {
    const TIMES: u64 = 20;
    let before = count(VECTOR);
    apic::start_periodic(VECTOR, COUNT);
    for _ in 0..TIMES {
        cpu::halt();
    }
    apic::stop_timer();
    same("the count", count(VECTOR) - before, TIMES)?;
    // One may have been on its way.
    interrupts::let_in_for(A_WHILE);
    let stopped = count(VECTOR);
    interrupts::let_in_for(A_WHILE);
    same("the count after it was stopped", count(VECTOR) - stopped, 0)
}

fn masked(_: &BootParams) -> Outcome {
    /// Ticks of the TSC that it may take.
    const PATIENCE: u64 = 1 << 32;
    let before = interrupts::count_all();
    apic::start_masked(COUNT);
    let ended = interrupts::wait_for(PATIENCE, || apic::timer_left() == 0);
    ensure!(ended, "{} is left", apic::timer_left());
    same("the count", interrupts::count_all() - before, 0)
}

fn proportion(_: &BootParams) -> Outcome {
    const FACTOR: u64 = 10;
    let time = |ticks: u32| {
        let before = count(VECTOR);
        let start = cpu::rdtsc();
        apic::start_one_shot(VECTOR, ticks);
        while count(VECTOR) == before {
            cpu::halt();
        }
        cpu::rdtsc() - start
    };
    let (short, long) = (time(COUNT), time(COUNT * FACTOR as u32));
    let factor = long / short.max(1);
    ensure!((FACTOR - 2..=FACTOR).contains(&factor), "{short} and {long} ticks");
    Ok(())
}
