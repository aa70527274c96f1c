//! CPUID as guests see it: all zeros, but for what is listed here.
//!
//! A bit is passed on when it is in the lists of [`features`], and the processor has it, and what
//! it needs from VMX is there. Topology, timer rates and XSAVE areas are made up to be true of the
//! guest rather than of the machine. SDM Vol. 2A, "CPUID", has the layout of the leaves.

mod answers;
pub mod features;
mod rates;
#[cfg(test)]
mod tests;
mod topology;
mod xsave;

pub use answers::Answers;
pub use xsave::{permitted_xcr0, valid_xcr0};

pub use core::arch::x86_64::CpuidResult;
use features::Available;

/// Highest basic leaf that guests see.
const MAX_BASIC: u32 = 0x1F;
/// First leaf of the extended range.
const EXTENDED: u32 = 0x8000_0000;
/// Highest extended leaf that guests see.
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Where a hypervisor says who it is; here, KVM's signature.
const HYPERVISOR: u32 = 0x4000_0000;
const MAX_HYPERVISOR: u32 = HYPERVISOR + 1;
/// Where Bulkhead says who it is.
const BULKHEAD: u32 = 0x4000_0100;
const MAX_BULKHEAD: u32 = BULKHEAD + 1;

/// With KVM's signature Linux takes x2APIC without interrupt remapping.
const KVM_SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";
const BULKHEAD_SIGNATURE: &[u8; 12] = b"BulkheadHV\0\0";
/// Leaf 6 EAX: the APIC timer runs in all C-states. Guests reach none deeper than HLT's, which never
/// stops it; without the bit Linux has no one-shot timer, as there is no other to wake it.
const ALWAYS_RUNNING_APIC_TIMER: u32 = 1 << 2;
/// Leaf 0x80000007 EDX.
const INVARIANT_TSC: u32 = 1 << 8;
/// Bits of guest-physical address that EPT translates, and of linear address with 4 levels.
const MAX_ADDRESS_BITS: u32 = 48;

pub(super) const NOTHING: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// What CPUID says of the virtual processor that executes it, besides the host's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestCpu {
    /// Virtual APIC ID: 0 to `processors` - 1.
    pub apic_id: u32,
    /// Virtual processors of the guest.
    pub processors: u32,
    /// Rate of the TSC in Hz.
    pub tsc_hz: u64,
    /// Rate of the undivided APIC timer in Hz.
    pub apic_timer_hz: u64,
    /// `IA32_APIC_BASE.EN`: without it CPUID shows no APIC (SDM Vol. 3A, 11.4.3).
    pub apic: bool,
    /// The guest's CR4.OSXSAVE.
    pub osxsave: bool,
    /// The guest's XCR0.
    pub xcr0: u64,
    /// The VM-execution control "enable RDTSCP" is set: without it RDTSCP and RDPID are #UD.
    pub rdtscp: bool,
    /// The VM-execution control "enable INVPCID" is set.
    pub invpcid: bool,
}

/// What the guest's CPUID returns for a leaf (its EAX) and subleaf (its ECX). `host` executes
/// the instruction.
pub fn filter(
    leaf: u32,
    subleaf: u32,
    host: impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
) -> CpuidResult {
    // For a leaf that it does not have, the processor answers with another one's values.
    let host = |leaf: u32, subleaf: u32| {
        let highest = host(leaf & EXTENDED, 0).eax;
        if leaf <= highest { host(leaf, subleaf) } else { NOTHING }
    };
    match leaf {
        0..=MAX_BASIC => basic(leaf, subleaf, &host, guest),
        EXTENDED..=MAX_EXTENDED => extended(leaf, &host, guest),
        HYPERVISOR => signature(MAX_HYPERVISOR, KVM_SIGNATURE),
        // None of KVM's features, and not its hint that processors are dedicated: with it Linux
        // spins before each HLT, and without KVM's features it has no other effect.
        MAX_HYPERVISOR => NOTHING,
        BULKHEAD => signature(MAX_BULKHEAD, BULKHEAD_SIGNATURE),
        MAX_BULKHEAD => CpuidResult { eax: VERSION, ..NOTHING },
        _ => NOTHING,
    }
}

fn basic(
    leaf: u32,
    subleaf: u32,
    host: &impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
) -> CpuidResult {
    match leaf {
        0 => CpuidResult { eax: MAX_BASIC, ..host(0, 0) },
        1 => {
            let host_leaf = host(1, 0);
            let available = Available::new(host, guest);
            CpuidResult {
                // Family, model and stepping: code may work around its processor's errata.
                eax: host_leaf.eax & SIGNATURE,
                ebx: topology::leaf_1_ebx(host_leaf.ebx, guest),
                ecx: available.leaf_1_ecx(host_leaf.ecx),
                edx: available.leaf_1_edx(host_leaf.edx) | topology::multi_threading(guest),
            }
        }
        // Cache and TLB descriptors.
        2 => host(2, 0),
        4 => topology::cache(host(4, subleaf), guest),
        6 => CpuidResult { eax: ALWAYS_RUNNING_APIC_TIMER, ..NOTHING },
        7 if subleaf == 0 => Available::new(host, guest).leaf_7(host(7, 0)),
        0xB | 0x1F => topology::levels(subleaf, guest),
        0xD => xsave::leaf(subleaf, host, guest),
        0x15 => rates::crystal(guest),
        0x16 => rates::megahertz(guest),
        _ => NOTHING,
    }
}

/// Leaf 1 EAX without its reserved bits.
const SIGNATURE: u32 = 0x0FFF_3FFF;

fn extended(leaf: u32, host: &impl Fn(u32, u32) -> CpuidResult, guest: &GuestCpu) -> CpuidResult {
    const BRAND: core::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    /// Line size, associativity and size of the second-level cache.
    const L2_CACHE: u32 = 0xFFFF_F0FF;
    let host_leaf = host(leaf, 0);
    match leaf {
        EXTENDED => CpuidResult { eax: MAX_EXTENDED, ..NOTHING },
        0x8000_0001 => {
            let available = Available::new(host, guest);
            CpuidResult {
                ecx: available.extended_ecx(host_leaf.ecx),
                edx: available.extended_edx(host_leaf.edx),
                ..NOTHING
            }
        }
        _ if BRAND.contains(&leaf) => host_leaf,
        0x8000_0006 => CpuidResult { ecx: host_leaf.ecx & L2_CACHE, ..NOTHING },
        0x8000_0007 => CpuidResult { edx: host_leaf.edx & INVARIANT_TSC, ..NOTHING },
        0x8000_0008 => {
            let width = |shift: u32| (host_leaf.eax >> shift & 0xFF).min(MAX_ADDRESS_BITS);
            CpuidResult { eax: width(0) | width(u8::BITS) << u8::BITS, ..NOTHING }
        }
        _ => NOTHING,
    }
}

/// A leaf that says who the hypervisor is: highest leaf in EAX, name in EBX, ECX, EDX.
fn signature(highest: u32, name: &[u8; 12]) -> CpuidResult {
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l]] = *name.as_chunks::<4>().0 else {
        return NOTHING; // twelve bytes are three words
    };
    CpuidResult {
        eax: highest,
        ebx: u32::from_le_bytes([a, b, c, d]),
        ecx: u32::from_le_bytes([e, f, g, h]),
        edx: u32::from_le_bytes([i, j, k, l]),
    }
}

/// Major, minor and patch version, a byte each from bit 16 down.
const VERSION: u32 = {
    #[expect(clippy::panic, reason = "the compiler evaluates it: a build fails, not a guest")]
    const fn number(text: &str) -> u32 {
        match u8::from_str_radix(text, 10) {
            Ok(number) => number as u32,
            Err(_) => panic!("a part of the version does not fit a byte"),
        }
    }
    number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"))
};
