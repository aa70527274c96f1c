//! Control, debug and model-specific registers.

use crate::{PATTERN, expect};
use bulkhead_guests::cpu::{self, cr4, efer, rdmsr, rdtsc, wrmsr};
use bulkhead_guests::smp::TSC_AUX;

/// DR6 and DR7 after reset (SDM Vol. 3A, table 10-1).
pub const DR6_RESET: u64 = 0xFFFF_0FF0;
pub const DR7_RESET: u64 = 0x400;

const PAT: u32 = 0x277;
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const FMASK: u32 = 0xC000_0084;
/// MSRs that are 0 after reset and take any canonical address: SYSENTER_ESP and SYSENTER_EIP, STAR, LSTAR,
/// CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE.
const ADDRESSES: [u32; 8] =
    [0x175, 0x176, 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0100, 0xC000_0101, 0xC000_0102];
/// And those of 32 bits: SYSENTER_CS, FMASK.
const SHORT: [u32; 2] = [0x174, FMASK];
/// `IA32_EFER.SCE`: SYSCALL is enabled.
const SCE: u64 = 1 << 0;
/// Where the TSC is set to; no machine runs that long.
const FAR: u64 = 1 << 60;

/// What `IA32_TSC_AUX` is; then sets it to 0, the number of the first processor.
pub fn take_number() -> u64 {
    let found = rdmsr(TSC_AUX);
    // SAFETY: the runtime's own register.
    unsafe { wrmsr(TSC_AUX, 0) };
    found
}

/// Looks whether they are as after reset, but for what belongs to long mode.
pub fn look() {
    for msr in ADDRESSES.into_iter().chain(SHORT) {
        expect(format_args!("MSR {msr:#x}"), rdmsr(msr), 0);
    }
    expect("PAT", rdmsr(PAT), PAT_RESET);
    expect("EFER", rdmsr(efer::MSR), efer::LME | efer::LMA);
    expect("CR4", cpu::read_cr4(), cr4::PAE);
    expect("CR2", cpu::read_cr2(), 0);
    expect("CR8", cpu::read_cr8(), 0);
    let debug = [cpu::read_dr0(), cpu::read_dr1(), cpu::read_dr2(), cpu::read_dr3()];
    for (index, value) in debug.into_iter().enumerate() {
        expect(format_args!("DR{index}"), value, 0);
    }
    expect("DR6", cpu::read_dr6(), DR6_RESET);
    expect("DR7", cpu::read_dr7(), DR7_RESET);
    expect("the TSC's bit 60", rdtsc() & FAR, 0);
}

/// Writes to all of them.
pub fn leave() {
    /// A breakpoint on execution of what is never executed.
    const DR7_LOCAL_0: u64 = 1 << 0;
    const DR6_HITS: u64 = 0b1111;
    const PAT_LEFT: u64 = 0x0606_0606_0606_0606;
    const TIME_STAMP_COUNTER: u32 = 0x10;
    // SAFETY: the guest makes no system calls and uses neither FS nor GS. All memory is
    // cached as before. From here on the processor has no number, and waits for nothing.
    unsafe {
        for msr in ADDRESSES {
            wrmsr(msr, PATTERN);
        }
        for msr in SHORT {
            wrmsr(msr, PATTERN & 0xFFFF_FFFF);
        }
        wrmsr(PAT, PAT_LEFT);
        wrmsr(efer::MSR, rdmsr(efer::MSR) | SCE);
        cpu::write_cr2(PATTERN);
        cpu::write_dr0(PATTERN);
        cpu::write_dr1(PATTERN);
        cpu::write_dr2(PATTERN);
        cpu::write_dr3(PATTERN);
        cpu::write_dr6(DR6_RESET | DR6_HITS);
        cpu::write_dr7(DR7_RESET | DR7_LOCAL_0);
        wrmsr(TIME_STAMP_COUNTER, rdtsc() | FAR);
        wrmsr(TSC_AUX, 7);
    }
}
