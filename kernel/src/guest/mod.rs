//! Policy: what each exit means, what a guest may see, how it is loaded.

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
