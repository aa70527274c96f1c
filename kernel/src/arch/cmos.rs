//! The registers of the physical real-time clock.

use super::port;

/// Port that selects a register, and port that holds it.
const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

/// Reads a register.
pub fn register(index: u8) -> u8 {
    // SAFETY: the hypervisor owns the clock; reading it changes nothing that anyone uses.
    unsafe {
        port::write_u8(INDEX, index);
        port::read_u8(DATA)
    }
}
