//! VMCS, EPT, entry and exit; knows nothing of guests' policy.

pub mod ept;
pub mod exit;
