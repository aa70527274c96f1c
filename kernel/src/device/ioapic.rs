//! A virtual IOAPIC, which only translates: a device's interrupt pin to a message.
//!
//! The source is Intel's 82093AA data sheet (May 1996); "DS" and a section number in a
//! comment means it. What differs from the chip:
//!
//! * Every pin is edge-triggered. An entry may say "level", and reads back so, but its
//!   remote IRR stays 0 and no EOI is needed, so none has to be intercepted.
//! * The chip loses an edge at a masked pin (DS 3.2.4). Here it is remembered and delivered
//!   when the pin is unmasked: the devices behind the pins keep their line high until they
//!   are served, and a driver that unmasks the pin then expects to hear of it.
//! * A guest must not make the hypervisor send anything but an interrupt with a vector that the local
//!   APIC accepts (SDM Vol. 3A, "Valid Interrupt Vectors": 16 to 255). An entry that asks for SMI, NMI, INIT or
//!   ExtINT delivers nothing; refusals are counted.

/// Pins, as in the 82093AA; interrupts GSI 0 to 23.
pub const PIN_COUNT: u8 = 24;
/// Bytes of the register page.
pub const PAGE_SIZE: u64 = 4096;

/// Offset of the register that selects what [`IOWIN`] shows (DS 3.1.1).
pub const IOREGSEL: u64 = 0x00;
/// Offset of the window on the selected register (DS 3.1.2).
pub const IOWIN: u64 = 0x10;
/// Bytes of an access to the window; the chip knows no other (DS 3.1).
const WINDOW_BYTES: u8 = 4;

/// Register indices (DS 3.2).
mod index {
    pub const ID: u8 = 0x00;
    pub const VERSION: u8 = 0x01;
    pub const ARBITRATION: u8 = 0x02;
    pub const REDIRECTION: u8 = 0x10;
}

/// Version of the 82093AA (DS 3.2.2), which has no EOI register.
const VERSION: u32 = 0x11;
/// Where the version register has the last redirection entry's number (DS 3.2.2).
const LAST_ENTRY_SHIFT: u32 = 16;
/// The writable part of the ID register (DS 3.2.1).
const ID_MASK: u32 = 0x0f00_0000;

/// The fields of a redirection entry (DS 3.2.4).
mod entry {
    pub const VECTOR: u64 = 0xff;
    pub const DELIVERY_SHIFT: u64 = 8;
    pub const DELIVERY: u64 = 0b111;
    pub const LOGICAL: u64 = 1 << 11;
    pub const DELIVERY_STATUS: u64 = 1 << 12;
    pub const REMOTE_IRR: u64 = 1 << 14;
    pub const MASKED: u64 = 1 << 16;
    pub const DESTINATION_SHIFT: u64 = 56;
    /// Everything but status and reserved bits.
    pub const WRITABLE: u64 = 0xff00_0000_0001_ffff & !(DELIVERY_STATUS | REMOTE_IRR);
}

/// Vectors below are not accepted by a local APIC (SDM Vol. 3A, "Valid Interrupt Vectors").
const FIRST_VECTOR: u8 = 16;

/// How a message's target is chosen; the only two ways a guest may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// All processors named by the destination.
    Fixed,
    /// One of the processors named by the destination.
    LowestPriority,
}

/// An interrupt to send to the guest's processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The vector, 16 to 255.
    pub vector: u8,
    /// A virtual APIC ID, or a logical destination when `logical` is set.
    pub destination: u8,
    /// Whether `destination` is logical.
    pub logical: bool,
    /// Fixed or lowest priority.
    pub delivery: DeliveryMode,
}

/// The IOAPIC of one guest.
pub struct Ioapic {
    id: u32,
    selected: u8,
    entries: [u64; PIN_COUNT as usize],
    /// A bit per pin: an edge came while it was masked.
    waiting: u32,
    refused: u64,
}

impl Default for Ioapic {
    fn default() -> Self {
        Self::new()
    }
}

impl Ioapic {
    /// The IOAPIC after reset: every pin masked (DS 3.2.4).
    pub const fn new() -> Self {
        Self {
            id: 0,
            selected: 0,
            entries: [entry::MASKED; PIN_COUNT as usize],
            waiting: 0,
            refused: 0,
        }
    }

    /// Reads `size` bytes at `offset` into the register page. What the chip does not have reads as all ones.
    pub fn read(&self, offset: u64, size: u8) -> u32 {
        match (offset, size) {
            (IOREGSEL, _) => u32::from(self.selected),
            (IOWIN, WINDOW_BYTES) => self.read_selected(),
            _ => u32::MAX,
        }
    }

    /// Writes `size` bytes at `offset` into the register page. Returns the message to deliver when this
    /// unmasked a pin at which an edge waits. What the chip does not have is ignored.
    #[must_use]
    pub fn write(&mut self, offset: u64, size: u8, value: u32) -> Option<Message> {
        match (offset, size) {
            (IOREGSEL, _) => {
                self.selected = value.to_le_bytes()[0];
                None
            }
            (IOWIN, WINDOW_BYTES) => self.write_selected(value),
            _ => None,
        }
    }

    /// Where `pin`'s interrupt would go now; `None` when it is masked, refused, or there is no such pin.
    pub fn route(&self, pin: u8) -> Option<Message> {
        let entry = *self.entries.get(usize::from(pin))?;
        if entry & entry::MASKED != 0 { None } else { decode(entry) }
    }

    /// The line at `pin` rose. Returns the message to deliver; at a masked pin the edge waits.
    #[must_use]
    pub fn assert_edge(&mut self, pin: u8) -> Option<Message> {
        let entry = *self.entries.get(usize::from(pin))?;
        if entry & entry::MASKED != 0 {
            self.waiting |= 1 << pin;
            return None;
        }
        self.deliver(entry)
    }

    /// Interrupts that were not delivered because their entry asks for what a guest may not send.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn deliver(&mut self, entry: u64) -> Option<Message> {
        let message = decode(entry);
        if message.is_none() {
            self.refused = self.refused.saturating_add(1);
        }
        message
    }

    /// The pin whose entry may be selected, and whether it is the entry's upper half.
    fn selected_pin(&self) -> Option<(u8, bool)> {
        let half = self.selected.checked_sub(index::REDIRECTION)?;
        Some((half / 2, half % 2 == 1))
    }

    /// The half of an entry that is selected.
    fn selected_half(&self) -> Option<u32> {
        let (pin, upper) = self.selected_pin()?;
        let [low, high] = halves(*self.entries.get(usize::from(pin))?);
        Some(if upper { high } else { low })
    }

    fn read_selected(&self) -> u32 {
        match self.selected {
            index::ID | index::ARBITRATION => self.id,
            index::VERSION => VERSION | u32::from(PIN_COUNT - 1) << LAST_ENTRY_SHIFT,
            _ => self.selected_half().unwrap_or(u32::MAX),
        }
    }

    fn write_selected(&mut self, value: u32) -> Option<Message> {
        if self.selected == index::ID {
            self.id = value & ID_MASK;
            return None;
        }
        let (pin, upper) = self.selected_pin()?;
        let selected = self.entries.get_mut(usize::from(pin))?;
        let [low, high] = halves(*selected);
        let (low, high) = if upper { (low, value) } else { (value, high) };
        let entry = (u64::from(high) << u32::BITS | u64::from(low)) & entry::WRITABLE;
        *selected = entry;
        let bit = 1 << pin;
        if entry & entry::MASKED != 0 || self.waiting & bit == 0 {
            return None;
        }
        self.waiting &= !bit;
        self.deliver(entry)
    }
}

/// The lower and the upper half of a redirection entry.
fn halves(entry: u64) -> [u32; 2] {
    [entry as u32, (entry >> u32::BITS) as u32]
}

/// The message that an unmasked entry sends, unless a guest may not send it.
fn decode(entry: u64) -> Option<Message> {
    /// Delivery modes (DS 3.2.4, bits 8 to 10).
    const FIXED: u64 = 0b000;
    const LOWEST_PRIORITY: u64 = 0b001;
    let delivery = match entry >> entry::DELIVERY_SHIFT & entry::DELIVERY {
        FIXED => DeliveryMode::Fixed,
        LOWEST_PRIORITY => DeliveryMode::LowestPriority,
        _ => return None,
    };
    let vector = (entry & entry::VECTOR) as u8;
    let destination = (entry >> entry::DESTINATION_SHIFT) as u8;
    let logical = entry & entry::LOGICAL != 0;
    (vector >= FIRST_VECTOR).then_some(Message { vector, destination, logical, delivery })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(ioapic: &mut Ioapic, register: u8, value: u32) -> Option<Message> {
        assert_eq!(ioapic.write(0x00, 4, u32::from(register)), None);
        ioapic.write(0x10, 4, value)
    }

    fn read(ioapic: &mut Ioapic, register: u8) -> u32 {
        assert_eq!(ioapic.write(0x00, 4, u32::from(register)), None);
        ioapic.read(0x10, 4)
    }

    fn fixed(vector: u8, destination: u8) -> Message {
        Message { vector, destination, logical: false, delivery: DeliveryMode::Fixed }
    }

    #[test]
    fn identifies_itself_and_starts_masked() {
        let mut ioapic = Ioapic::new();
        assert_eq!(read(&mut ioapic, 0), 0);
        assert_eq!(read(&mut ioapic, 1), 0x0017_0011);
        assert_eq!(write(&mut ioapic, 0, 0xffff_ffff), None);
        assert_eq!(read(&mut ioapic, 0), 0x0f00_0000);
        assert_eq!(read(&mut ioapic, 2), 0x0f00_0000);
        for pin in 0..24 {
            assert_eq!(read(&mut ioapic, 0x10 + 2 * pin), 0x0001_0000);
            assert_eq!(read(&mut ioapic, 0x11 + 2 * pin), 0);
            assert_eq!(ioapic.route(pin), None);
        }
        assert_eq!(read(&mut ioapic, 0x40), u32::MAX);
        assert_eq!(read(&mut ioapic, 0x0f), u32::MAX);
    }

    #[test]
    fn status_and_reserved_bits_of_an_entry_stay_zero() {
        let mut ioapic = Ioapic::new();
        assert_eq!(write(&mut ioapic, 0x18, u32::MAX), None);
        assert_eq!(write(&mut ioapic, 0x19, u32::MAX), None);
        assert_eq!(read(&mut ioapic, 0x18), 0x0001_afff);
        assert_eq!(read(&mut ioapic, 0x19), 0xff00_0000);
    }

    #[test]
    fn an_edge_becomes_the_message_of_its_pin() {
        let mut ioapic = Ioapic::new();
        assert_eq!(write(&mut ioapic, 0x19, 0x0300_0000), None);
        assert_eq!(write(&mut ioapic, 0x18, 0x0000_0024), None);
        assert_eq!(ioapic.route(4), Some(fixed(0x24, 3)));
        assert_eq!(ioapic.assert_edge(4), Some(fixed(0x24, 3)));
        assert_eq!(ioapic.assert_edge(4), Some(fixed(0x24, 3)));
        assert_eq!(ioapic.assert_edge(5), None);
        assert_eq!(ioapic.assert_edge(24), None);
        assert_eq!(ioapic.assert_edge(255), None);
        // Level-triggered, active low, logical, lowest priority.
        assert_eq!(write(&mut ioapic, 0x18, 0x0000_a930), None);
        let message = Message {
            vector: 0x30,
            destination: 3,
            logical: true,
            delivery: DeliveryMode::LowestPriority,
        };
        assert_eq!(ioapic.assert_edge(4), Some(message));
        assert_eq!(ioapic.refused(), 0);
    }

    #[test]
    fn an_edge_at_a_masked_pin_is_delivered_once_at_unmask() {
        let mut ioapic = Ioapic::new();
        assert_eq!(ioapic.assert_edge(4), None);
        assert_eq!(ioapic.assert_edge(4), None);
        assert_eq!(write(&mut ioapic, 0x19, 0x0100_0000), None);
        assert_eq!(write(&mut ioapic, 0x16, 0x0000_0023), None, "another pin's");
        assert_eq!(write(&mut ioapic, 0x18, 0x0000_0024), Some(fixed(0x24, 1)));
        assert_eq!(write(&mut ioapic, 0x18, 0x0001_0024), None);
        assert_eq!(write(&mut ioapic, 0x18, 0x0000_0024), None);
    }

    #[test]
    fn what_a_guest_may_not_send_is_refused_and_counted() {
        let mut ioapic = Ioapic::new();
        // SMI, reserved, NMI, INIT, reserved, ExtINT; then vectors that no local APIC takes.
        let entries = [0x2ff, 0x3ff, 0x4ff, 0x5ff, 0x6ff, 0x7ff, 0x000, 0x00f, 0x10f];
        for (count, entry) in entries.into_iter().enumerate() {
            assert_eq!(write(&mut ioapic, 0x10, entry), None);
            assert_eq!(ioapic.route(0), None);
            assert_eq!(ioapic.assert_edge(0), None);
            assert_eq!(ioapic.refused(), count as u64 + 1);
        }
        // Also on the way through unmasking.
        assert_eq!(write(&mut ioapic, 0x10, 0x1_0030), None);
        assert_eq!(ioapic.assert_edge(0), None);
        assert_eq!(write(&mut ioapic, 0x10, 0x0430), None);
        assert_eq!(ioapic.refused(), entries.len() as u64 + 1);
        assert_eq!(write(&mut ioapic, 0x10, 0x0010), None);
        assert_eq!(ioapic.assert_edge(0), Some(fixed(0x10, 0)));
    }

    #[test]
    fn other_offsets_and_sizes_do_nothing() {
        let mut ioapic = Ioapic::new();
        assert_eq!(ioapic.write(0x00, 1, 0x10), None);
        assert_eq!(ioapic.read(0x00, 1), 0x10);
        for (offset, size) in [(0x10, 1), (0x10, 2), (0x11, 4), (0x40, 4), (0x04, 4), (0xffc, 4)] {
            assert_eq!(ioapic.write(offset, size, 0), None);
            assert_eq!(ioapic.read(offset, size), u32::MAX);
        }
        assert_eq!(ioapic.read(0x10, 4), 0x0001_0000);
    }

    proptest! {
        #[test]
        fn whatever_is_written_only_allowed_messages_come_out(
            writes in prop::collection::vec((0x0fu8..0x42, any::<u32>(), any::<u8>()), 1..200),
        ) {
            let mut ioapic = Ioapic::new();
            for (register, value, pin) in writes {
                let unmasked = write(&mut ioapic, register, value);
                let edge = ioapic.assert_edge(pin);
                prop_assert_eq!(edge, ioapic.route(pin));
                for message in [unmasked, edge].into_iter().flatten() {
                    prop_assert!(message.vector >= 16);
                }
                for pin in 0..24 {
                    prop_assert_eq!(read(&mut ioapic, 0x10 + 2 * pin) & 0xfffe_5000, 0);
                    prop_assert_eq!(read(&mut ioapic, 0x11 + 2 * pin) & 0x00ff_ffff, 0);
                }
            }
        }
    }
}
