//! What is done with a fuzzer's input, one file for what belongs together.
//!
//! A target panics where something does not hold that has to. Otherwise it says in a few words what came of the input:
//! that is what a case's comment in the corpus says.

mod acpi;
mod apic;
mod bundle;
mod commands;
mod console;
mod decoder;
mod frames;
mod ioapic;
mod loaders;
mod manifest;
mod platform;
mod rtc;
mod uart;
mod walk;

pub use acpi::acpi;
pub use apic::apic;
pub use bundle::bundle;
pub use commands::commands;
pub use console::console;
pub use decoder::decoder;
pub use frames::frames;
pub use ioapic::ioapic;
pub use loaders::{bzimage, elf, multiboot, pvh};
pub use manifest::manifest;
pub use platform::platform;
pub use rtc::rtc;
pub use uart::uart;
pub use walk::walk;
