//! How many processors there are, and which.

use crate::count;
use bulkhead_guests::apic::register;
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{cpuid, rdmsr};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{acpi, ensure, fail, smp};
use core::sync::atomic::{AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "the MADT shows processors 0 to n-1",
        what: "the IDs in its entries, and as many as `cores=` says",
        run: madt,
    },
    Test {
        title: "CPUID says how many processors there are",
        what: "leaf 1 EBX and EDX.HTT, leaf 4 EAX, leaf 0xB",
        run: counts,
    },
    Test {
        title: "every processor knows its ID",
        what: "on each: CPUID leaves 1 and 0xB, APIC ID, LDR, APIC base's BSP bit",
        run: ids,
    },
    Test {
        title: "all processors have the same features",
        what: "CPUID leaves 0, 1, 7, 0xD, 0x15, 0x80000001 and hypervisors' on each",
        run: features,
    },
];

fn madt(boot: &BootParams) -> Outcome {
    let mut expected = 0;
    for id in acpi::processors(boot) {
        same("an entry's ID", id, expected)?;
        expected += 1;
    }
    if let Some(cores) = boot.option("cores") {
        let Ok(cores) = cores.parse() else { fail!("cores={cores}: not a number") };
        same("the number of processors", expected, cores)?;
    }
    ensure!((2..=smp::MOST as u64).contains(&expected), "{expected} processors");
    Ok(())
}

fn counts(boot: &BootParams) -> Outcome {
    const HTT: u32 = 1 << 28;
    /// Leaf 1 EBX: IDs in the package.
    const IDS_SHIFT: u32 = 16;
    /// Leaf 4 EAX: the highest core ID in the package.
    const CORES_SHIFT: u32 = 26;
    /// Leaf 0xB ECX: the level of the cores.
    const CORES: u64 = 2;
    let count = count(boot) as u64;
    let basic = cpuid(1, 0);
    ensure!(basic.edx & HTT != 0, "HTT is 0");
    let ids = u64::from(basic.ebx >> IDS_SHIFT & 0xFF);
    same("IDs by leaf 1", ids, count.next_power_of_two())?;
    let cores = u64::from(cpuid(4, 0).eax >> CORES_SHIFT) + 1;
    same("core IDs by leaf 4", cores, count.next_power_of_two())?;
    let (threads, package) = (cpuid(0xB, 0), cpuid(0xB, 1));
    same("threads by leaf 0xB", threads.ebx.into(), 1)?;
    same("the second level's type", u64::from(package.ecx >> 8), CORES)?;
    same("processors by leaf 0xB", package.ebx.into(), count)
}

/// What one processor says of itself.
struct Identity([AtomicU64; 5]);

static IDENTITIES: [Identity; smp::MOST] =
    [const { Identity([const { AtomicU64::new(u64::MAX) }; 5]) }; smp::MOST];

fn identify() {
    const INITIAL_ID_SHIFT: u32 = 24;
    const BSP: u64 = 1 << 8;
    let said = [
        (cpuid(1, 0).ebx >> INITIAL_ID_SHIFT).into(),
        cpuid(0xB, 1).edx.into(),
        rdmsr(register::ID),
        rdmsr(register::LDR),
        rdmsr(register::BASE) & BSP,
    ];
    for (place, value) in IDENTITIES[smp::number()].0.iter().zip(said) {
        place.store(value, Ordering::SeqCst);
    }
}

fn ids(boot: &BootParams) -> Outcome {
    identify();
    for number in crate::others(boot)? {
        ensure!(smp::run(number, identify), "processor {number} does not answer");
    }
    for (number, Identity(said)) in IDENTITIES.iter().enumerate().take(count(boot)) {
        let id = number as u64;
        // SDM Vol. 3A, 11.12.10.2.
        let logical = id >> 4 << 16 | 1 << (id & 0xF);
        let boot_processor = if number == 0 { 1 << 8 } else { 0 };
        let expected = [id, id, id, logical, boot_processor];
        let names = ["leaf 1's ID", "leaf 0xB's ID", "APIC ID", "LDR", "BSP bit"];
        for ((name, place), expected) in names.iter().zip(said).zip(expected) {
            let said = place.load(Ordering::SeqCst);
            same(format_args!("processor {number}'s {name}"), said, expected)?;
        }
    }
    Ok(())
}

/// A sum of the leaves that are the same everywhere.
static FEATURES: [AtomicU64; smp::MOST] = [const { AtomicU64::new(0) }; smp::MOST];

fn take_features() {
    const LEAVES: [u32; 8] = [0, 7, 0xD, 0x15, 0x8000_0001, 0x8000_0008, 0x4000_0000, 0x4000_0001];
    let mut sum = 0u64;
    let basic = cpuid(1, 0);
    let mut add = |value: u32| sum = sum.rotate_left(7) ^ u64::from(value);
    add(basic.ecx);
    add(basic.edx);
    for leaf in LEAVES {
        let answer = cpuid(leaf, 0);
        for value in [answer.eax, answer.ebx, answer.ecx, answer.edx] {
            add(value);
        }
    }
    FEATURES[smp::number()].store(sum, Ordering::SeqCst);
}

fn features(boot: &BootParams) -> Outcome {
    take_features();
    let here = FEATURES[0].load(Ordering::SeqCst);
    ensure!(here != 0, "no features");
    for number in crate::others(boot)? {
        ensure!(smp::run(number, take_features), "processor {number} does not answer");
        let there = FEATURES[number].load(Ordering::SeqCst);
        same(format_args!("processor {number}'s sum"), there, here)?;
    }
    Ok(())
}
