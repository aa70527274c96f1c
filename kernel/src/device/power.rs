//! Power-off and reset: the registers that the ACPI tables announce, and two that every PC has; and the power button.
//!
//! The guests' ACPI is hardware-reduced, so there is no PM1 control block but a sleep control
//! and a sleep status register (ACPI 6.5, 4.8.3.7), here at I/O ports, and a reset register (4.8.3.6).

/// The sleep control register's I/O port.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// The sleep status register's I/O port.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// The reset register's I/O port.
pub const RESET_PORT: u16 = 0x602;
/// I/O ports that the three occupy.
pub const PORT_COUNT: u16 = 3;
/// What resets the guest when written to [`RESET_PORT`].
pub const RESET_VALUE: u8 = 0x06;
/// What `_S5_` says, and the sleep type field must hold, for power-off.
pub const S5_SLEEP_TYPE: u8 = 5;

/// The IOAPIC's pin of the power button's event, which is the ISA interrupt that PCs have for ACPI's events.
pub const BUTTON_IRQ: u8 = 9;
/// What a device that is a button says when it has been pressed (ACPI 6.5, 5.6.6, table 5.161).
pub const BUTTON_PRESSED: u8 = 0x80;

/// Sleep control: enter the state in the type field (ACPI 6.5, 4.8.3.7).
const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;

/// The chipset's reset control register.
pub const RESET_CONTROL_PORT: u16 = 0xcf9;
/// Reset control: reset the processor, on a write that sets it (bit 1 says how thoroughly).
const RESET_CPU: u8 = 1 << 2;
/// The keyboard controller's command port.
pub const KEYBOARD_COMMAND_PORT: u16 = 0x64;
/// Keyboard controller: pulse output bit 0, which is wired to the processor's reset.
const PULSE_RESET: u8 = 0xfe;

/// What the guest asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerEvent {
    /// Switch the guest off.
    PowerOff,
    /// Start the guest anew.
    Reset,
}

/// Reads the register `offset` (0 to 2) ports behind [`SLEEP_CONTROL_PORT`].
///
/// Sleep enable reads as 0, and the guest never woke from a sleep (`WAK_STS` 0).
pub const fn read(_offset: u16) -> u8 {
    0
}

/// Writes the register `offset` (0 to 2) ports behind [`SLEEP_CONTROL_PORT`].
///
/// A sleep type other than S5's does nothing.
pub const fn write(offset: u16, value: u8) -> Option<PowerEvent> {
    const SLEEP_CONTROL: u16 = 0;
    const RESET: u16 = RESET_PORT - SLEEP_CONTROL_PORT;
    match offset {
        SLEEP_CONTROL
            if value & SLEEP_ENABLE != 0
                && value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK == S5_SLEEP_TYPE =>
        {
            Some(PowerEvent::PowerOff)
        }
        RESET if value == RESET_VALUE => Some(PowerEvent::Reset),
        _ => None,
    }
}

/// Whether a byte written to `port` resets a PC in one of the old ways.
pub const fn legacy_reset(port: u16, value: u8) -> Option<PowerEvent> {
    match port {
        RESET_CONTROL_PORT if value & RESET_CPU != 0 => Some(PowerEvent::Reset),
        KEYBOARD_COMMAND_PORT if value == PULSE_RESET => Some(PowerEvent::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_s5_with_sleep_enable_powers_off() {
        // SLP_EN, and 5 in bits 2 to 4: what Linux's acpi_hw_extended_sleep writes.
        assert_eq!(write(0, 0x34), Some(PowerEvent::PowerOff));
        for value in (0..=u8::MAX).filter(|value| value & 0x3c != 0x34) {
            assert_eq!(write(0, value), None, "{value:#x}");
        }
        assert_eq!(write(1, 0x34), None);
        assert_eq!(write(1, 0x80), None);
    }

    #[test]
    fn only_the_announced_value_resets() {
        for value in 0..=u8::MAX {
            let expected = (value == RESET_VALUE).then_some(PowerEvent::Reset);
            assert_eq!(write(2, value), expected);
        }
        assert_eq!(write(3, RESET_VALUE), None);
    }

    #[test]
    fn the_old_ways_reset() {
        // Linux writes bit 1 alone first, then with bit 2.
        assert_eq!(legacy_reset(0xcf9, 0x02), None);
        assert_eq!(legacy_reset(0xcf9, 0x06), Some(PowerEvent::Reset));
        assert_eq!(legacy_reset(0xcf9, 0x0e), Some(PowerEvent::Reset));
        assert_eq!(legacy_reset(0x64, 0xfe), Some(PowerEvent::Reset));
        assert_eq!(legacy_reset(0x64, 0xff), None);
        assert_eq!(legacy_reset(0x60, 0xfe), None);
    }
}
