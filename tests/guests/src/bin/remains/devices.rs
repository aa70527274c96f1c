//! The serial port and the IOAPIC.

use crate::{PATTERN, expect};
use bulkhead_guests::console::COM1;
use bulkhead_guests::ioapic::{self, MASKED, entry, register};
use bulkhead_guests::port;

const INTERRUPT_ENABLE: u16 = COM1 + 1;
const IDENTIFICATION: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const SCRATCH: u16 = COM1 + 7;
/// Line control: the divisor is where data and interrupt enable are.
const DIVISOR_ACCESS: u8 = 1 << 7;

const PINS: u8 = 24;

/// Looks whether they are as after power-on.
pub fn look() {
    for (name, at) in
        [("IER", INTERRUPT_ENABLE), ("MCR", MODEM_CONTROL), ("the scratch register", SCRATCH)]
    {
        expect(name, port::read::<u8>(at).into(), 0);
    }
    expect("IIR", port::read::<u8>(IDENTIFICATION).into(), 1);
    expect("the IOAPIC's ID", ioapic::read(register::ID).into(), 0);
    for pin in 0..PINS {
        let halves = [ioapic::read(entry(pin)), ioapic::read(entry(pin) + 1)];
        expect(format_args!("pin {pin}"), halves[0].into(), MASKED.into());
        expect(format_args!("pin {pin}'s destination"), halves[1].into(), 0);
    }
}

/// Writes to them; the console stays usable, and interrupts no more than once.
pub fn leave() {
    const ALL_SOURCES: u8 = 0xF;
    const FIFOS: u8 = 0xC7;
    const CONNECTED: u8 = 0b1011;
    const VECTOR: u32 = 0x77;
    port::write(IDENTIFICATION, FIFOS);
    port::write(SCRATCH, PATTERN as u8);
    ioapic::write(register::ID, 0x0500_0000);
    for pin in 0..PINS {
        ioapic::route(pin, 0, VECTOR);
    }
    port::write(MODEM_CONTROL, CONNECTED);
    port::write(INTERRUPT_ENABLE, ALL_SOURCES);
    let control = port::read::<u8>(LINE_CONTROL);
    port::write(LINE_CONTROL, control | DIVISOR_ACCESS);
    port::write(INTERRUPT_ENABLE, PATTERN as u8);
    port::write(LINE_CONTROL, control);
}
