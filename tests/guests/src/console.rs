//! The console: a 16550 at I/O port 0x3f8, by polling.

use crate::port;
use core::fmt::{self, Write};

/// COM1's first port.
pub const COM1: u16 = 0x3F8;
/// The data register: what is written is sent.
pub const DATA: u16 = COM1;
/// The line status register.
pub const LINE_STATUS: u16 = COM1 + 5;
/// Line status: a byte has been received.
pub const RECEIVED: u8 = 1 << 0;
/// Line status: the transmitter takes bytes.
pub const TRANSMITTER_READY: u8 = 1 << 5;

/// The line control register, and eight data bits without parity in it: a real 16550 starts with five.
const LINE_CONTROL: u16 = COM1 + 3;
const EIGHT_BITS: u8 = 0b11;

/// Sets the port up.
pub(crate) fn prepare() {
    port::write(LINE_CONTROL, EIGHT_BITS);
}

/// Waits until the port takes a FIFO's worth of bytes.
pub fn wait_until_ready() {
    while port::read::<u8>(LINE_STATUS) & TRANSMITTER_READY == 0 {
        core::hint::spin_loop();
    }
}

/// Line status: all that was written is sent.
const TRANSMITTER_EMPTY: u8 = 1 << 6;

/// Waits until all that was printed is sent: to be called before the guest ends.
pub fn flush() {
    while port::read::<u8>(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
        core::hint::spin_loop();
    }
}

/// The serial port as something to print to.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

fn send(byte: u8) {
    wait_until_ready();
    port::write(DATA, byte);
}

/// Prints; the macros' part that is not generic.
pub fn print(arguments: fmt::Arguments<'_>) {
    // Printing to the port cannot fail, and a `Display` that does is no reason to stop.
    let _ = Console.write_fmt(arguments);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}
