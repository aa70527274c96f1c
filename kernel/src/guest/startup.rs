//! What it takes until a guest executes its first instruction: the guest's core counts, the service core tells.

use crate::arch::cpu::rdtsc;
use crate::memory::{GuestMemory, GuestPhysical, NotRam};
use core::sync::atomic::{AtomicU64, Ordering};

/// Counts of one run's start. The core of the first processor writes, the service core may read at any time.
#[derive(Debug, Default)]
pub struct Startup {
    scrubbing: AtomicU64,
    copying: AtomicU64,
    /// The TSC before the first VM entry, or 0. What is counted has been written before.
    entered: AtomicU64,
}

/// A start that is over, in ticks of the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Wiping the guest's memory.
    pub scrubbing: u64,
    /// Copying its kernel and RAM disk, and writing what they are entered with.
    pub copying: u64,
    /// The TSC at the first VM entry.
    pub at: u64,
}

impl Startup {
    /// Notes what the preparation took.
    pub fn prepared(&self, scrubbing: u64, copying: u64) {
        self.scrubbing.store(scrubbing, Ordering::Relaxed);
        self.copying.store(copying, Ordering::Relaxed);
    }

    /// Notes that the first processor enters the guest, at this value of the TSC.
    pub fn entered(&self, tsc: u64) {
        self.entered.store(tsc.max(1), Ordering::Release);
    }

    /// The start, if the guest has been entered.
    pub fn started(&self) -> Option<Started> {
        let at = self.entered.load(Ordering::Acquire);
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (scrubbing, copying) = (counted(&self.scrubbing), counted(&self.copying));
        (at != 0).then_some(Started { scrubbing, copying, at })
    }
}

/// What `work` returns, and the ticks that it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = rdtsc();
    let done = work();
    (done, rdtsc().wrapping_sub(start))
}

/// A guest's memory that counts the ticks for which it is written.
pub struct Timed<'a, M> {
    memory: &'a mut M,
    ticks: u64,
}

impl<'a, M: GuestMemory> Timed<'a, M> {
    /// Nothing counted yet.
    pub fn new(memory: &'a mut M) -> Self {
        Self { memory, ticks: 0 }
    }

    /// Ticks so far.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }
}

impl<M: GuestMemory> GuestMemory for Timed<'_, M> {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        self.memory.read(at, into)
    }

    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam> {
        let (done, ticks) = timed(|| self.memory.write(at, from));
        self.ticks = self.ticks.saturating_add(ticks);
        done
    }

    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        let (done, ticks) = timed(|| self.memory.zero(at, len));
        self.ticks = self.ticks.saturating_add(ticks);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::TestMemory;

    #[test]
    fn a_start_is_told_once_the_guest_was_entered() {
        let startup = Startup::default();
        assert_eq!(startup.started(), None);
        startup.prepared(7, 8);
        assert_eq!(startup.started(), None, "it may still fail");
        startup.entered(9);
        assert_eq!(startup.started(), Some(Started { scrubbing: 7, copying: 8, at: 9 }));
    }

    #[test]
    fn writing_is_counted_and_done() {
        let mut memory = TestMemory::new(1 << 20);
        let mut timed = Timed::new(&mut memory);
        let at = GuestPhysical::new(4096);
        timed.write(at, &[1, 2, 3]).unwrap();
        let counted = timed.ticks();
        assert!(counted > 0);
        let mut read = [0; 4];
        timed.read(at, &mut read).unwrap();
        assert_eq!(timed.ticks(), counted, "reading is not copying");
        timed.zero(at, 2).unwrap();
        assert!(timed.ticks() > counted);
        assert_eq!((read, memory.0[4097], memory.0[4098]), ([1, 2, 3, 0xAA], 0, 3));
        assert!(Timed::new(&mut memory).write(GuestPhysical::new(1 << 20), &[1]).is_err());
    }
}
