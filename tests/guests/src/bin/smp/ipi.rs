//! Interrupts between processors: each arrives at those whom it names, once, and nowhere else.

use crate::{A_WHILE, ASLEEP, DEAF, count, occupy, others, release};
use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::{self, count_all_of, count_of, vector};
use bulkhead_guests::smp::{self, MOST};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{cpu, ensure};
use core::sync::atomic::{AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "an IPI to an ID arrives there",
        what: "ICR with physical destinations, from each processor to each",
        run: physical,
    },
    Test {
        title: "an IPI to logical IDs arrives there",
        what: "ICR with logical destinations: every set of processors, from each",
        run: logical,
    },
    Test {
        title: "an IPI by shorthand or broadcast arrives at those it means",
        what: "self, all, all but oneself, 0xFFFFFFFF physical and logical, from each",
        run: shorthands,
    },
    Test {
        title: "an IPI to whom there is not arrives nowhere",
        what: "IDs n, n+1, 8 to 15, 254, 255, a million; logical IDs beyond n, other clusters",
        run: nobody,
    },
    Test {
        title: "an IPI of lowest priority arrives at exactly one",
        what: "to all logical IDs, to each ID, from each processor",
        run: lowest_priority,
    },
    Test {
        title: "every vector from 32 on arrives",
        what: "a fixed IPI with each, to each other processor",
        run: vectors,
    },
    Test {
        title: "an IPI with a vector below 16 arrives nowhere",
        what: "vectors 0 to 15 to the next processor, as no exception either",
        run: illegal_vectors,
    },
    Test {
        title: "an IPI wakes a processor that sleeps",
        what: "HLT with interrupts on, on each",
        run: wakes,
    },
    Test {
        title: "an IPI waits while interrupts are off",
        what: "one vector three times and another once: two arrive when they are let in",
        run: pending,
    },
];

const VECTOR: u8 = 0x61;
const OTHER_VECTOR: u8 = 0x72;

/// A fixed interrupt command.
fn fixed(target: u64) -> u64 {
    target | icr::ASSERT | u64::from(VECTOR)
}

/// What the next sender is to send.
static COMMAND: AtomicU64 = AtomicU64::new(0);

fn send_command() {
    apic::command(COMMAND.load(Ordering::SeqCst));
}

/// Sends a command from a processor.
fn send(from: usize, command: u64) -> Outcome {
    if from == 0 {
        apic::command(command);
    } else {
        COMMAND.store(command, Ordering::SeqCst);
        ensure!(smp::run(from, send_command), "processor {from} does not send");
    }
    Ok(())
}

/// The vector's counts on each processor, and those of all interrupts and of NMIs.
fn counts() -> [(u64, u64); MOST] {
    core::array::from_fn(|number| {
        (count_of(number, VECTOR), count_all_of(number) + count_of(number, vector::NMI))
    })
}

/// Sends a command and gives the set of processors that it arrived at, each once; fails if one got
/// more, or something else.
fn reached(from: usize, command: u64, expected: Option<u64>) -> Result<u64, suite::Shortfall> {
    let before = counts();
    let set = || {
        let came = counts().into_iter().zip(before).map(|(now, before)| now.0 - before.0);
        came.enumerate().fold(0, |set, (number, came)| set | u64::from(came > 0) << number)
    };
    send(from, command)?;
    interrupts::wait_for(A_WHILE, || expected.is_some_and(|expected| set() == expected));
    // What should not come, and what comes twice.
    interrupts::let_in_for(A_WHILE / 10);
    for (number, (now, before)) in counts().into_iter().zip(before).enumerate() {
        let (came, all) = (now.0 - before.0, now.1 - before.1);
        ensure!(
            came <= 1 && all == came,
            "{command:#x} from {from}: {came} at {number}, {all} of all vectors"
        );
    }
    Ok(set())
}

use bulkhead_guests::suite;

/// Sends a command and fails unless it arrives at a set of processors, at each once.
fn reaches(from: usize, command: u64, expected: u64) -> Outcome {
    let set = reached(from, command, Some(expected))?;
    same(format_args!("{command:#x} from {from}: the set of those reached"), set, expected)
}

fn physical(boot: &BootParams) -> Outcome {
    let all = 0..others(boot)?.end;
    for from in all.clone() {
        for to in all.clone() {
            reaches(from, fixed(icr::to(to as u32)), 1 << to)?;
        }
    }
    Ok(())
}

fn logical(boot: &BootParams) -> Outcome {
    let all = 0..others(boot)?.end;
    for from in all.clone() {
        for set in 1..1u32 << all.end {
            reaches(from, fixed(icr::LOGICAL | icr::to(set)), set.into())?;
        }
    }
    Ok(())
}

fn shorthands(boot: &BootParams) -> Outcome {
    let all = 0..others(boot)?.end;
    let everybody = (1 << all.end) - 1;
    for from in all {
        reaches(from, fixed(icr::SELF), 1 << from)?;
        reaches(from, fixed(icr::ALL), everybody)?;
        reaches(from, fixed(icr::OTHERS), everybody & !(1 << from))?;
        reaches(from, fixed(icr::to(icr::BROADCAST)), everybody)?;
        reaches(from, fixed(icr::LOGICAL | icr::to(icr::BROADCAST)), everybody)?;
        // The destination is for nothing with a shorthand.
        reaches(from, fixed(icr::SELF | icr::to(1)), 1 << from)?;
    }
    Ok(())
}

fn nobody(boot: &BootParams) -> Outcome {
    let count = others(boot)?.end as u32;
    for from in 0..2 {
        for id in [count, count + 1].into_iter().chain(8..16).chain([254, 255, 1_000_000]) {
            reaches(from, fixed(icr::to(id)), 0)?;
        }
        for logical in [1 << count, 0xFFFF & !((1 << count) - 1), 1 << 16 | 1, 0xFFFE_FFFF, 0] {
            reaches(from, fixed(icr::LOGICAL | icr::to(logical)), 0)?;
        }
        // With some that are there, those alone.
        reaches(from, fixed(icr::LOGICAL | icr::to(1 << count | 0b11)), 0b11)?;
    }
    Ok(())
}

fn lowest_priority(boot: &BootParams) -> Outcome {
    let all = 0..others(boot)?.end;
    let everybody = (1 << all.end) - 1;
    for from in all.clone() {
        let command = fixed(icr::LOWEST_PRIORITY | icr::LOGICAL | icr::to(everybody));
        let set = reached(from, command, None)?;
        ensure!(set.count_ones() == 1, "from {from}, the set of those reached is {set:#b}");
        for to in all.clone() {
            let target = icr::LOGICAL | icr::to(1 << to);
            reaches(from, fixed(icr::LOWEST_PRIORITY | target), 1 << to)?;
        }
    }
    Ok(())
}

fn vectors(boot: &BootParams) -> Outcome {
    for to in others(boot)? {
        for vector in vector::FIRST_INTERRUPT..apic::SPURIOUS_VECTOR {
            let before = count_of(to, vector);
            apic::command(icr::to(to as u32) | icr::ASSERT | u64::from(vector));
            let came = smp::wait(smp::PATIENCE, || count_of(to, vector) == before + 1);
            ensure!(came, "vector {vector} does not come to {to}");
        }
    }
    Ok(())
}

fn illegal_vectors(boot: &BootParams) -> Outcome {
    const FIRST_LEGAL: u8 = 16;
    others(boot)?;
    let all = || (0..FIRST_LEGAL).map(|vector| count_of(1, vector)).sum::<u64>() + count_all_of(1);
    let before = all();
    for vector in 0..FIRST_LEGAL {
        apic::command(icr::to(1) | icr::ASSERT | u64::from(vector));
    }
    smp::delay(A_WHILE);
    same("what came", all() - before, 0)?;
    ensure!(smp::run(1, || {}), "processor 1 does not answer");
    Ok(())
}

fn wakes(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        occupy(number, ASLEEP);
        let before = (crate::rounds(), count_of(number, VECTOR));
        smp::delay(A_WHILE);
        same("rounds while nothing comes", crate::rounds() - before.0, 0)?;
        apic::command(fixed(icr::to(number as u32)));
        let woke = smp::wait(smp::PATIENCE, || crate::rounds() > before.0);
        ensure!(woke, "processor {number} sleeps on");
        release();
        apic::command(fixed(icr::to(number as u32)));
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} sleeps on the second time");
        same("the count", count_of(number, VECTOR) - before.1, 2)?;
    }
    Ok(())
}

fn pending(boot: &BootParams) -> Outcome {
    for number in 1..count(boot) {
        others(boot)?;
        occupy(number, DEAF);
        let before = (count_of(number, VECTOR), count_of(number, OTHER_VECTOR));
        let all = count_all_of(number);
        for _ in 0..3 {
            apic::command(fixed(icr::to(number as u32)));
        }
        apic::command(icr::to(number as u32) | icr::ASSERT | u64::from(OTHER_VECTOR));
        smp::delay(A_WHILE);
        same("the count with interrupts off", count_all_of(number) - all, 0)?;
        release();
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not end");
        smp::delay(A_WHILE);
        same("the first's count", count_of(number, VECTOR) - before.0, 1)?;
        same("the other's count", count_of(number, OTHER_VECTOR) - before.1, 1)?;
    }
    cpu::disable_interrupts();
    Ok(())
}
