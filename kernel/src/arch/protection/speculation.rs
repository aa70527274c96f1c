//! What is done so that speculation which a guest has prepared runs nothing, and reads nothing, of
//! the hypervisor's or of the next guest's.
//!
//! Guests have neither `IA32_SPEC_CTRL` nor `IA32_PRED_CMD` nor `IA32_FLUSH_CMD`: what root mode sets
//! stays in force while they run, and need be set once where the processor keeps to it ("enhanced
//! IBRS"). What has to be done at each exit and entry is in [`switch`](super::super::switch), in as many
//! variants as there are kinds of processors: no exit looks at what its processor needs.
//!
//! The registers are in SDM Vol. 4, table 2-2. What to do with them is in Intel's "Speculative Execution
//! Side Channel Mitigations", and for returns in "Post-Barrier Return Stack Buffer Predictions".

use super::super::msr::Msr;
use super::super::switch::Crossing;
use super::found::Found;

/// `IA32_SPEC_CTRL`: predictions that less privileged code has trained steer no indirect branch.
pub const SPEC_CTRL_IBRS: u64 = 1 << 0;
/// `IA32_SPEC_CTRL`: neither does the branch history of less privileged code.
pub(super) const SPEC_CTRL_BHI_DIS_S: u64 = 1 << 10;
/// `IA32_PRED_CMD`: drops all predictions of indirect branches.
const PRED_CMD_IBPB: u64 = 1 << 0;

/// What is done on one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defence {
    /// `IA32_SPEC_CTRL` in root mode, from the core's start on.
    pub(super) spec_ctrl: Option<u64>,
    /// At each exit and entry.
    pub(super) crossing: Crossing,
    /// Predictions are dropped before another run.
    pub(super) barrier: bool,
}

impl Defence {
    /// What a processor needs of what it has.
    pub fn of(found: Found) -> Self {
        let has = |flag| found.contains(flag);
        let enhanced = has(Found::ENHANCED_IBRS);
        let history = if enhanced && has(Found::BHI_CTRL) { SPEC_CTRL_BHI_DIS_S } else { 0 };
        let mut crossing = match (enhanced, has(Found::IBRS)) {
            (true, _) if has(Found::PBRSB_NO) => Crossing::PLAIN,
            // One RET may still take a guest's prediction until a CALL has retired.
            (true, _) => Crossing::CALL,
            // Without enhanced IBRS, the processor goes by predictions that were made in the guest unless
            // IBRS is written after the exit, even if it is set already.
            (false, true) => Crossing::REFILL_AND_IBRS,
            (false, false) => Crossing::REFILL,
        };
        crossing.set(Crossing::VERW, has(Found::MD_CLEAR) && !has(Found::BUFFERS_NO));
        crossing.set(Crossing::FLUSH_L1, has(Found::L1D_FLUSH) && !has(Found::L1TF_NO));
        Self {
            spec_ctrl: has(Found::IBRS).then_some(SPEC_CTRL_IBRS | history),
            crossing,
            barrier: has(Found::IBRS),
        }
    }

    /// What is done at each exit and entry.
    pub fn crossing(&self) -> Crossing {
        self.crossing
    }

    /// Sets what need be set once.
    ///
    /// # Safety
    /// It must be of the processor that this runs on.
    pub unsafe fn set(&self) {
        if let Some(value) = self.spec_ctrl {
            // SAFETY: the processor has the register with these bits; they restrict predictions alone.
            unsafe { Msr::SPEC_CTRL.write(value) };
        }
    }

    /// Drops the predictions of whatever ran here before.
    ///
    /// # Safety
    /// As [`set`](Self::set).
    pub unsafe fn forget(&self) {
        if self.barrier {
            // SAFETY: the processor has the command; it drops predictions alone.
            unsafe { Msr::PRED_CMD.write(PRED_CMD_IBPB) };
        }
    }
}
