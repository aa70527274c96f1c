//! VMCS, EPT, entry and exit; knows nothing of guests' policy.

pub mod bitmap;
pub mod capability;
pub mod checks;
pub mod controls;
pub mod ept;
pub mod exit;
pub mod snapshot;
pub mod start;
pub mod vmcs;
