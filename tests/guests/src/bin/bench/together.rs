//! Operations between two processors, neither of which sleeps.

use crate::timing::{BATCH, print, ticks};
use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::interrupts::count_of;
use bulkhead_guests::{acpi, cpu, println, smp};
use core::sync::atomic::{AtomicU64, Ordering};

const VECTOR: u8 = 0x41;
/// How often the second processor is started until it comes up.
const STARTS: u32 = 5;
/// Trips in a batch.
const TRIPS: u64 = BATCH;

/// Interrupts that the second processor is to take, and answer.
static TO_TAKE: AtomicU64 = AtomicU64::new(0);
static TO_ANSWER: AtomicU64 = AtomicU64::new(0);

pub fn measure(boot: &BootParams, rounds: u32) {
    if acpi::processors(boot).count() < 2 {
        for name in ["icr-other", "ipi-round-trip"] {
            println!("bench: {name} absent");
        }
        return;
    }
    // KVM, in Bochs, loses a start-up IPI now and then, which is why the manual has one sent again (SDM
    // Vol. 3A, 9.4.4.1).
    if (0..STARTS).find_map(|_| smp::start(1, apic::enable)).is_none() {
        println!("bench: error processor 1 does not come up");
        return;
    }
    if !smp::ends(1, smp::PATIENCE) {
        println!("bench: error processor 1 does not enable its APIC");
        return;
    }
    let trips = u64::from(rounds) * TRIPS;
    TO_TAKE.store(trips, Ordering::SeqCst);
    smp::begin(1, || wait_for(1, TO_TAKE.load(Ordering::SeqCst)));
    print("icr-other", send(rounds));
    finish();

    let taken = count_of(1, VECTOR);
    TO_TAKE.store(taken, Ordering::SeqCst);
    TO_ANSWER.store(trips, Ordering::SeqCst);
    smp::begin(1, || {
        let taken = TO_TAKE.load(Ordering::SeqCst);
        for trip in 1..=TO_ANSWER.load(Ordering::SeqCst) {
            wait_for(1, taken + trip);
            interrupt(0);
        }
    });
    print("ipi-round-trip", round_trip(rounds));
    finish();
}

/// Tenths of ticks of sending one, of the quickest batch; each is sent when the one before has come.
fn send(rounds: u32) -> u64 {
    let mut sent = count_of(1, VECTOR);
    let mut batch = |_| {
        let mut total = 0;
        for _ in 0..BATCH {
            total += ticks(|| interrupt(1)).saturating_sub(ticks(|| ()));
            sent += 1;
            while count_of(1, VECTOR) < sent {
                core::hint::spin_loop();
            }
        }
        total
    };
    (0..rounds).map(&mut batch).min().unwrap_or(0)
}

/// Tenths of ticks from sending one to the handler of the answer, of the quickest batch.
fn round_trip(rounds: u32) -> u64 {
    let mut answered = count_of(0, VECTOR);
    let mut batch = |_| {
        ticks(|| {
            for _ in 0..TRIPS {
                interrupt(1);
                answered += 1;
                wait_for(0, answered);
            }
        })
    };
    (0..rounds).map(&mut batch).min().unwrap_or(0)
}

fn interrupt(to: u32) {
    apic::command(icr::to(to) | icr::ASSERT | u64::from(VECTOR));
}

/// Waits on a processor until so many interrupts have come to it.
fn wait_for(number: usize, count: u64) {
    cpu::enable_interrupts();
    while count_of(number, VECTOR) < count {
        core::hint::spin_loop();
    }
    cpu::disable_interrupts();
}

fn finish() {
    if !smp::ends(1, smp::PATIENCE) {
        println!("bench: error processor 1 does not come to an end");
    }
}
