//! What a processor has to protect the hypervisor with.
//!
//! Bits are by the names of SDM Vol. 2A, CPUID leaf 7, and Vol. 4, table 2-2, `IA32_ARCH_CAPABILITIES`.

use bitflags::bitflags;
use core::arch::x86_64::CpuidResult;

/// Reads a processor; the real one, or a made-up one in a test.
pub trait Processor {
    /// CPUID.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult;
    /// `IA32_ARCH_CAPABILITIES`, asked for only where CPUID.7.0:EDX\[29\] says that it exists.
    fn arch_capabilities(&self) -> u64;
}

bitflags! {
    /// What a processor has, and what it says that it is not prone to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Found: u32 {
        /// No-execute pages.
        const NX = 1 << 0;
        /// Supervisor-mode execution prevention.
        const SMEP = 1 << 1;
        /// Supervisor-mode access prevention.
        const SMAP = 1 << 2;
        /// User-mode instruction prevention.
        const UMIP = 1 << 3;
        /// `IA32_SPEC_CTRL` with IBRS, and `IA32_PRED_CMD` with IBPB: one bit tells of both.
        const IBRS = 1 << 4;
        /// IBRS need be set once only (`IBRS_ALL`).
        const ENHANCED_IBRS = 1 << 5;
        /// `BHI_DIS_S` in `IA32_SPEC_CTRL`.
        const BHI_CTRL = 1 << 6;
        /// Branch history of less privileged code steers nothing.
        const BHI_NO = 1 << 7;
        /// No RET takes a guest's prediction after an exit with enhanced IBRS.
        const PBRSB_NO = 1 << 8;
        /// VERW overwrites the core's buffers.
        const MD_CLEAR = 1 << 9;
        /// No stale data can be read from the core's buffers.
        const BUFFERS_NO = 1 << 10;
        /// `IA32_FLUSH_CMD` writes the L1 data cache back and empties it.
        const L1D_FLUSH = 1 << 11;
        /// The L1 data cache need not be flushed at a VM entry.
        const L1TF_NO = 1 << 12;
        /// A change of a page's size while it is executed causes no machine check.
        const PSCHANGE_MC_NO = 1 << 13;
    }
}

/// Highest basic leaf, and highest extended one.
const BASIC: u32 = 0;
pub(super) const EXTENDED: u32 = 0x8000_0000;
const STRUCTURED: u32 = 7;
pub(super) const EXTENDED_FEATURES: u32 = 0x8000_0001;
/// Subleaf of leaf 7 that has `BHI_CTRL`.
const STRUCTURED_2: u32 = 2;

pub(super) const EMPTY: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// `IA32_ARCH_CAPABILITIES`.
pub(super) mod arch {
    pub const RDCL_NO: u64 = 1 << 0;
    pub const IBRS_ALL: u64 = 1 << 1;
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    pub const MDS_NO: u64 = 1 << 5;
    pub const PSCHANGE_MC_NO: u64 = 1 << 6;
    pub const TAA_NO: u64 = 1 << 8;
    pub const BHI_NO: u64 = 1 << 20;
    pub const PBRSB_NO: u64 = 1 << 24;
    pub const RFDS_CLEAR: u64 = 1 << 28;
}

impl Found {
    /// Asks a processor. What it does not say that it is free of, it is taken to be prone to.
    pub fn of(processor: &impl Processor) -> Self {
        // A leaf beyond the highest answers with another one's values (SDM Vol. 2A, CPUID).
        let leaf = |first: u32, leaf: u32, subleaf: u32| {
            if processor.cpuid(first, 0).eax >= leaf {
                processor.cpuid(leaf, subleaf)
            } else {
                EMPTY
            }
        };
        let features = leaf(BASIC, STRUCTURED, 0);
        let further = if features.eax >= STRUCTURED_2 {
            leaf(BASIC, STRUCTURED, STRUCTURED_2)
        } else {
            EMPTY
        };
        let extended = leaf(EXTENDED, EXTENDED_FEATURES, 0);
        let has = |register: u32, bit: u32| register & 1 << bit != 0;
        let arch = if has(features.edx, 29) { processor.arch_capabilities() } else { 0 };
        let says = |bit: u64| arch & bit != 0;
        // Transactions can read the buffers where MDS alone cannot; RFDS_CLEAR tells of register files
        // that VERW overwrites, and is set where they can be read.
        let transactions = has(features.ebx, 11);
        let buffers_no =
            says(arch::MDS_NO) && (says(arch::TAA_NO) || !transactions) && !says(arch::RFDS_CLEAR);
        let mut found = Self::empty();
        for (flag, present) in [
            (Self::NX, has(extended.edx, 20)),
            (Self::SMEP, has(features.ebx, 7)),
            (Self::SMAP, has(features.ebx, 20)),
            (Self::UMIP, has(features.ecx, 2)),
            (Self::IBRS, has(features.edx, 26)),
            (Self::ENHANCED_IBRS, has(features.edx, 26) && says(arch::IBRS_ALL)),
            (Self::BHI_CTRL, has(features.edx, 26) && has(further.edx, 4)),
            (Self::BHI_NO, says(arch::BHI_NO)),
            (Self::PBRSB_NO, says(arch::PBRSB_NO)),
            (Self::MD_CLEAR, has(features.edx, 10) || says(arch::RFDS_CLEAR)),
            (Self::BUFFERS_NO, buffers_no),
            (Self::L1D_FLUSH, has(features.edx, 28)),
            (Self::L1TF_NO, says(arch::RDCL_NO) || says(arch::SKIP_L1DFL_VMENTRY)),
            (Self::PSCHANGE_MC_NO, says(arch::PSCHANGE_MC_NO)),
        ] {
            found.set(flag, present);
        }
        found
    }
}
