//! What the processor says about a VM exit: reasons, qualifications, events, errors.
//!
//! SDM Vol. 3D, Appendix C for the reasons; Vol. 3C, 28.2 for what comes with them.

// Guests cause what is decoded here: none of it must stop the hypervisor.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

mod event;
mod instruction_error;
mod qualification;
mod reason;

pub use event::{Event, EventKind};
pub use instruction_error::instruction_error;
pub use qualification::{
    ApicAccess, ApicAccessKind, ControlRegisterAccess, ControlRegisterOperation, EptViolation,
    IoDirection, IoInstruction,
};
pub use reason::{ExitReason, failed_entry};

/// Bit `number` of a value.
const fn bit(value: u64, number: u32) -> bool {
    value >> number & 1 != 0
}

/// `width` bits from bit `low` on.
const fn bits(value: u64, low: u32, width: u32) -> u64 {
    value >> low & !(u64::MAX << width)
}
