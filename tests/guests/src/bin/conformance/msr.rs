//! MSRs: a list of them is there, everything else is #GP.

use bulkhead_guests::apic::register;
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{cpuid, rdmsr, rdtsc, wrmsr};
use bulkhead_guests::ensure;
use bulkhead_guests::interrupts::vector::GENERAL_PROTECTION;
use bulkhead_guests::suite::{Outcome, Test, faults, same, works};

pub const TESTS: &[Test] = &[
    Test {
        title: "MSRs of system calls are zero at first",
        what: "RDMSR STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE",
        run: clean,
    },
    Test {
        title: "MSRs of system calls keep what is written",
        what: "WRMSR and RDMSR of the same, and of FS_BASE and GS_BASE",
        run: kept,
    },
    Test {
        title: "reading an MSR that is not there is #GP",
        what: "RDMSR of feature control, SMM, VMX, MTRR, microcode, AMD and made-up registers",
        run: absent_reads,
    },
    Test {
        title: "writing an MSR that is not there is #GP",
        what: "WRMSR of zero and of all ones to the same",
        run: absent_writes,
    },
    Test {
        title: "the APIC base is the boot processor's in x2APIC mode, and stays",
        what: "RDMSR 0x1B, WRMSR of it without EXTD, without EN but with EXTD, elsewhere",
        run: apic_base,
    },
    Test {
        title: "a PAT entry of a reserved type is #GP",
        what: "WRMSR PAT with type 2",
        run: pat,
    },
    Test {
        title: "the TSC does not go back",
        what: "RDTSC and RDMSR 0x10, many times by turns",
        run: tsc_monotonic,
    },
    Test {
        title: "the TSC can be set",
        what: "WRMSR 0x10 forwards and back again, seen by RDTSC and RDMSR",
        run: tsc_write,
    },
    Test {
        title: "the TSC and its adjustment change together",
        what: "WRMSR 0x3B and 0x10, each seen in the other",
        run: tsc_adjust,
    },
];

const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3B;
const PAT: u32 = 0x277;
const FS_BASE: u32 = 0xC000_0100;
const GS_BASE: u32 = 0xC000_0101;
/// STAR, LSTAR, CSTAR, FMASK and KERNEL_GS_BASE.
const SYSTEM_CALLS: [u32; 5] = [0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084, 0xC000_0102];

/// Registers that no guest has: microcode update, SMI count, feature control, SMM base, MTRR,
/// machine check, VMX capabilities, RTIT, TSC deadline, one between others, AMD's HWCR and SVM,
/// hypervisors' (Hyper-V's and KVM's), and some that nobody has.
const ABSENT: [u32; 20] = [
    0x34,
    0x3A,
    0x79,
    0x9B,
    0x9E,
    0x200,
    0x2FF,
    0x400,
    0x480,
    0x48B,
    0x570,
    0x6E0,
    0xDA0,
    0x12345,
    0x4000_0000,
    0x4B56_4D01,
    0xC000_0104,
    0xC001_0015,
    0xC001_0117,
    0xFFFF_FFFF,
];

fn clean(_: &BootParams) -> Outcome {
    SYSTEM_CALLS.into_iter().try_for_each(|msr| same(format_args!("MSR {msr:#x}"), rdmsr(msr), 0))
}

fn kept(_: &BootParams) -> Outcome {
    /// A canonical address that fits FMASK too.
    const VALUE: u64 = 0x1234_5678;
    for msr in SYSTEM_CALLS.into_iter().chain([FS_BASE, GS_BASE]) {
        let before = rdmsr(msr);
        // SAFETY: the guest makes no system calls and uses neither FS nor GS.
        unsafe { wrmsr(msr, VALUE) };
        let read = rdmsr(msr);
        // SAFETY: as it was.
        unsafe { wrmsr(msr, before) };
        same(format_args!("MSR {msr:#x}"), read, VALUE)?;
    }
    Ok(())
}

fn absent_reads(_: &BootParams) -> Outcome {
    for msr in ABSENT {
        faults(format_args!("RDMSR {msr:#x}"), GENERAL_PROTECTION, || {
            rdmsr(msr);
        })?;
    }
    Ok(())
}

fn absent_writes(_: &BootParams) -> Outcome {
    for msr in ABSENT {
        for value in [0, u64::MAX] {
            faults(format_args!("WRMSR {msr:#x}"), GENERAL_PROTECTION, || {
                // SAFETY: none of the guest's doing depends on a register that is not there.
                unsafe { wrmsr(msr, value) };
            })?;
        }
    }
    Ok(())
}

fn apic_base(_: &BootParams) -> Outcome {
    /// The page, enabled, x2APIC, boot processor.
    const EXPECTED: u64 = 0xFEE0_0000 | 1 << 11 | 1 << 10 | 1 << 8;
    const X2APIC: u64 = 1 << 10;
    const ENABLE: u64 = 1 << 11;
    const NEXT_PAGE: u64 = 1 << 12;
    same("APIC base", rdmsr(register::BASE), EXPECTED)?;
    works("writing the same", || {
        // SAFETY: changes nothing.
        unsafe { wrmsr(register::BASE, EXPECTED) };
    })?;
    for value in [EXPECTED & !X2APIC, EXPECTED & !ENABLE, EXPECTED + NEXT_PAGE] {
        faults(format_args!("APIC base {value:#x}"), GENERAL_PROTECTION, || {
            // SAFETY: the APIC is set up again where it is used.
            unsafe { wrmsr(register::BASE, value) };
        })?;
    }
    same("APIC base afterwards", rdmsr(register::BASE), EXPECTED)
}

fn pat(_: &BootParams) -> Outcome {
    const RESERVED_TYPE: u64 = 2;
    let before = rdmsr(PAT);
    faults("PAT of reserved type", GENERAL_PROTECTION, || {
        // SAFETY: refused; otherwise RAM is uncached at worst.
        unsafe { wrmsr(PAT, before & !0xFF | RESERVED_TYPE) };
    })?;
    same("PAT", rdmsr(PAT), before)
}

fn tsc_monotonic(_: &BootParams) -> Outcome {
    const TIMES: u32 = 10_000;
    let mut last = rdtsc();
    for time in 0..TIMES {
        let now = if time % 2 == 0 { rdmsr(TSC) } else { rdtsc() };
        ensure!(now >= last, "{now:#x} after {last:#x}");
        last = now;
    }
    Ok(())
}

fn tsc_write(_: &BootParams) -> Outcome {
    /// Far from what the TSC can reach by itself.
    const AHEAD: u64 = 1 << 60;
    /// Ticks in which it can be read again.
    const SOON: u64 = 1 << 24;
    let before = rdtsc();
    let target = before + AHEAD;
    // SAFETY: nothing waits for a time while the TSC is elsewhere.
    unsafe { wrmsr(TSC, target) };
    let (read, register) = (rdtsc(), rdmsr(TSC));
    // SAFETY: back to what it would be without the test, so that it did not go back.
    unsafe { wrmsr(TSC, before + (rdtsc() - target)) };
    let after = rdtsc();
    ensure!((target..target + SOON).contains(&read), "RDTSC is {read:#x} after {target:#x}");
    ensure!((read..target + SOON).contains(&register), "RDMSR is {register:#x} after {target:#x}");
    ensure!(
        (before..before + SOON).contains(&after),
        "set back, it is {after:#x}, was {before:#x}"
    );
    Ok(())
}

fn tsc_adjust(_: &BootParams) -> Outcome {
    const STEP: u64 = 1 << 32;
    /// Ticks that an access to an MSR may take.
    const SLACK: u64 = 1 << 20;
    /// CPUID.7.0:EBX.TSC_ADJUST.
    const PRESENT: u32 = 1 << 1;
    ensure!(cpuid(7, 0).ebx & PRESENT != 0, "CPUID does not show it");
    // What the test before this one has left.
    let first = rdmsr(TSC_ADJUST);
    let near = |what, value: u64, expected: u64| -> Outcome {
        let past = value.wrapping_sub(expected);
        ensure!(past < SLACK, "{what} is {value:#x}, not {expected:#x} and little more");
        Ok(())
    };
    let before = rdtsc();
    // SAFETY: nothing here waits for a time.
    unsafe { wrmsr(TSC_ADJUST, first.wrapping_add(STEP)) };
    near("the TSC", rdtsc(), before + STEP)?;
    same("the adjustment", rdmsr(TSC_ADJUST).wrapping_sub(first), STEP)?;
    let now = rdtsc();
    // SAFETY: as above.
    unsafe { wrmsr(TSC, now - STEP) };
    let gone = first.wrapping_sub(rdmsr(TSC_ADJUST));
    ensure!(gone < SLACK, "the adjustment is {gone:#x} less than at first");
    // SAFETY: as above. The TSC is the hardware's again.
    unsafe { wrmsr(TSC_ADJUST, 0) };
    near("the TSC", rdtsc(), before.wrapping_sub(first))?;
    same("the adjustment at last", rdmsr(TSC_ADJUST), 0)
}
