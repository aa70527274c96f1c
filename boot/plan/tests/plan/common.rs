//! Machines and guests to plan with.

use bulkhead_manifest::Cores;
use bulkhead_plan::{Core, Machine, Request};

pub const MIB: u64 = 1 << 20;

/// A machine of physical cores with so many threads each, the service core's first, and 1 GiB of memory. As on real
/// ones, a physical core with one thread leaves an APIC ID unused.
pub fn machine(threads: &[u32]) -> Machine {
    let ids = (0..).zip(threads).flat_map(|(physical, &threads)| {
        assert!(threads <= 2, "one bit tells them apart");
        (0..threads).map(move |thread| physical << 1 | thread)
    });
    Machine {
        cores: (0..)
            .zip(ids)
            .map(|(number, apic_id)| Core { number, apic_id, usable: true })
            .collect(),
        thread_bits: 1,
        hypervisor: std::iter::once(1024 * MIB..1048 * MIB).collect(),
        free: vec![0x1000..0x9_F000, 16 * MIB..1024 * MIB],
        estimated: false,
    }
}

pub fn guest(name: &str, cores: Cores) -> Request {
    Request { name: name.into(), cores, memory: 16 * MIB, kernel: "vmlinuz".into(), initrd: false }
}

/// Guests `a`, `b` and so on that ask for so many cores.
pub fn counts(counts: &[u32]) -> Vec<Request> {
    let names = ('a'..='z').map(String::from);
    names.zip(counts).map(|(name, &count)| guest(&name, Cores::Count(count))).collect()
}

/// A guest that names its cores.
pub fn named(name: &str, numbers: &[u32]) -> Request {
    guest(name, Cores::Numbers(numbers.to_vec()))
}
