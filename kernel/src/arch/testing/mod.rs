//! What only a hypervisor under test has.

pub mod host_msrs;
pub mod probe;
