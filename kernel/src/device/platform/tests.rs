use super::*;
use crate::device::ioapic::DeliveryMode;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

const IOAPIC_PAGE: GuestPhysical = GuestPhysical::new(0xfec0_0000);
const NOW: Now = Now { unix_seconds: 1_000_000_000, tsc: 0, tsc_hz: 10_000_000 };
const VECTOR: u8 = 0x24;

fn platform() -> Platform {
    Platform::new(IOAPIC_PAGE)
}

fn ioapic_write(platform: &mut Platform, register: u32, value: u32) -> Outcome {
    assert_eq!(platform.mmio_write(IOAPIC_PAGE, Width::Dword, register), Outcome::default());
    platform.mmio_write(GuestPhysical::new(0xfec0_0010), Width::Dword, value)
}

fn out(platform: &mut Platform, port: u16, value: u8) -> Outcome {
    platform.port_write(port, Width::Byte, value.into(), || NOW)
}

fn inb(platform: &mut Platform, port: u16) -> u8 {
    platform.port_read(port, Width::Byte, || NOW) as u8
}

#[test]
fn absent_ports_read_all_ones_and_are_counted() {
    let mut platform = platform();
    assert_eq!(platform.absent(), Absent::default());
    assert_eq!(platform.port_read(0x1234, Width::Byte, || NOW), 0xff);
    assert_eq!(platform.port_read(0x1234, Width::Word, || NOW), 0xffff);
    assert_eq!(platform.port_read(0xfffe, Width::Dword, || NOW), 0xffff_ffff);
    assert_eq!(platform.port_write(0x80, Width::Byte, 0, || NOW), Outcome::default());
    // An index port that only writes, and the keyboard controller that is not there.
    assert_eq!(inb(&mut platform, 0x70), 0xff);
    assert_eq!(inb(&mut platform, 0x64), 0xff);
    assert_eq!(out(&mut platform, 0x64, 0xaa), Outcome::default());
    assert_eq!(platform.absent().port_accesses, 7);
    assert_eq!(platform.absent().last_port, Some(0x64));
    inb(&mut platform, 0x3ff);
    inb(&mut platform, 0x400);
    assert_eq!(platform.absent().port_accesses, 8);
    assert_eq!(platform.absent().last_port, Some(0x400));
}

#[test]
fn wide_accesses_fall_apart_into_bytes() {
    let mut platform = platform();
    // Index and data in one: the clock's century.
    assert_eq!(platform.port_write(0x70, Width::Word, 0x5532, || NOW), Outcome::default());
    assert_eq!(out(&mut platform, 0x70, 0x0d), Outcome::default());
    assert_eq!(platform.port_read(0x70, Width::Word, || NOW), 0x80ff);
    // LSR, MSR, scratch, and one port beyond the chip.
    assert_eq!(out(&mut platform, 0x3ff, 0x77), Outcome::default());
    assert_eq!(platform.port_read(0x3fd, Width::Dword, || NOW), 0xff77_b060);
    assert_eq!(platform.absent().last_port, Some(0x400));
    assert_eq!(platform.port_read(0xffff, Width::Dword, || NOW), 0xffff_ffff);
}

#[test]
fn the_clock_shows_the_callers_time() {
    let mut platform = platform();
    // 2001-09-09 01:46:40
    let read = [(0x09, 0x01), (0x08, 0x09), (0x07, 0x09), (0x04, 0x01), (0x02, 0x46), (0x00, 0x40)];
    for (index, value) in read {
        assert_eq!(out(&mut platform, 0x70, index), Outcome::default());
        assert_eq!(inb(&mut platform, 0x71), value);
    }
    assert_eq!(
        platform.port_read(0x71, Width::Byte, || Now { unix_seconds: NOW.unix_seconds + 2, ..NOW }),
        0x42
    );
}

#[test]
fn power_events_come_out() {
    let mut platform = platform();
    let off = Outcome { power: Some(PowerEvent::PowerOff), ..Outcome::default() };
    let reset = Outcome { power: Some(PowerEvent::Reset), ..Outcome::default() };
    assert_eq!(out(&mut platform, 0x600, 0x34), off);
    assert_eq!(out(&mut platform, 0x602, 0x06), reset);
    assert_eq!(out(&mut platform, 0xcf9, 0x06), reset);
    assert_eq!(out(&mut platform, 0x64, 0xfe), reset);
    assert_eq!(out(&mut platform, 0x601, 0x80), Outcome::default());
    assert_eq!(
        [inb(&mut platform, 0x600), inb(&mut platform, 0x601), inb(&mut platform, 0xcf9)],
        [0; 3]
    );
    assert_eq!(platform.absent(), Absent::default());
}

#[test]
fn the_ioapic_answers_in_its_page_only() {
    let mut platform = platform();
    assert_eq!(ioapic_write(&mut platform, 1, 0), Outcome::default());
    let window = GuestPhysical::new(0xfec0_0010);
    assert_eq!(platform.mmio_read(window, Width::Dword), 0x0017_0011);
    assert_eq!(platform.mmio_read(window, Width::Byte), 0xff);
    assert_eq!(platform.absent().memory_accesses, 0);
    for address in [0xfebf_ffff, 0xfec0_1000, u64::MAX, 0] {
        assert_eq!(platform.mmio_read(GuestPhysical::new(address), Width::Word), 0xffff);
        assert_eq!(platform.absent().last_address, Some(GuestPhysical::new(address)));
    }
    assert_eq!(platform.mmio_write(GuestPhysical::new(0), Width::Dword, 0), Outcome::default());
    assert_eq!(platform.absent().memory_accesses, 5);
}

#[test]
fn the_first_byte_of_output_wakes_the_console_and_the_next_does_not() {
    let mut platform = platform();
    assert!(out(&mut platform, 0x3f8, b'a').console);
    assert!(!out(&mut platform, 0x3f8, b'b').console);
    assert_eq!(platform.console_output(&mut [0; 8]), (2, None));
    assert!(!platform.console_output_pending());
    assert!(out(&mut platform, 0x3f8, b'c').console);
}

#[test]
fn an_edge_at_a_masked_pin_comes_out_of_the_unmasking_write() {
    let mut platform = platform();
    assert_eq!(out(&mut platform, 0x3fc, 0x08), Outcome::default());
    assert_eq!(out(&mut platform, 0x3f9, 0x01), Outcome::default());
    assert_eq!(platform.console_input(b"x"), (1, None));
    let message = ioapic_write(&mut platform, 0x18, VECTOR.into()).message;
    let expected =
        Message { vector: VECTOR, destination: 0, logical: false, delivery: DeliveryMode::Fixed };
    assert_eq!(message, Some(expected));
}

#[test]
fn the_power_button_is_pressed_only_for_who_listens() {
    let mut platform = platform();
    assert_eq!(platform.press_power_button(), None);
    // Nothing waits for whoever unmasks the pin later.
    assert_eq!(ioapic_write(&mut platform, 0x22, VECTOR.into()).message, None);
    let expected =
        Message { vector: VECTOR, destination: 0, logical: false, delivery: DeliveryMode::Fixed };
    assert_eq!(platform.press_power_button(), Some(expected));
    // An NMI, which no guest may send.
    assert_eq!(ioapic_write(&mut platform, 0x22, 0x400).message, None);
    assert_eq!(platform.press_power_button(), None);
    assert_eq!(platform.interrupts_refused(), 0);
}

/// A guest with Linux's 8250 driver, as far as the port sees it: what it reads and writes, in which order.
/// Its interrupt is only ever run for a message that the platform sent.
struct Guest {
    platform: Platform,
    /// The local APIC's request bit for the vector: further edges before the handler runs merge.
    requested: bool,
    interrupts: u32,
    enabled: u8,
    to_send: VecDeque<u8>,
    received: Vec<u8>,
}

impl Guest {
    const IER: u16 = 0x3f9;
    const IIR: u16 = 0x3fa;
    const LSR: u16 = 0x3fd;

    fn new() -> Self {
        let mut platform = platform();
        let _ = ioapic_write(&mut platform, 0x18, VECTOR.into());
        let mut guest = Self {
            platform,
            requested: false,
            interrupts: 0,
            enabled: 0,
            to_send: VecDeque::new(),
            received: Vec::new(),
        };
        guest.start_up();
        guest
    }

    fn note(&mut self, message: Option<Message>) {
        if let Some(message) = message {
            assert_eq!(message.vector, VECTOR);
            self.requested = true;
        }
    }

    fn write(&mut self, port: u16, value: u8) {
        let outcome = out(&mut self.platform, port, value);
        assert_eq!(outcome.power, None);
        self.note(outcome.message);
    }

    fn read(&mut self, port: u16) -> u8 {
        inb(&mut self.platform, port)
    }

    /// The probe and the opening of the port.
    fn start_up(&mut self) {
        self.write(Self::IER, 0);
        assert_eq!(self.read(Self::IER) & 0x0f, 0);
        self.write(Self::IER, 0x0f);
        assert_eq!(self.read(Self::IER) & 0x0f, 0x0f);
        self.write(Self::IER, 0);
        self.write(0x3fc, 0x1a);
        assert_eq!(self.read(0x3fe) & 0xf0, 0x90);
        self.write(0x3fc, 0);
        // The port must look like a 16550A and no later chip.
        self.write(0x3fb, 0xbf);
        self.write(0x3fa, 0);
        self.write(0x3fb, 0);
        self.write(0x3fa, 0x01);
        assert_eq!(self.read(Self::IIR) >> 6, 3);
        self.write(0x3fa, 0x21);
        assert_eq!(self.read(Self::IIR) & 0xe0, 0xc0);
        self.write(Self::IER, 0x40);
        assert_eq!(self.read(Self::IER), 0);
        for value in [0x01, 0x07, 0x00] {
            self.write(0x3fa, value);
        }
        assert_ne!(self.read(Self::LSR), 0xff);
        for port in [0x3f8, Self::IIR, 0x3fe] {
            self.read(port);
        }
        self.write(0x3fb, 0x03);
        // Does the transmitter's interrupt come back when it is enabled again?
        for _ in 0..2 {
            self.write(Self::IER, 0x02);
            assert_eq!(self.read(Self::IIR) & 0x0f, 0x02);
            self.write(Self::IER, 0);
        }
        self.write(0x3fc, 0x0b);
        self.write(0x3fa, 0x81);
        self.enable(0x05);
        self.requested = false;
    }

    fn enable(&mut self, interrupts: u8) {
        self.enabled = interrupts;
        self.write(Self::IER, interrupts);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.to_send.extend(bytes);
        if self.enabled & 0x02 == 0 && !self.to_send.is_empty() {
            self.enable(self.enabled | 0x02);
        }
    }

    /// The handler goes on until the port shows no cause, as Linux's does.
    fn run_interrupts(&mut self) {
        while core::mem::take(&mut self.requested) {
            self.interrupts += 1;
            while self.read(Self::IIR) & 1 == 0 {
                self.handle();
            }
        }
    }

    fn handle(&mut self) {
        let mut status = self.read(Self::LSR);
        while status & 1 != 0 {
            let byte = self.read(0x3f8);
            self.received.push(byte);
            status = self.read(Self::LSR);
        }
        self.read(0x3fe);
        if status & 0x20 != 0 && self.enabled & 0x02 != 0 {
            for _ in 0..16 {
                match self.to_send.pop_front() {
                    Some(byte) => self.write(0x3f8, byte),
                    None => break,
                }
            }
            if self.to_send.is_empty() {
                self.enable(self.enabled & !0x02);
            }
        }
    }

    /// Takes so many bytes, or what there is, a line at a time.
    fn host_takes(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut buffer = std::vec![0; count - all.len()];
            let (taken, message) = self.platform.console_output(&mut buffer);
            self.note(message);
            all.extend_from_slice(&buffer[..taken]);
            if taken == 0 {
                return all;
            }
        }
    }

    fn host_types(&mut self, bytes: &[u8]) -> usize {
        let (taken, message) = self.platform.console_input(bytes);
        self.note(message);
        taken
    }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

#[test]
fn a_linux_driver_sends_a_thousand_bytes_and_receives_a_hundred() {
    let mut guest = Guest::new();
    let sent = pattern(1000);
    let typed = pattern(100);
    guest.send(&sent);
    guest.run_interrupts();
    assert!(guest.to_send.is_empty());
    for bytes in typed.chunks(7) {
        assert_eq!(guest.host_types(bytes), bytes.len());
        guest.run_interrupts();
    }
    assert_eq!(guest.host_takes(2000), sent);
    assert_eq!(guest.received, typed);
    assert_eq!(guest.platform.console_dropped(), 0);
    assert_eq!(guest.platform.absent(), Absent::default());
    // Nothing keeps interrupting a guest that is idle.
    let interrupts = guest.interrupts;
    guest.run_interrupts();
    assert_eq!(guest.interrupts, interrupts);
}

#[test]
fn a_slow_console_stalls_the_driver_and_loses_nothing() {
    let mut guest = Guest::new();
    let sent = pattern(3 * uart::OUTPUT_CAPACITY + 123);
    guest.send(&sent);
    let mut taken = Vec::new();
    loop {
        guest.run_interrupts();
        let bytes = guest.host_takes(1000);
        if bytes.is_empty() {
            break;
        }
        taken.extend(bytes);
    }
    assert!(guest.to_send.is_empty(), "the driver waits for an interrupt that does not come");
    assert!(taken == sent);
    assert_eq!(guest.platform.console_dropped(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_order_of_events_loses_an_interrupt(
        events in prop::collection::vec((0u8..4, 0usize..3000), 1..100),
    ) {
        let mut guest = Guest::new();
        let (mut sent, mut typed, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for (event, count) in events {
            match event {
                0 => {
                    let bytes = pattern(count);
                    guest.send(&bytes);
                    sent.extend(bytes);
                }
                1 => {
                    let bytes = pattern(count);
                    let accepted = guest.host_types(&bytes);
                    typed.extend_from_slice(&bytes[..accepted]);
                }
                2 => taken.extend(guest.host_takes(count)),
                _ => guest.run_interrupts(),
            }
        }
        loop {
            guest.run_interrupts();
            let bytes = guest.host_takes(4096);
            if bytes.is_empty() {
                break;
            }
            taken.extend(bytes);
        }
        prop_assert!(guest.to_send.is_empty() && taken == sent && guest.received == typed);
        prop_assert_eq!(guest.platform.console_dropped(), 0);
    }

    #[test]
    fn no_access_panics_and_no_read_leaves_its_width(
        accesses in prop::collection::vec((any::<u16>(), 0u8..6, any::<u32>(), any::<u64>()), 1..300),
    ) {
        const PORTS: [u16; 10] =
            [0x3f8, 0x3fb, 0x70, 0x64, 0x600, 0xcf6, 0x3f5, 0xfffd, 0x3e, 0x5e];
        let mut platform = platform();
        for (port, kind, value, wide) in accesses {
            let width = [Width::Byte, Width::Word, Width::Dword][usize::from(port >> 8) % 3];
            let port = PORTS[usize::from(port >> 4) % 10].wrapping_add(port & 7);
            let now = Now { unix_seconds: wide, tsc: wide, ..NOW };
            let message = match kind {
                0 | 1 => platform.port_write(port, width, value, || now).message,
                2 => platform.mmio_write(GuestPhysical::new(0xfec0_0000 + (wide & 0x1010)), width, value).message,
                3 => platform.console_input(&value.to_le_bytes()).1,
                4 => platform.console_output(&mut [0; 3]).1,
                _ => None,
            };
            prop_assert!(message.is_none_or(|message| message.vector >= 16));
            prop_assert_eq!(platform.port_read(port, width, || now) & !width.ones(), 0);
            prop_assert_eq!(platform.mmio_read(GuestPhysical::new(wide), width) & !width.ones(), 0);
        }
    }
}
