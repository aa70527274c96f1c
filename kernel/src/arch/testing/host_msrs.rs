//! The model-specific registers that no guest may change for the hypervisor: read at a core's start, and compared with what
//! they are when a guest asks, or has ended. For a build to be tested.
//!
//! Not among them are those that a guest has for itself while it runs, as root mode uses none of them (`guest/msr.rs`): STAR,
//! LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX; and of its local APIC what its interrupts go by. Counters and statuses
//! change by themselves.

use super::probe;
use crate::arch::local;
use crate::arch::msr::Msr;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use spin::Mutex;

/// Their numbers (SDM Vol. 4, table 2-2). Those that a processor lacks are left out.
const LISTED: [u32; 36] = [
    // APIC_BASE, FEATURE_CONTROL, TSC_ADJUST, SPEC_CTRL, UMWAIT_CONTROL, TSX_CTRL, MISC_FEATURES_ENABLES.
    0x1B,
    0x3A,
    0x3B,
    0x48,
    0xE1,
    0x122,
    0x140,
    // SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, MCG_CTL, THERM_INTERRUPT, MISC_ENABLE, DEBUGCTL.
    0x174,
    0x175,
    0x176,
    0x17B,
    0x19B,
    0x1A0,
    0x1D9,
    // Fixed memory-type ranges of 64 and 16 KiB, PAT, MTRR_DEF_TYPE.
    0x250,
    0x258,
    0x259,
    0x277,
    0x2FF,
    // FIXED_CTR_CTRL, PERF_GLOBAL_CTRL, PEBS_ENABLE, RTIT_CTL, DS_AREA, U_CET, S_CET, TSC_DEADLINE, XSS.
    0x38D,
    0x38F,
    0x3F1,
    0x570,
    0x600,
    0x6A0,
    0x6A2,
    0x6E0,
    0xDA0,
    // Entries of the local vector table that no guest has: CMCI, thermal, performance, LINT0, LINT1.
    0x82F,
    0x833,
    0x834,
    0x835,
    0x836,
    // EFER, FS_BASE, GS_BASE.
    0xC000_0080,
    0xC000_0100,
    0xC000_0101,
];
/// Groups of them: variable memory-type ranges, fixed ones of 4 KiB, MC0_CTL2 to MC31_CTL2, MC0_CTL to MC31_CTL.
const GROUPS: [(RangeInclusive<u32>, usize); 4] =
    [(0x200..=0x213, 1), (0x268..=0x26F, 1), (0x280..=0x29F, 1), (0x400..=0x47C, 4)];

/// A register's number, and what it held.
type Held = (u32, u64);

/// What each core's registers held at its start.
static START: Mutex<Vec<(usize, Vec<Held>)>> = Mutex::new(Vec::new());

/// What has become of this core's registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// How many were looked at.
    pub registers: usize,
    /// How many are not as they were.
    pub changed: usize,
    /// The first of these: its number, what it was, and what it is.
    pub first: Option<(u32, u64, u64)>,
}

/// Remembers what this core's registers hold.
pub fn remember() {
    let groups = GROUPS.into_iter().flat_map(|(range, step)| range.step_by(step));
    let listed = LISTED.into_iter().chain(groups);
    let held = listed.filter_map(|msr| probe::rdmsr(msr).map(|value| (msr, value))).collect();
    START.lock().push((local::core_index(), held));
}

/// Compares this core's registers with what they held.
pub fn compare() -> Compared {
    let index = local::core_index();
    let start = START.lock();
    let held = start.iter().filter(|(core, _)| *core == index).flat_map(|(_, held)| held);
    held.fold(Compared::default(), |seen, &(msr, was)| {
        let is = Msr::claimed(msr).read();
        let changed = is != was;
        Compared {
            registers: seen.registers + 1,
            changed: seen.changed + usize::from(changed),
            first: seen.first.or(changed.then_some((msr, was, is))),
        }
    })
}
