//! NMIs between processors.

use crate::{A_WHILE, ASLEEP, DEAF, DEAF_ASLEEP, SPINNING, count, occupy, others, release, rounds};
use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::{self, Frame, count_of, vector};
use bulkhead_guests::smp::{self, MOST};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{cpu, ensure};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "an NMI arrives at the one it is for, once",
        what: "ICR with NMI delivery to each ID, physical and logical",
        run: to_one,
    },
    Test {
        title: "an NMI to all but oneself arrives at each of them",
        what: "the shorthand, from processor 0 and from processor 1",
        run: to_others,
    },
    Test {
        title: "an NMI arrives whatever a processor is doing",
        what: "spinning and asleep, with interrupts on and off",
        run: whatever,
    },
    Test {
        title: "an NMI wakes a processor that sleeps with interrupts off",
        what: "CLI and HLT: it goes on behind HLT",
        run: wakes,
    },
    Test {
        title: "NMIs that come in an NMI's handler are held, as one",
        what: "two more while the handler spins: one comes after its IRET",
        run: held,
    },
    Test {
        title: "an NMI to whom there is not arrives nowhere",
        what: "IDs n, 15, 254, a million, a logical ID beyond n",
        run: to_nobody,
    },
    Test {
        title: "NMIs of many senders all come through",
        what: "all send NMIs to processor 0, which counts at least one of each volley",
        run: volley,
    },
];

/// An NMI command.
fn nmi(target: u64) -> u64 {
    target | icr::NMI | icr::ASSERT
}

fn counts() -> [u64; MOST] {
    core::array::from_fn(|number| count_of(number, vector::NMI))
}

/// Fails unless, since `before`, an NMI came to each processor of a set, and to no other.
fn came_to(before: &[u64; MOST], expected: u64) -> Outcome {
    let all = || counts().into_iter().zip(*before).map(|(now, before)| now - before);
    smp::wait(A_WHILE, || all().enumerate().all(|(number, came)| came == expected >> number & 1));
    smp::delay(A_WHILE / 10);
    for (number, came) in all().enumerate() {
        same(format_args!("NMIs at {number}"), came, expected >> number & 1)?;
    }
    Ok(())
}

fn to_one(boot: &BootParams) -> Outcome {
    let all = 0..others(boot)?.end;
    for to in all {
        for target in [icr::to(to as u32), icr::LOGICAL | icr::to(1 << to)] {
            let before = counts();
            apic::command(nmi(target));
            came_to(&before, 1 << to)?;
        }
    }
    Ok(())
}

fn to_others(boot: &BootParams) -> Outcome {
    let everybody = (1 << others(boot)?.end) - 1;
    let before = counts();
    apic::command(nmi(icr::OTHERS));
    came_to(&before, everybody & !1)?;
    let before = counts();
    ensure!(smp::run(1, || apic::command(nmi(icr::OTHERS))), "processor 1 does not send");
    came_to(&before, everybody & !0b10)
}

fn whatever(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        for job in [SPINNING, DEAF, ASLEEP, DEAF_ASLEEP] {
            occupy(number, job);
            let before = counts();
            apic::command(nmi(icr::to(number as u32)));
            let outcome = came_to(&before, 1 << number);
            release();
            // If it is asleep again.
            apic::command(nmi(icr::to(number as u32)));
            outcome?;
            ensure!(smp::ends(number, smp::PATIENCE), "{}: {number} does not go on", job.0);
        }
    }
    Ok(())
}

fn wakes(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        occupy(number, DEAF_ASLEEP);
        let before = rounds();
        // An interrupt does not wake it.
        apic::command(icr::to(number as u32) | icr::ASSERT | 0x61);
        smp::delay(A_WHILE);
        same("rounds before the NMI", rounds() - before, 0)?;
        apic::command(nmi(icr::to(number as u32)));
        ensure!(smp::ends(number, smp::PATIENCE), "processor {number} sleeps on");
        same("rounds", rounds() - before, 1)?;
    }
    Ok(())
}

static LEAVE: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicU64 = AtomicU64::new(0);

fn stay(_: &mut Frame) {
    INSIDE.fetch_add(1, Ordering::SeqCst);
    while !LEAVE.load(Ordering::SeqCst) {
        core::hint::spin_loop();
    }
}

fn held(boot: &BootParams) -> Outcome {
    for number in others(boot)? {
        LEAVE.store(false, Ordering::SeqCst);
        INSIDE.store(0, Ordering::SeqCst);
        let before = count_of(number, vector::NMI);
        let came = || count_of(number, vector::NMI) - before;
        interrupts::handle(vector::NMI, stay);
        apic::command(nmi(icr::to(number as u32)));
        let inside = smp::wait(smp::PATIENCE, || INSIDE.load(Ordering::SeqCst) == 1);
        for _ in 0..2 {
            apic::command(nmi(icr::to(number as u32)));
        }
        smp::delay(A_WHILE);
        let held = came();
        LEAVE.store(true, Ordering::SeqCst);
        smp::delay(A_WHILE);
        interrupts::handle(vector::NMI, |_| {});
        ensure!(inside, "no NMI comes to {number}");
        same("the count in the handler", held, 1)?;
        same("the count behind it", came(), 2)?;
    }
    Ok(())
}

fn to_nobody(boot: &BootParams) -> Outcome {
    let count = others(boot)?.end as u32;
    let before = counts();
    for id in [count, 15, 254, 1_000_000] {
        apic::command(nmi(icr::to(id)));
    }
    apic::command(nmi(icr::LOGICAL | icr::to(1 << count)));
    came_to(&before, 0)
}

fn volley(boot: &BootParams) -> Outcome {
    const VOLLEYS: u64 = 50;
    static GO: AtomicU64 = AtomicU64::new(0);
    static SENT: AtomicU64 = AtomicU64::new(0);
    fn fire() {
        for volley in 1..=VOLLEYS {
            while GO.load(Ordering::SeqCst) < volley {
                core::hint::spin_loop();
            }
            apic::command(nmi(icr::to(0)));
            SENT.fetch_add(1, Ordering::SeqCst);
        }
    }
    let others = others(boot)?;
    GO.store(0, Ordering::SeqCst);
    SENT.store(0, Ordering::SeqCst);
    others.clone().for_each(|number| smp::begin(number, fire));
    let senders = others.len() as u64;
    for volley in 1..=VOLLEYS {
        let before = count_of(0, vector::NMI);
        GO.store(volley, Ordering::SeqCst);
        let done = smp::wait(smp::PATIENCE, || {
            SENT.load(Ordering::SeqCst) == volley * senders && count_of(0, vector::NMI) > before
        });
        smp::delay(A_WHILE / 100);
        let came = count_of(0, vector::NMI) - before;
        ensure!(done && came <= senders, "volley {volley}: {came} of {senders} came");
    }
    let ended = (1..count(boot)).all(|number| smp::ends(number, smp::PATIENCE));
    ensure!(ended, "a sender does not end");
    cpu::disable_interrupts();
    Ok(())
}
