//! Switching the physical machine off (ACPI 6.5, 4.8.3.2).

use super::port;

/// Where and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftOff {
    /// Port of PM1a control.
    pub port: u16,
    /// `SLP_TYPa` of state S5.
    pub sleep_type: u8,
}

/// PM1 control: sleep type, and sleep enable.
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_TYPE: u16 = 0b111 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u16 = 1 << 13;

impl SoftOff {
    /// Switches off. Returns if the machine does not obey.
    pub fn now(&self) {
        // SAFETY: the port is the FADT's; nothing but the hypervisor uses it, and it is done.
        unsafe {
            let control = port::read_u16(self.port) & !SLEEP_TYPE;
            let control = control | u16::from(self.sleep_type) << SLEEP_TYPE_SHIFT;
            port::write_u16(self.port, control);
            port::write_u16(self.port, control | SLEEP_ENABLE);
        }
    }
}
