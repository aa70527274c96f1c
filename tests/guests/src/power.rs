//! Power-off and reset, through the registers that the ACPI tables announce.

use crate::{console, cpu, port};

/// Sleep control register (ACPI 6.5, 4.8.3.7).
const SLEEP_CONTROL: u16 = 0x600;
/// Sleep control: the type of sleep in bits 2 to 4, enter it by bit 5. `_S5_` says 5.
const POWER_OFF: u8 = 5 << 2 | 1 << 5;
/// Reset register, and what resets.
const RESET: u16 = 0x602;
const RESET_VALUE: u8 = 6;

/// Switches the guest off.
pub fn power_off() -> ! {
    console::flush();
    port::write(SLEEP_CONTROL, POWER_OFF);
    cpu::halt_for_ever()
}

/// Restarts the guest.
pub fn reset() -> ! {
    console::flush();
    port::write(RESET, RESET_VALUE);
    cpu::halt_for_ever()
}
