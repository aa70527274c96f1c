//! Made-up processors: what they are found to have, and what is done on them.

use super::found::arch::{MDS_NO, PBRSB_NO, RFDS_CLEAR, TAA_NO};
use super::found::{EMPTY, EXTENDED, EXTENDED_FEATURES};
use super::speculation::SPEC_CTRL_BHI_DIS_S;
use super::{Defence, Found, Processor, SPEC_CTRL_IBRS};
use crate::arch::switch::Crossing;
use core::arch::x86_64::CpuidResult;
use std::collections::BTreeMap;

/// A processor with these leaves.
struct Fake {
    leaves: BTreeMap<(u32, u32), CpuidResult>,
    arch: Option<u64>,
}

impl Processor for Fake {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let answer = self.leaves.get(&(leaf, subleaf));
        *answer.unwrap_or_else(|| panic!("leaf {leaf:#x}.{subleaf} is beyond the highest"))
    }

    fn arch_capabilities(&self) -> u64 {
        self.arch.expect("IA32_ARCH_CAPABILITIES would fault")
    }
}

fn fake(highest: u32, leaf_7: CpuidResult, arch: Option<u64>) -> Fake {
    Fake {
        leaves: BTreeMap::from([
            ((0, 0), CpuidResult { eax: highest, ..EMPTY }),
            ((7, 0), leaf_7),
            ((7, 2), CpuidResult { edx: 1 << 4, ..EMPTY }),
            ((EXTENDED, 0), CpuidResult { eax: EXTENDED_FEATURES, ..EMPTY }),
            ((EXTENDED_FEATURES, 0), CpuidResult { edx: 1 << 20, ..EMPTY }),
        ]),
        arch,
    }
}

const SMEP_SMAP: u32 = 1 << 7 | 1 << 20;
const RTM: u32 = 1 << 11;

/// With the microcode it was sold with.
fn skylake() -> Fake {
    fake(0x16, CpuidResult { ebx: SMEP_SMAP | RTM, ..EMPTY }, None)
}

/// With later microcode: IBRS, STIBP, L1D_FLUSH, MD_CLEAR, SSBD.
fn patched_skylake() -> Fake {
    let edx = 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 31;
    fake(0x16, CpuidResult { ebx: SMEP_SMAP | RTM, edx, ..EMPTY }, None)
}

/// IBRS_ALL, RDCL_NO, MDS_NO, TAA_NO, PSCHANGE_MC_NO; prone to the others.
fn ice_lake() -> Fake {
    let edx = 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;
    let features = CpuidResult { ebx: SMEP_SMAP, ecx: 1 << 2, edx, ..EMPTY };
    fake(0x1B, features, Some(0x16B))
}

/// All that there is: subleaf 2 with BHI_CTRL, and PBRSB_NO.
fn granite_rapids() -> Fake {
    let edx = 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;
    let features = CpuidResult { eax: 2, ebx: SMEP_SMAP | RTM, ecx: 1 << 2, edx };
    fake(0x23, features, Some(0x16B | PBRSB_NO))
}

const BASIC: Found = Found::NX.union(Found::SMEP).union(Found::SMAP);

#[test]
fn what_processors_have_is_found() {
    assert_eq!(Found::of(&skylake()), BASIC);
    let patched = BASIC | Found::IBRS | Found::MD_CLEAR | Found::L1D_FLUSH;
    assert_eq!(Found::of(&patched_skylake()), patched);
    let free = Found::BUFFERS_NO | Found::L1TF_NO | Found::PSCHANGE_MC_NO;
    let enhanced = patched | Found::UMIP | Found::ENHANCED_IBRS | free;
    assert_eq!(Found::of(&ice_lake()), enhanced);
    assert_eq!(Found::of(&granite_rapids()), enhanced | Found::BHI_CTRL | Found::PBRSB_NO);
}

#[test]
fn without_leaf_7_nothing_is_taken_for_it() {
    // Leaf 7 would answer as another leaf does.
    let all = CpuidResult { eax: u32::MAX, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX };
    assert_eq!(Found::of(&fake(6, all, None)), Found::NX);
}

#[test]
fn transactions_and_register_files_make_the_buffers_readable_again() {
    let with = |arch: u64, ebx: u32| {
        let features = CpuidResult { ebx, edx: 1 << 29, ..EMPTY };
        Found::of(&fake(7, features, Some(arch)))
    };
    assert!(with(MDS_NO, 0).contains(Found::BUFFERS_NO));
    assert!(!with(MDS_NO, RTM).contains(Found::BUFFERS_NO));
    assert!(with(MDS_NO | TAA_NO, RTM).contains(Found::BUFFERS_NO));
    let atom = with(MDS_NO | RFDS_CLEAR, 0);
    assert!(!atom.contains(Found::BUFFERS_NO) && atom.contains(Found::MD_CLEAR));
}

#[test]
fn without_microcode_returns_are_defended_all_the_same() {
    let defence = Defence::of(Found::of(&skylake()));
    let expected = Defence { spec_ctrl: None, crossing: Crossing::REFILL, barrier: false };
    assert_eq!(defence, expected);
}

#[test]
fn what_is_not_enhanced_is_set_at_each_exit() {
    let defence = Defence::of(Found::of(&patched_skylake()));
    let all = Crossing::REFILL_AND_IBRS | Crossing::VERW | Crossing::FLUSH_L1;
    let spec_ctrl = Some(SPEC_CTRL_IBRS);
    assert_eq!(defence, Defence { spec_ctrl, crossing: all, barrier: true });
}

#[test]
fn enhanced_ibrs_is_set_once() {
    let defence = Defence::of(Found::of(&ice_lake()));
    let spec_ctrl = Some(SPEC_CTRL_IBRS);
    assert_eq!(defence, Defence { spec_ctrl, crossing: Crossing::CALL, barrier: true });
    let defence = Defence::of(Found::of(&granite_rapids()));
    let spec_ctrl = Some(SPEC_CTRL_IBRS | SPEC_CTRL_BHI_DIS_S);
    assert_eq!(defence, Defence { spec_ctrl, crossing: Crossing::PLAIN, barrier: true });
}
