//! The IOAPIC: any sequence of accesses and edges.

use crate::input::Input;
use bulkhead::device::ioapic::{
    DeliveryMode, IOREGSEL, IOWIN, Ioapic, Message, PAGE_SIZE, PIN_COUNT,
};

const MASKED: u64 = 1 << 16;
/// What of a redirection entry can be written: not delivery status, remote IRR, nor what is reserved (82093AA, 3.2.4).
const WRITABLE: u64 = 0xFF << 56 | MASKED | 1 << 15 | 1 << 13 | 0xFFF;
const ID: u8 = 0;
const FIRST_ENTRY: u8 = 0x10;

/// The chip as its data sheet has it, but that edges wait at masked pins.
struct Model {
    selected: u8,
    id: u32,
    entries: [u64; PIN_COUNT as usize],
    waiting: u32,
    refused: u64,
}

impl Model {
    /// The pin whose entry is selected, and by how many bits its half is shifted.
    fn selected(&self) -> Option<(usize, u32)> {
        let half = usize::from(self.selected.checked_sub(FIRST_ENTRY)?);
        (half / 2 < self.entries.len()).then_some((half / 2, half as u32 % 2 * 32))
    }

    fn read(&self) -> u32 {
        match (self.selected, self.selected()) {
            (ID | 2, _) => self.id,
            (1, _) => 0x11 | 23 << 16,
            (_, Some((pin, shift))) => (self.entries[pin] >> shift) as u32,
            (_, None) => u32::MAX,
        }
    }

    fn write(&mut self, value: u32) -> Option<Message> {
        if self.selected == ID {
            self.id = value & 0x0F00_0000;
            return None;
        }
        let (pin, shift) = self.selected()?;
        let other = self.entries[pin] & !(u64::from(u32::MAX) << shift);
        self.entries[pin] = (other | u64::from(value) << shift) & WRITABLE;
        if self.entries[pin] & MASKED == 0 && self.waiting >> pin & 1 != 0 {
            self.waiting &= !(1 << pin);
            return self.deliver(pin);
        }
        None
    }

    fn edge(&mut self, pin: u8) -> Option<Message> {
        if *self.entries.get(usize::from(pin))? & MASKED != 0 {
            self.waiting |= 1 << pin;
            return None;
        }
        self.deliver(pin.into())
    }

    fn deliver(&mut self, pin: usize) -> Option<Message> {
        let message = self.message(pin);
        self.refused += u64::from(message.is_none());
        message
    }

    fn message(&self, pin: usize) -> Option<Message> {
        let entry = self.entries[pin];
        let delivery = match entry >> 8 & 7 {
            0 => DeliveryMode::Fixed,
            1 => DeliveryMode::LowestPriority,
            _ => return None,
        };
        let (vector, destination) = (entry as u8, (entry >> 56) as u8);
        let logical = entry & 1 << 11 != 0;
        (vector >= 16).then_some(Message { vector, destination, logical, delivery })
    }
}

/// Registers read as they were written, a message is what the entry says, no pin sends while it is masked, and nothing is
/// sent that a guest may not send.
pub fn ioapic(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let mut ioapic = Ioapic::new();
    let entries = [MASKED; PIN_COUNT as usize];
    let mut model = Model { selected: 0, id: 0, entries, waiting: 0, refused: 0 };
    let (mut operations, mut messages) = (0, 0);
    while !input.is_empty() {
        operations += 1;
        let (expected, message) = match input.u8() % 6 {
            0 => {
                model.selected = input.u8();
                let value = u32::from(model.selected) | u32::from(input.u8()) << 8;
                (None, ioapic.write(IOREGSEL, input.choose(&[1, 2, 4]), value))
            }
            1 | 2 => {
                let value = input.u32();
                (model.write(value), ioapic.write(IOWIN, 4, value))
            }
            3 => {
                assert_eq!(ioapic.read(IOWIN, 4), model.read());
                assert_eq!(ioapic.read(IOREGSEL, 4), u32::from(model.selected));
                (None, None)
            }
            4 => {
                let pin = input.u8() % (PIN_COUNT + 2);
                (model.edge(pin), ioapic.assert_edge(pin))
            }
            _ => {
                // Not a register, or not as wide as one.
                let (offset, size) =
                    (u64::from(input.u16()) % PAGE_SIZE, input.choose(&[1u8, 2, 4, 8]));
                if offset == IOREGSEL || (offset == IOWIN && size == 4) {
                    continue;
                }
                assert_eq!(ioapic.read(offset, size), u32::MAX);
                (None, ioapic.write(offset, size, input.u32()))
            }
        };
        assert_eq!(message, expected);
        messages += u32::from(message.is_some());
        assert_eq!(ioapic.refused(), model.refused);
        for pin in 0..PIN_COUNT {
            let masked = model.entries[usize::from(pin)] & MASKED != 0;
            let route = if masked { None } else { model.message(pin.into()) };
            assert_eq!(ioapic.route(pin), route);
        }
    }
    format!("{operations} operations, {messages} messages, {} refused", model.refused)
}
