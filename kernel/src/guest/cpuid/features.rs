//! The features that guests may see, each with its reason.
//!
//! What is not here is not seen. Left out on purpose: MONITOR/MWAIT (no machine was at hand
//! on which a store ends MWAIT), VMX and SMX, EST, TM, TM2, ACPI, DS, PDCM, PBE and leaf 0xA (MSRs that
//! are not given), TSC-deadline (a TSC offset stays possible), MCE, MCA and MTRR (the machine's,
//! not the guest's), DCA, HLE and RTM, MPX, SGX, PT, CQM and RDT, PKU, CET, AMX, WAITPKG, LA57,
//! and the bits of leaf 7 EDX that announce MSRs against speculation.

use super::xsave::{self, AVX, AVX_512};
use super::{CpuidResult, GuestCpu, NOTHING};

/// What a feature needs besides the processor having it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The AVX state component in XCR0.
    Avx,
    /// The three AVX-512 state components in XCR0.
    Avx512,
    /// The VM-execution control "enable RDTSCP".
    Rdtscp,
    /// The VM-execution control "enable INVPCID".
    Invpcid,
}

/// A feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its number in the register.
    pub bit: u32,
    /// What it needs.
    pub needs: Needs,
    /// Its name in the manual.
    pub name: &'static str,
    /// Why a guest may have it.
    pub reason: &'static str,
}

const fn feature(bit: u32, needs: Needs, name: &'static str, reason: &'static str) -> Feature {
    Feature { bit, needs, name, reason }
}

/// Instructions on registers and memory of the guest.
const PLAIN: &str = "instructions without privileged state";
/// Vector instructions: their registers are never touched by root mode.
const VECTOR: &str = "vector registers stay the guest's";
/// Bits of CR0 and CR4, and what page tables may say.
const PAGING: &str = "the guest's own paging";
/// MSRs that the VMCS switches or that are the guest's alone.
const OWN_MSR: &str = "its MSRs are the guest's own";

use Needs::{Avx, Avx512, Invpcid, Nothing, Rdtscp};

/// Leaf 1 ECX.
pub const LEAF_1_ECX: &[Feature] = &[
    feature(0, Nothing, "SSE3", VECTOR),
    feature(1, Nothing, "PCLMULQDQ", VECTOR),
    feature(9, Nothing, "SSSE3", VECTOR),
    feature(12, Avx, "FMA", VECTOR),
    feature(13, Nothing, "CMPXCHG16B", PLAIN),
    feature(17, Nothing, "PCID", PAGING),
    feature(19, Nothing, "SSE4.1", VECTOR),
    feature(20, Nothing, "SSE4.2", VECTOR),
    feature(21, Nothing, "x2APIC", "passed through, but for ID, LDR, ICR and LVT"),
    feature(22, Nothing, "MOVBE", PLAIN),
    feature(23, Nothing, "POPCNT", PLAIN),
    feature(25, Nothing, "AESNI", VECTOR),
    feature(26, Nothing, "XSAVE", "XCR0 is the guest's, within leaf 0xD"),
    feature(28, Avx, "AVX", VECTOR),
    feature(29, Avx, "F16C", VECTOR),
    feature(30, Nothing, "RDRAND", PLAIN),
];

/// Leaf 1 EDX.
pub const LEAF_1_EDX: &[Feature] = &[
    feature(0, Nothing, "FPU", VECTOR),
    feature(1, Nothing, "VME", "CR4 is the guest's"),
    feature(2, Nothing, "DE", "debug registers are the guest's"),
    feature(3, Nothing, "PSE", PAGING),
    feature(4, Nothing, "TSC", "RDTSC does not exit"),
    feature(5, Nothing, "MSR", "by list"),
    feature(6, Nothing, "PAE", PAGING),
    feature(8, Nothing, "CMPXCHG8B", PLAIN),
    feature(9, Nothing, "APIC", "each core has its own"),
    feature(11, Nothing, "SEP", OWN_MSR),
    feature(13, Nothing, "PGE", PAGING),
    feature(15, Nothing, "CMOV", PLAIN),
    feature(16, Nothing, "PAT", OWN_MSR),
    feature(17, Nothing, "PSE-36", PAGING),
    feature(19, Nothing, "CLFLUSH", PLAIN),
    feature(23, Nothing, "MMX", VECTOR),
    feature(24, Nothing, "FXSR", VECTOR),
    feature(25, Nothing, "SSE", VECTOR),
    feature(26, Nothing, "SSE2", VECTOR),
    feature(27, Nothing, "SS", "tells of the cache's self-snooping"),
];

/// Leaf 7, subleaf 0, EBX.
pub const LEAF_7_EBX: &[Feature] = &[
    feature(0, Nothing, "FSGSBASE", "segment bases are the guest's"),
    feature(1, Nothing, "TSC_ADJUST", "changes the guest's TSC offset"),
    feature(3, Nothing, "BMI1", PLAIN),
    feature(5, Avx, "AVX2", VECTOR),
    feature(6, Nothing, "FDP_EXCPTN_ONLY", "tells how the FPU behaves"),
    feature(7, Nothing, "SMEP", PAGING),
    feature(8, Nothing, "BMI2", PLAIN),
    feature(9, Nothing, "ERMS", PLAIN),
    feature(10, Invpcid, "INVPCID", PAGING),
    feature(13, Nothing, "FCS/FDS deprecated", "tells how the FPU behaves"),
    feature(16, Avx512, "AVX512F", VECTOR),
    feature(17, Avx512, "AVX512DQ", VECTOR),
    feature(18, Nothing, "RDSEED", PLAIN),
    feature(19, Nothing, "ADX", PLAIN),
    feature(20, Nothing, "SMAP", PAGING),
    feature(21, Avx512, "AVX512_IFMA", VECTOR),
    feature(23, Nothing, "CLFLUSHOPT", PLAIN),
    feature(24, Nothing, "CLWB", PLAIN),
    feature(28, Avx512, "AVX512CD", VECTOR),
    feature(29, Nothing, "SHA", VECTOR),
    feature(30, Avx512, "AVX512BW", VECTOR),
    feature(31, Avx512, "AVX512VL", VECTOR),
];

/// Leaf 7, subleaf 0, ECX.
pub const LEAF_7_ECX: &[Feature] = &[
    feature(1, Avx512, "AVX512_VBMI", VECTOR),
    feature(2, Nothing, "UMIP", "CR4 is the guest's"),
    feature(6, Avx512, "AVX512_VBMI2", VECTOR),
    feature(8, Nothing, "GFNI", VECTOR),
    feature(9, Avx, "VAES", VECTOR),
    feature(10, Avx, "VPCLMULQDQ", VECTOR),
    feature(11, Avx512, "AVX512_VNNI", VECTOR),
    feature(12, Avx512, "AVX512_BITALG", VECTOR),
    feature(14, Avx512, "AVX512_VPOPCNTDQ", VECTOR),
    feature(22, Rdtscp, "RDPID", OWN_MSR),
    feature(25, Nothing, "CLDEMOTE", PLAIN),
    feature(27, Nothing, "MOVDIRI", PLAIN),
    feature(28, Nothing, "MOVDIR64B", PLAIN),
];

/// Leaf 7, subleaf 0, EDX.
pub const LEAF_7_EDX: &[Feature] = &[
    feature(4, Nothing, "FSRM", PLAIN),
    feature(8, Avx512, "AVX512_VP2INTERSECT", VECTOR),
    feature(10, Nothing, "MD_CLEAR", "VERW clears buffers without an MSR"),
    feature(14, Nothing, "SERIALIZE", PLAIN),
    feature(23, Avx512, "AVX512_FP16", VECTOR),
];

/// Leaf 0x80000001 ECX.
pub const EXTENDED_ECX: &[Feature] = &[
    feature(0, Nothing, "LAHF", PLAIN),
    feature(5, Nothing, "LZCNT", PLAIN),
    feature(8, Nothing, "PREFETCHW", PLAIN),
];

/// Leaf 0x80000001 EDX.
pub const EXTENDED_EDX: &[Feature] = &[
    feature(11, Nothing, "SYSCALL", OWN_MSR),
    feature(20, Nothing, "NX", PAGING),
    feature(26, Nothing, "1 GiB pages", PAGING),
    feature(27, Rdtscp, "RDTSCP", OWN_MSR),
    feature(29, Nothing, "Intel 64", PAGING),
];

/// Leaf 1 ECX: the guest has set CR4.OSXSAVE.
pub(super) const OSXSAVE: u32 = 1 << 27;
/// Leaf 1 EDX: a local APIC that is on.
const APIC: u32 = 1 << 9;
/// Leaf 1 ECX: under a hypervisor.
const HYPERVISOR: u32 = 1 << 31;

/// Which needs are met.
pub(super) struct Available {
    xcr0: u64,
    apic: bool,
    osxsave: bool,
    rdtscp: bool,
    invpcid: bool,
}

impl Available {
    pub fn new(host: &impl Fn(u32, u32) -> CpuidResult, guest: &GuestCpu) -> Self {
        Self {
            xcr0: xsave::permitted_xcr0(host),
            apic: guest.apic,
            osxsave: guest.osxsave,
            rdtscp: guest.rdtscp,
            invpcid: guest.invpcid,
        }
    }

    fn met(&self, needs: Needs) -> bool {
        match needs {
            Nothing => true,
            Avx => self.xcr0 & AVX != 0,
            Avx512 => self.xcr0 & AVX_512 != 0,
            Rdtscp => self.rdtscp,
            Invpcid => self.invpcid,
        }
    }

    fn allow(&self, list: &[Feature], host: u32) -> u32 {
        let met = list.iter().filter(|feature| self.met(feature.needs));
        met.fold(0, |allowed, feature| allowed | (host & 1 << feature.bit))
    }

    pub fn leaf_1_ecx(&self, host: u32) -> u32 {
        // Without any state component there is nothing to enable.
        let xsave = if self.xcr0 == 0 { host & !xsave::XSAVE } else { host };
        let allowed = self.allow(LEAF_1_ECX, xsave);
        let osxsave = if self.osxsave && allowed & xsave::XSAVE != 0 { OSXSAVE } else { 0 };
        allowed | osxsave | HYPERVISOR
    }

    pub fn leaf_1_edx(&self, host: u32) -> u32 {
        let allowed = self.allow(LEAF_1_EDX, host);
        if self.apic { allowed } else { allowed & !APIC }
    }

    /// Subleaf 0, which is the last one.
    pub fn leaf_7(&self, host: CpuidResult) -> CpuidResult {
        CpuidResult {
            ebx: self.allow(LEAF_7_EBX, host.ebx),
            ecx: self.allow(LEAF_7_ECX, host.ecx),
            edx: self.allow(LEAF_7_EDX, host.edx),
            ..NOTHING
        }
    }

    pub fn extended_ecx(&self, host: u32) -> u32 {
        self.allow(EXTENDED_ECX, host)
    }

    pub fn extended_edx(&self, host: u32) -> u32 {
        self.allow(EXTENDED_EDX, host)
    }
}
