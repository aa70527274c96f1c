//! What fuzzing does with its input, and the inputs that are kept.
//!
//! Each parser that reads what nobody has checked, and each device model, is a [`Target`]: a function that takes any bytes and
//! panics where something does not hold. `fuzz/fuzz_targets` calls them with what libFuzzer makes up; a unit test calls them
//! with the [`corpus`], which is text in `fuzz/corpus`. Nothing here needs libFuzzer.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod input;
pub mod memory;
pub mod targets;

/// A parser or device model that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its file in `fuzz/fuzz_targets` and `fuzz/corpus`.
    pub name: &'static str,
    /// Takes an input. Panics if something does not hold, else says what came of it.
    pub run: fn(&[u8]) -> String,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: targets::$name }),*];
    };
}

targets!(
    acpi, apic, bundle, bzimage, commands, console, decoder, elf, frames, ioapic, manifest,
    multiboot, platform, pvh, rtc, uart, walk,
);

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
