//! What a guest leaves to the next one on its frames and its core.

use crate::place::Place;
use crate::{Followed, followed, runs};
use bulkhead_guests::cpu::{self, cr4, rdmsr, wrmsr};
use bulkhead_guests::fail;
use bulkhead_guests::memory::{first_nonzero, unloaded};
use bulkhead_guests::suite::same;
use core::arch::asm;

runs! { "reuse":
    leaves_a_pattern,
    looks_for_the_pattern,
}

/// A canonical address, and nothing that could be there by itself.
const PATTERN: u64 = 0x0000_4C45_4654_0000;
/// SYSENTER_ESP and SYSENTER_EIP, STAR, LSTAR, CSTAR, KERNEL_GS_BASE.
const REGISTERS: [u32; 6] = [0x175, 0x176, 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0102];

fn with_vectors() {
    // SAFETY: no code of the guest's uses vector registers.
    unsafe { cpu::write_cr4(cpu::read_cr4() | cr4::OSFXSR) };
}

fn leaves_a_pattern(place: &Place) -> Followed {
    for range in unloaded(&place.boot, u64::MAX >> 1) {
        for at in range.step_by(size_of::<u64>()) {
            // SAFETY: RAM that is neither the guest's image nor anything of the loader's.
            unsafe { (at as *mut u64).write_volatile(PATTERN) };
        }
    }
    with_vectors();
    // SAFETY: the guest makes no system calls, its breakpoints are off, and it ends here.
    unsafe {
        REGISTERS.into_iter().for_each(|msr| wrmsr(msr, PATTERN));
        cpu::write_dr0(PATTERN);
        cpu::write_dr1(PATTERN);
        cpu::write_dr2(PATTERN);
        cpu::write_dr3(PATTERN);
        asm!("movq xmm0, {0}", "movq xmm7, {0}", "movq xmm15, {0}", in(reg) PATTERN);
    }
    cpu::triple_fault()
}

fn looks_for_the_pattern(place: &Place) -> Followed {
    let mut bytes = 0;
    for range in unloaded(&place.boot, u64::MAX >> 1) {
        bytes += range.end - range.start;
        if let Some((word, at)) = first_nonzero(range) {
            fail!("{word:#x} at {at:#x}");
        }
    }
    for msr in REGISTERS {
        same(format_args!("MSR {msr:#x}"), rdmsr(msr), 0)?;
    }
    for register in [cpu::read_dr0(), cpu::read_dr1(), cpu::read_dr2(), cpu::read_dr3()] {
        same("a debug register", register, 0)?;
    }
    with_vectors();
    let (first, middle, last): (u64, u64, u64);
    // SAFETY: reads registers that no code of the guest's uses.
    unsafe {
        asm!("movq {}, xmm0", "movq {}, xmm7", "movq {}, xmm15", out(reg) first, out(reg) middle,
            out(reg) last);
    }
    for register in [first, middle, last] {
        same("a vector register", register, 0)?;
    }
    followed!("{} KiB of zeros, and registers as after reset", bytes >> 10)
}
