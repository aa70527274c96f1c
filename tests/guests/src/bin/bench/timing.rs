//! Taking ticks, and printing them.

use bulkhead_guests::{cpu, println};
use core::hint::black_box;

/// Operations in a batch: with several processors Bochs's TSC moves in steps, which a batch evens out. The ticks of one
/// are tenths of a tick for an operation.
pub const BATCH: u64 = 10;

/// Prints what an operation takes, in tenths of a tick.
pub fn print(name: &str, tenths: u64) {
    println!("bench: {name} {}.{}", tenths / 10, tenths % 10);
}

/// Tenths of a tick that an operation takes, of the quickest batch, so that what comes in between does not count.
pub fn least(rounds: u32, operation: fn()) -> u64 {
    let nothing = quickest(rounds, || {});
    quickest(rounds, operation).saturating_sub(nothing)
}

fn quickest(rounds: u32, operation: fn()) -> u64 {
    let operation = black_box(operation);
    let batch = |_| {
        ticks(|| {
            for _ in 0..BATCH {
                operation();
            }
        })
    };
    (0..rounds).map(batch).min().unwrap_or(0)
}

/// Ticks that something takes.
pub fn ticks(what: impl FnOnce()) -> u64 {
    let start = cpu::rdtsc();
    what();
    cpu::rdtsc() - start
}
