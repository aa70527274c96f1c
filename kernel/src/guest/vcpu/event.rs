//! Events that are injected at VM entry (SDM Vol. 3C, 25.8.3 and 27.5).

use crate::arch::cpu::cr0;
use crate::vmx::vmcs::{CurrentVmcs, GuestField, InfoField};

/// Interruption information: the field is valid.
const VALID: u64 = 1 << 31;
/// Interruption information: an error code comes with it.
const ERROR_CODE: u64 = 1 << 11;
/// Interruption information, type: hardware exception.
const HARDWARE_EXCEPTION: u64 = 3 << 8;
/// Interruption information: its type.
const TYPE: u64 = 0b111 << 8;
/// Type: NMI.
const NMI: u64 = 2 << 8;
/// Types of events that an instruction causes: software interrupt, privileged software exception, software exception.
const SOFTWARE: [u64; 3] = [4 << 8, 5 << 8, 6 << 8];
/// Interruptibility: NMIs are blocked (SDM Vol. 3C, table 25-3).
pub const BLOCKED_BY_NMI: u64 = 1 << 3;
/// An NMI's vector.
const NMI_VECTOR: u64 = 2;
/// Interruptibility: blocking by STI.
const BLOCKED_BY_STI: u64 = 1 << 0;
/// Interruptibility: what an NMI waits for: blocking by MOV SS, by NMI (SDM Vol. 3C, 27.3.1.5).
const BLOCKS_NMI: u64 = 0b1010;
/// Bits of the IDT-vectoring information that an injection takes: vector, type, error code, valid.
const INJECTED: u64 = VALID | ERROR_CODE | TYPE | 0xFF;

/// An exception for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #DB, with the DR6 bits set already.
    Debug,
    /// #UD.
    InvalidOpcode,
    /// #GP(0).
    GeneralProtection,
    /// #PF: the error code; CR2 is set already.
    PageFault(u32),
    /// #AC(0).
    AlignmentCheck,
}

impl Exception {
    /// Vector and error code (SDM Vol. 3A, table 6-1).
    const fn encoding(self) -> (u64, Option<u32>) {
        match self {
            Self::Debug => (1, None),
            Self::InvalidOpcode => (6, None),
            Self::GeneralProtection => (13, Some(0)),
            Self::PageFault(code) => (14, Some(code)),
            Self::AlignmentCheck => (17, Some(0)),
        }
    }
}

/// Lets the guest take an exception at its next instruction.
pub fn inject(vmcs: &mut CurrentVmcs, exception: Exception) {
    let (vector, code) = exception.encoding();
    let mut event = VALID | HARDWARE_EXCEPTION | vector;
    // In real mode no exception has an error code (SDM Vol. 3C, 27.2.1.3).
    if let Some(code) = code.filter(|_| vmcs.read(GuestField::CR0) & cr0::PE != 0) {
        event |= ERROR_CODE;
        vmcs.write(GuestField::ENTRY_ERROR_CODE, code.into());
    }
    vmcs.write(GuestField::ENTRY_EVENT, event);
}

/// Lets the guest take an NMI at its next instruction, unless it blocks NMIs or something
/// else is injected; says whether it will.
pub fn inject_nmi(vmcs: &mut CurrentVmcs) -> bool {
    let state = vmcs.read(GuestField::INTERRUPTIBILITY);
    if state & BLOCKS_NMI != 0 || vmcs.read(GuestField::ENTRY_EVENT) & VALID != 0 {
        return false;
    }
    // Some processors take no NMI with blocking by STI; but where it does not hold an NMI-window exit
    // back, waiting for its end would be an exit after the other at the same instruction. An NMI
    // may come right behind STI (SDM Vol. 2B, STI).
    if state & BLOCKED_BY_STI != 0 {
        vmcs.write(GuestField::INTERRUPTIBILITY, state & !BLOCKED_BY_STI);
    }
    vmcs.write(GuestField::ENTRY_EVENT, VALID | NMI | NMI_VECTOR);
    true
}

/// Whether the exit came while an event was being delivered.
#[inline(always)]
pub fn interrupted_delivery(vmcs: &CurrentVmcs) -> bool {
    vmcs.info(InfoField::VECTORING) & VALID != 0
}

/// Whether the exit came while an external interrupt was being delivered. It has been
/// acknowledged, so that it must not be lost.
pub fn interrupted_interrupt(vmcs: &CurrentVmcs) -> bool {
    vmcs.info(InfoField::VECTORING) & (VALID | TYPE) == VALID
}

/// Delivers once more the event whose delivery the exit interrupted.
pub fn redeliver(vmcs: &mut CurrentVmcs) {
    let vectoring = vmcs.info(InfoField::VECTORING);
    if vectoring & ERROR_CODE != 0 {
        let code = vmcs.info(InfoField::VECTORING_ERROR_CODE);
        vmcs.write(GuestField::ENTRY_ERROR_CODE, code);
    }
    if SOFTWARE.contains(&(vectoring & TYPE)) {
        let length = vmcs.info(InfoField::INSTRUCTION_LENGTH);
        vmcs.write(GuestField::ENTRY_INSTRUCTION_LENGTH, length);
    }
    if vectoring & TYPE == NMI {
        // The NMI is about to be delivered again: it does not block itself (SDM Vol. 3C, 27.3.1.5).
        let state = vmcs.read(GuestField::INTERRUPTIBILITY);
        vmcs.write(GuestField::INTERRUPTIBILITY, state & !BLOCKED_BY_NMI);
    }
    vmcs.write(GuestField::ENTRY_EVENT, vectoring & INJECTED);
}
