//! Does whatever comes to its mind, out of a seed: CPUID, MSRs, ports, devices' registers, memory that is not there, control and
//! debug registers, interrupts to itself, instructions that it may not have, and instructions of any bytes. Nothing of it may
//! hurt anybody else, and none may end the guest: what ends it is left out.
//!
//! Command line: `seed=N`, `ops=N`. The same seed does the same again.
#![no_std]
#![no_main]

mod bytes;
mod operations;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, cr0, rflags};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::footing::Footing;
use bulkhead_guests::interrupts::{self, vector};
use bulkhead_guests::{entry, power, println};
use core::sync::atomic::Ordering;
use operations::{OPERATIONS, Place};

entry!(main);

/// Operations between two lines that say how far it is.
const STEP: u64 = 10_000;

/// Marsaglia's xorshift64*: numbers that look like chance, and are not.
pub struct Random(u64);

impl Random {
    /// Any seed but 0 gives numbers; 0 is taken for another.
    fn new(seed: u64) -> Self {
        // Seeds that follow each other begin far apart.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// What registers are tried with: nothing, everything, one bit, few bits, or any.
    pub fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => self.any() & self.any() & self.any(),
            4 => self.any() & u64::from(u32::MAX),
            _ => self.any(),
        }
    }
}

fn main(boot: &BootParams) -> ! {
    let seed: u64 = boot.number("seed", 1);
    let operations: u64 = boot.number("ops", 1000);
    interrupts::handle(vector::NMI, |_| {});
    // A breakpoint on an instruction comes before it (SDM Vol. 3B, 18.3.1.1): it shall not come again.
    interrupts::handle(vector::DEBUG, |frame| frame.rflags |= rflags::RF);
    // Emulated accesses are counted with caches on.
    debug_assert!(cpu::read_cr0() & (cr0::CD | cr0::NW) == 0);
    let place = Place { ram_end: boot.ram_size().max(1 << 20) + (1 << 20) };
    let footing = Footing::now();
    let mut random = Random::new(seed);
    let mut faults = 0_u64;
    for number in 0..operations {
        if number % STEP == 0 {
            println!("random: seed {seed}: {number} of {operations}");
        }
        let operation = random.one_of(OPERATIONS);
        let fault = expect_fault(|| operation(&mut random, &place));
        footing.restore();
        faults += u64::from(fault.is_some());
    }
    let bytes = bytes::INSTRUCTIONS.load(Ordering::SeqCst);
    println!("random: seed {seed}: {bytes} instructions of random bytes");
    println!(
        "random: seed {seed}: {operations} operations, {faults} faults, next {:x}",
        random.any()
    );
    power::power_off()
}
