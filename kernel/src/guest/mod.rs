//! Policy: what each exit means, what a guest may see, how it is loaded.

pub mod acpi;
pub mod cpuid;
pub mod layout;
pub mod loader;
pub mod mmio;
pub mod walk;
