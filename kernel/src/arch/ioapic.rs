//! The physical IOAPIC: the serial ports' lines are used, and no other.

use super::address::{HostPhysical, HostVirtual};
use super::apic::ApicId;

/// Byte offset of the register that selects, and of the window.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Index of the version register, whose bits 23:16 are the last pin.
const VERSION: u32 = 0x01;
/// Index of the first redirection entry.
const REDIRECTION: u32 = 0x10;
/// Redirection entry: mask, level trigger, active low.
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
/// Where a redirection entry's high half holds the destination.
const DESTINATION_SHIFT: u32 = 24;

/// How an interrupt line reaches an IOAPIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptRoute {
    /// Host-physical address of the IOAPIC's registers.
    pub ioapic: HostPhysical,
    /// Its pin.
    pub pin: u8,
    /// The line is active low.
    pub active_low: bool,
    /// The line is level-triggered.
    pub level: bool,
}

/// Whether an IOAPIC can name a core: it has eight bits, of which all ones mean everybody.
pub fn reaches(core: ApicId) -> bool {
    core.0 < 0xFF
}

/// An IOAPIC's registers.
pub struct Ioapic(HostVirtual);

impl Ioapic {
    /// # Safety
    /// `registers` must map an IOAPIC's page, uncached, that nothing else uses.
    pub unsafe fn new(registers: HostVirtual) -> Self {
        Self(registers)
    }

    fn read(&mut self, index: u32) -> u32 {
        // SAFETY: `new`'s contract.
        unsafe {
            ((self.0.as_u64() + SELECT) as *mut u32).write_volatile(index);
            ((self.0.as_u64() + WINDOW) as *const u32).read_volatile()
        }
    }

    fn write(&mut self, index: u32, value: u32) {
        // SAFETY: `new`'s contract.
        unsafe {
            ((self.0.as_u64() + SELECT) as *mut u32).write_volatile(index);
            ((self.0.as_u64() + WINDOW) as *mut u32).write_volatile(value);
        }
    }

    /// Masks every pin.
    pub fn mask_all(&mut self) {
        let last = self.read(VERSION) >> 16 & 0xFF;
        for pin in 0..=last {
            self.write(REDIRECTION + 2 * pin, MASKED);
        }
    }

    /// Sends a line to a core. Its ID must fit 8 bits, as without interrupt remapping.
    pub fn route(&mut self, route: &InterruptRoute, vector: u8, to: ApicId) {
        let index = REDIRECTION + 2 * u32::from(route.pin);
        let level = if route.level { LEVEL } else { 0 };
        let low = if route.active_low { ACTIVE_LOW } else { 0 };
        self.write(index + 1, to.0 << DESTINATION_SHIFT);
        self.write(index, u32::from(vector) | level | low);
    }
}
