//! I/O ports of the physical machine.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// The caller owns the device behind the port and answers for the read's side effects.
pub unsafe fn read_u8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller's contract.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// Writes a byte.
///
/// # Safety
/// The caller owns the device behind the port.
pub unsafe fn write_u8(port: u16, value: u8) {
    // SAFETY: the caller's contract.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Reads a 16-bit word.
///
/// # Safety
/// The caller owns the device behind the port and answers for the read's side effects.
pub unsafe fn read_u16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: the caller's contract.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) };
    value
}

/// Writes a 16-bit word.
///
/// # Safety
/// The caller owns the device behind the port.
pub unsafe fn write_u16(port: u16, value: u16) {
    // SAFETY: the caller's contract.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}
