//! Policy: what each exit means, what a guest may see, how it is loaded.

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod control_registers;
pub mod cpuid;
mod event;
pub mod layout;
pub mod loader;
pub mod mmio;
pub mod msr;
pub mod report;
pub mod run;
pub mod shared;
pub mod statistics;
pub mod stop;
mod string_io;
pub mod vcpu;
pub mod walk;
