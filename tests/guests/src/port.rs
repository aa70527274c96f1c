//! I/O ports.
//!
//! An access is safe: a guest's devices can end the guest, but none reads or writes its memory
//! on account of a port.

use core::arch::asm;

/// A number that an I/O port takes: one, two or four bytes.
pub trait Number: Copy {
    /// Reads a port.
    fn input(port: u16) -> Self;

    /// Writes a port.
    fn output(port: u16, value: Self);
}

macro_rules! number {
    ($($type:ty: $register:tt),*) => {
        $(impl Number for $type {
            fn input(port: u16) -> Self {
                let value;
                // SAFETY: see the module's first lines.
                unsafe {
                    asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value,
                        options(nostack, preserves_flags));
                }
                value
            }

            fn output(port: u16, value: Self) {
                // SAFETY: see the module's first lines.
                unsafe {
                    asm!(concat!("out dx, ", $register), in("dx") port, in($register) value,
                        options(nostack, preserves_flags));
                }
            }
        })*
    };
}
number!(u8: "al", u16: "ax", u32: "eax");

/// Reads a port.
pub fn read<T: Number>(port: u16) -> T {
    T::input(port)
}

/// Writes a port.
pub fn write<T: Number>(port: u16, value: T) {
    T::output(port, value);
}
