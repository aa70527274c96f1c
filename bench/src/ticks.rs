//! The time-stamp counter, which counts instructions in Bochs.

/// Its value.
pub fn now() -> u64 {
    // SAFETY: reads a counter; Linux lets processes do so unless told otherwise.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The least ticks that one of ten calls takes, of `rounds` times ten, in tenths of a tick.
pub fn least_of(rounds: u32, mut operation: impl FnMut()) -> u64 {
    const BATCH: u64 = 10;
    let mut batch = |_| {
        let start = now();
        for _ in 0..BATCH {
            operation();
        }
        now() - start
    };
    (0..rounds).map(&mut batch).min().unwrap_or(0)
}
