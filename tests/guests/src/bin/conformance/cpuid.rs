//! CPUID shows what a guest may use, and nothing else.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, Cpuid, cpuid, rdtsc};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{apic, ensure, fail};

pub const TESTS: &[Test] = &[
    Test {
        title: "CPUID names the processor and reaches leaf 0x15",
        what: "leaf 0: printable vendor, highest leaf",
        run: vendor,
    },
    Test {
        title: "CPUID says that there is a hypervisor, with KVM's signature",
        what: "leaf 1 ECX.31, leaves 0x40000000 and 0x40000001",
        run: hypervisor,
    },
    Test {
        title: "CPUID has Bulkhead's own leaves",
        what: "leaf 0x40000100: name and highest leaf",
        run: bulkhead,
    },
    Test {
        title: "CPUID leaves that are not there are empty",
        what: "performance counters, SGX, PT, leaves between and behind the ranges",
        run: absent,
    },
    Test {
        title: "CPUID shows x2APIC",
        what: "leaf 1 ECX.21, as the guest was started in that mode",
        run: x2apic,
    },
    Test {
        title: "CPUID hides what guests are not given",
        what: "leaf 1 ECX: VMX, SMX, MONITOR, PDCM, DCA, TSC-deadline; leaf 7 EBX: SGX",
        run: hidden,
    },
    Test {
        title: "CPUID shows the first processor's APIC ID as 0",
        what: "leaf 1 EBX and leaf 0xB EDX",
        run: apic_id,
    },
    Test {
        title: "CPUID's rates are plausible",
        what: "leaf 0x15: TSC rate, and its ratio to the APIC timer as measured",
        run: rates,
    },
    Test {
        title: "CPUID follows CR4.OSXSAVE",
        what: "leaf 1 ECX.27 before and after the bit is set",
        run: osxsave,
    },
];

/// Leaf 1, ECX.
mod feature {
    pub const MONITOR: u32 = 1 << 3;
    pub const VMX: u32 = 1 << 5;
    pub const SMX: u32 = 1 << 6;
    pub const PDCM: u32 = 1 << 15;
    pub const DCA: u32 = 1 << 18;
    pub const X2APIC: u32 = 1 << 21;
    pub const TSC_DEADLINE: u32 = 1 << 24;
    pub const XSAVE: u32 = 1 << 26;
    pub const OSXSAVE: u32 = 1 << 27;
    pub const HYPERVISOR: u32 = 1 << 31;
}

const BASIC: u32 = 1;
const EXTENDED: u32 = 7;
const TOPOLOGY: u32 = 0xB;
const RATES: u32 = 0x15;
const SIGNATURE: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
/// Leaf 7, EBX: SGX.
const SGX: u32 = 1 << 2;
/// "KVMKVMKVM" and zeros, in EBX, ECX, EDX.
const KVM_NAME: &[u8; 12] = b"KVMKVMKVM\0\0\0";
const BULKHEAD: u32 = 0x4000_0100;
const BULKHEAD_NAME: &[u8; 12] = b"BulkheadHV\0\0";

fn vendor(_: &BootParams) -> Outcome {
    let leaf = cpuid(0, 0);
    let letters = [leaf.ebx, leaf.edx, leaf.ecx].into_iter().flat_map(u32::to_le_bytes);
    for letter in letters {
        ensure!(letter.is_ascii_graphic(), "byte {letter:#x} in the vendor");
    }
    ensure!(leaf.eax >= RATES, "highest leaf is {:#x}", leaf.eax);
    Ok(())
}

/// Fails unless a leaf holds a hypervisor's name and a highest leaf of at least `highest`.
fn signature(leaf: u32, name: &[u8], highest: u32) -> Outcome {
    let Cpuid { eax, ebx, ecx, edx } = cpuid(leaf, 0);
    let letters = [ebx, ecx, edx].into_iter().flat_map(u32::to_le_bytes);
    ensure!(letters.eq(name.iter().copied()), "the name is {ebx:#x}, {ecx:#x}, {edx:#x}");
    ensure!(eax >= highest, "highest leaf is {eax:#x}");
    Ok(())
}

fn hypervisor(_: &BootParams) -> Outcome {
    ensure!(cpuid(BASIC, 0).ecx & feature::HYPERVISOR != 0, "leaf 1 does not say so");
    signature(SIGNATURE, KVM_NAME, KVM_FEATURES)?;
    let features = cpuid(KVM_FEATURES, 0);
    same("KVM features", features.eax.into(), 0)?;
    same("KVM hints", features.edx.into(), 0)
}

fn bulkhead(_: &BootParams) -> Outcome {
    signature(BULKHEAD, BULKHEAD_NAME, BULKHEAD)
}

fn absent(_: &BootParams) -> Outcome {
    let empty = Cpuid { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    for leaf in [0xA, 0x12, 0x14, 0x4000_0002, 0x4000_0200, 0x8000_0100, 0xC000_0000, u32::MAX] {
        let answer = cpuid(leaf, 0);
        ensure!(answer == empty, "leaf {leaf:#x} is {answer:x?}");
    }
    Ok(())
}

fn x2apic(_: &BootParams) -> Outcome {
    ensure!(cpuid(BASIC, 0).ecx & feature::X2APIC != 0, "the bit is 0");
    Ok(())
}

fn hidden(_: &BootParams) -> Outcome {
    use feature::*;
    let shown = cpuid(BASIC, 0).ecx & (MONITOR | VMX | SMX | PDCM | DCA | TSC_DEADLINE);
    same("leaf 1 ECX, of the hidden bits,", shown.into(), 0)?;
    same("leaf 7 EBX, SGX,", (cpuid(EXTENDED, 0).ebx & SGX).into(), 0)
}

fn apic_id(_: &BootParams) -> Outcome {
    const INITIAL_ID_SHIFT: u32 = 24;
    same("initial APIC ID", (cpuid(BASIC, 0).ebx >> INITIAL_ID_SHIFT).into(), 0)?;
    for level in 0..2 {
        same("leaf 0xB EDX", cpuid(TOPOLOGY, level).edx.into(), 0)?;
    }
    Ok(())
}

fn rates(_: &BootParams) -> Outcome {
    /// An emulator's processor at the least, and more than any yet made.
    const PLAUSIBLE_HZ: core::ops::Range<u64> = 1_000_000..10_000_000_000;
    const TICKS: u32 = 1_000_000;
    /// Parts of a hundred that the measurement may be off.
    const TOLERANCE: u64 = 10;
    const HUNDRED: u64 = 100;

    let leaf = cpuid(RATES, 0);
    let (denominator, numerator) = (u64::from(leaf.eax), u64::from(leaf.ebx));
    let crystal_hz = u64::from(leaf.ecx);
    ensure!(denominator != 0 && numerator != 0 && crystal_hz != 0, "a part is 0: {leaf:x?}");
    let tsc_hz = crystal_hz * numerator / denominator;
    ensure!(PLAUSIBLE_HZ.contains(&tsc_hz), "TSC at {tsc_hz} Hz");

    // The timer counts at the crystal's rate. It is read in the same breath as the TSC.
    apic::start_masked(u32::MAX);
    let (start, first) = (rdtsc(), apic::timer_left());
    while first.wrapping_sub(apic::timer_left()) < TICKS {}
    let (timer, tsc) = (u64::from(first - apic::timer_left()), rdtsc() - start);
    apic::stop_timer();
    let expected = timer * numerator / denominator;
    let off = expected.abs_diff(tsc) * HUNDRED / expected.max(1);
    if off > TOLERANCE {
        fail!("{timer} timer ticks are {tsc} TSC ticks, {expected} by leaf 0x15");
    }
    Ok(())
}

fn osxsave(_: &BootParams) -> Outcome {
    let shown = || cpuid(BASIC, 0).ecx & feature::OSXSAVE != 0;
    if cpuid(BASIC, 0).ecx & feature::XSAVE == 0 {
        bulkhead_guests::skip!("the processor has no XSAVE");
    }
    let before = cpu::read_cr4();
    let set = |value| {
        // SAFETY: the guest uses no extended state.
        unsafe { cpu::write_cr4(value) };
        shown()
    };
    let without = set(before & !cpu::cr4::OSXSAVE);
    let with = set(before | cpu::cr4::OSXSAVE);
    set(before);
    ensure!(!without && with, "clear: {without}, set: {with}");
    Ok(())
}
