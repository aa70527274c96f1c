//! The local APIC's registers in xAPIC mode: a page of memory (SDM Vol. 3A, 11.4.1, table 11-1).

use core::arch::asm;

/// Where the page is after reset.
pub const PAGE: u64 = 0xFEE0_0000;
/// Local APIC ID.
pub const ID: u64 = 0x20;
/// Version.
pub const VERSION: u64 = 0x30;
/// Task priority.
pub const TPR: u64 = 0x80;
/// Arbitration priority.
pub const APR: u64 = 0x90;
/// Processor priority.
pub const PPR: u64 = 0xA0;
/// End of interrupt.
pub const EOI: u64 = 0xB0;
/// Remote read.
pub const RRD: u64 = 0xC0;
/// Logical destination.
pub const LDR: u64 = 0xD0;
/// Destination format.
pub const DFR: u64 = 0xE0;
/// Spurious-interrupt vector.
pub const SVR: u64 = 0xF0;
/// First of eight in-service registers.
pub const ISR: u64 = 0x100;
/// First of eight trigger-mode registers.
pub const TMR: u64 = 0x180;
/// First of eight interrupt-request registers.
pub const IRR: u64 = 0x200;
/// Bytes from one register to the next.
pub const STRIDE: u64 = 0x10;
/// Error status.
pub const ESR: u64 = 0x280;
/// LVT: corrected machine check.
pub const LVT_CMCI: u64 = 0x2F0;
/// Interrupt command, lower half: writing it sends.
pub const ICR: u64 = 0x300;
/// Interrupt command, upper half: the destination.
pub const ICR_HIGH: u64 = 0x310;
/// LVT: timer.
pub const LVT_TIMER: u64 = 0x320;
/// LVT: thermal sensor.
pub const LVT_THERMAL: u64 = 0x330;
/// LVT: performance counters.
pub const LVT_PERFORMANCE: u64 = 0x340;
/// LVT: pin LINT0.
pub const LVT_LINT0: u64 = 0x350;
/// LVT: pin LINT1.
pub const LVT_LINT1: u64 = 0x360;
/// LVT: errors.
pub const LVT_ERROR: u64 = 0x370;
/// Timer's initial count.
pub const TIMER_INITIAL: u64 = 0x380;
/// Timer's current count.
pub const TIMER_CURRENT: u64 = 0x390;
/// Timer's divider.
pub const TIMER_DIVIDE: u64 = 0x3E0;

/// Reads the register at an offset. By MOV: of a volatile read the compiler may make CMP.
pub fn read(offset: u64) -> u64 {
    let value: u32;
    // SAFETY: the page is mapped one to one, and no register has side effects when read.
    unsafe {
        asm!("mov {value:e}, [{at}]", at = in(reg) PAGE + offset, value = out(reg) value,
            options(nostack, preserves_flags));
    }
    value.into()
}

/// Writes the register at an offset. It leads to interrupts at most, and every vector has a stub
/// that can take it.
pub fn write(offset: u64, value: u32) {
    // SAFETY: the page is mapped one to one; it is no memory that Rust knows of.
    unsafe {
        asm!("mov [{at}], {value:e}", at = in(reg) PAGE + offset, value = in(reg) value,
            options(nostack, preserves_flags));
    }
}

/// A destination in its place in [`ICR_HIGH`].
pub const fn to(destination: u8) -> u32 {
    (destination as u32) << 24
}

/// Sends an interrupt command to a destination.
pub fn command(destination: u8, low: u32) {
    write(ICR_HIGH, to(destination));
    write(ICR, low);
}
