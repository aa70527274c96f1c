//! Policy: what each exit means, what a guest may see, how it is loaded.

// A guest reaches all of this, and the loaders read files that nobody has checked: neither must
// stop the hypervisor, also where overflow panics.
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

pub mod acpi;
pub mod activity;
pub mod apic;
pub mod clock;
pub mod control_registers;
pub mod cpuid;
pub mod examine;
pub mod layout;
pub mod loader;
pub mod mmio;
pub mod msr;
pub mod report;
pub mod run;
pub mod shared;
pub mod startup;
pub mod statistics;
pub mod stop;
pub mod tsc;
pub mod vcpu;
pub mod walk;
