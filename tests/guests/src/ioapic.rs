//! The IOAPIC's registers (82093AA data sheet, 3).

use core::arch::asm;

const PAGE: u64 = 0xFEC0_0000;
const SELECT: u64 = PAGE;
/// The data register.
pub const WINDOW: u64 = PAGE + 0x10;

/// Indices of registers (82093AA data sheet, 3.2).
pub mod register {
    /// ID.
    pub const ID: u8 = 0;
    /// Version, and the number of the last pin.
    pub const VERSION: u8 = 1;
    /// The first redirection entry's lower half.
    pub const REDIRECTION: u8 = 0x10;
}

/// A redirection entry's mask bit.
pub const MASKED: u32 = 1 << 16;
/// The console's pin.
pub const CONSOLE_PIN: u8 = 4;
/// The power button's, by the DSDT.
pub const BUTTON_PIN: u8 = 9;

/// Says which register the window shows.
pub fn select(index: u8) {
    store(SELECT, index.into());
}

/// Reads a register.
pub fn read(index: u8) -> u32 {
    select(index);
    let value;
    // A plain MOV, which is emulated: the compiler may make a volatile read part of another instruction.
    // SAFETY: the device's register.
    unsafe { asm!("mov {:e}, [{}]", out(reg) value, in(reg) WINDOW, options(nostack)) };
    value
}

/// Writes a register.
pub fn write(index: u8, value: u32) {
    select(index);
    store(WINDOW, value);
}

fn store(at: u64, value: u32) {
    // SAFETY: the device's register; it leads to interrupts that have handlers.
    unsafe { asm!("mov [{}], {:e}", in(reg) at, in(reg) value, options(nostack)) };
}

/// The index of the lower half of a pin's redirection entry; the upper half is behind it.
pub const fn entry(pin: u8) -> u8 {
    register::REDIRECTION + 2 * pin
}

/// Sets a pin's redirection entry, with a destination of 8 bits.
pub fn route(pin: u8, destination: u8, low: u32) {
    write(entry(pin) + 1, u32::from(destination) << 24);
    write(entry(pin), low);
}
