//! The devices of one guest as its accesses see them: by I/O port and by guest-physical address.
//!
//! An access is at most four bytes; one to byte-wide ports falls apart into bytes, lowest port
//! first, as on an ISA bus. Where no device answers, reads give all ones and writes do nothing, and
//! both are counted.
//!
//! What an access causes beyond its own value is returned and not done here: a [`Message`] is an interrupt that
//! the caller sends as an IPI, a [`PowerEvent`] ends or restarts the guest.

use super::ioapic::{self, Ioapic, Message};
use super::pit::{self, Pit};
use super::power::{self, PowerEvent};
use super::rtc::{self, Rtc};
use super::uart::{self, Uart};
use crate::memory::GuestPhysical;

/// What the devices must know of the outside when they are accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Seconds since the start of 1970, UTC.
    pub unix_seconds: u64,
    /// The time-stamp counter, from any origin.
    pub tsc: u64,
    /// Its ticks a second.
    pub tsc_hz: u64,
}

/// Bytes of one access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

impl Width {
    /// The width of an access of so many bytes: 1, 2 or 4.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            _ => None,
        }
    }

    /// 1, 2 or 4.
    pub const fn bytes(self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// All ones in so many bytes: what an absent device reads as.
    pub const fn ones(self) -> u32 {
        match self {
            Self::Byte => u8::MAX as u32,
            Self::Word => u16::MAX as u32,
            Self::Dword => u32::MAX,
        }
    }
}

/// What the caller has to do after an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Outcome {
    /// The guest asked to be switched off or restarted.
    pub power: Option<PowerEvent>,
    /// An interrupt to send.
    pub message: Option<Message>,
    /// The first byte came into an empty console queue: wake who takes it.
    pub console: bool,
}

/// Accesses that no device answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Absent {
    /// How many accesses to ports.
    pub port_accesses: u64,
    /// The first absent port of the last of them.
    pub last_port: Option<u16>,
    /// How many accesses to memory that is no device's.
    pub memory_accesses: u64,
    /// Where the last of them went.
    pub last_address: Option<GuestPhysical>,
}

impl Absent {
    #[inline(always)]
    fn count_port(&mut self, port: u16) {
        self.port_accesses = self.port_accesses.saturating_add(1);
        self.last_port = Some(port);
    }

    fn count_memory(&mut self, address: GuestPhysical) {
        self.memory_accesses = self.memory_accesses.saturating_add(1);
        self.last_address = Some(address);
    }
}

/// A device with I/O ports, and the offset of a port in it.
enum Target {
    Uart(u8),
    Rtc(u16),
    Power(u16),
    ResetControl,
    KeyboardCommand,
    PitCounter,
    PitControl,
    PitGate,
}

impl Target {
    #[inline(always)]
    fn of(port: u16) -> Option<Self> {
        /// The last of a device's ports.
        const fn last(first: u16, count: u16) -> u16 {
            first.saturating_add(count).saturating_sub(1)
        }
        const UART_LAST: u16 = last(uart::COM1_PORT, uart::PORT_COUNT);
        const RTC_LAST: u16 = last(rtc::INDEX_PORT, rtc::PORT_COUNT);
        const POWER_LAST: u16 = last(power::SLEEP_CONTROL_PORT, power::PORT_COUNT);
        Some(match port {
            uart::COM1_PORT..=UART_LAST => Self::Uart(port.wrapping_sub(uart::COM1_PORT) as u8),
            rtc::INDEX_PORT..=RTC_LAST => Self::Rtc(port.wrapping_sub(rtc::INDEX_PORT)),
            power::SLEEP_CONTROL_PORT..=POWER_LAST => {
                Self::Power(port.wrapping_sub(power::SLEEP_CONTROL_PORT))
            }
            power::RESET_CONTROL_PORT => Self::ResetControl,
            power::KEYBOARD_COMMAND_PORT => Self::KeyboardCommand,
            pit::COUNTER_PORT => Self::PitCounter,
            pit::CONTROL_PORT => Self::PitControl,
            pit::GATE_PORT => Self::PitGate,
            _ => return None,
        })
    }
}

/// The devices that every guest has.
pub struct Platform {
    uart: Uart,
    ioapic: Ioapic,
    ioapic_page: GuestPhysical,
    rtc: Rtc,
    pit: Pit,
    absent: Absent,
}

impl Platform {
    /// The devices after power-on, with the IOAPIC's registers at `ioapic_page`.
    pub fn new(ioapic_page: GuestPhysical) -> Self {
        Self {
            uart: Uart::new(),
            ioapic: Ioapic::new(),
            ioapic_page,
            rtc: Rtc::new(),
            pit: Pit::default(),
            absent: Absent::default(),
        }
    }

    /// The guest reads `width` at `port`. `now` tells the time, if it matters.
    #[inline]
    pub fn port_read(&mut self, port: u16, width: Width, now: impl Fn() -> Now) -> u32 {
        if width == Width::Byte {
            return match self.read_byte(port, &now) {
                Some(value) => value.into(),
                None => {
                    self.absent.count_port(port);
                    width.ones()
                }
            };
        }
        let mut value = width.ones();
        let mut absent = None;
        for byte in 0..width.bytes() {
            let port_of_byte = port.checked_add(u16::from(byte));
            match port_of_byte.and_then(|port| self.read_byte(port, &now)) {
                Some(read) => {
                    let shift = 8 * u32::from(byte);
                    value = value & !(0xff << shift) | u32::from(read) << shift;
                }
                None => absent = absent.or(Some(port.wrapping_add(u16::from(byte)))),
            }
        }
        if let Some(port) = absent {
            self.absent.count_port(port);
        }
        value
    }

    /// The guest writes `width` of `value` to `port`. `now` tells the time, if it matters.
    #[inline]
    pub fn port_write(
        &mut self,
        port: u16,
        width: Width,
        value: u32,
        now: impl Fn() -> Now,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if width == Width::Byte {
            if self.write_byte(port, value as u8, &now, &mut outcome).is_none() {
                self.absent.count_port(port);
            }
            return outcome;
        }
        let mut absent = None;
        for (byte, value) in (0..width.bytes()).zip(value.to_le_bytes()) {
            let port_of_byte = port.checked_add(u16::from(byte));
            if port_of_byte
                .and_then(|port| self.write_byte(port, value, &now, &mut outcome))
                .is_none()
            {
                absent = absent.or(Some(port.wrapping_add(u16::from(byte))));
            }
        }
        if let Some(port) = absent {
            self.absent.count_port(port);
        }
        outcome
    }

    /// Whether no device has this port.
    #[inline(always)]
    pub fn is_absent(port: u16) -> bool {
        Target::of(port).is_none()
    }

    /// Whether [`quick_access`](Self::quick_access) may know what reading this port gives.
    #[inline(always)]
    pub fn reads_quickly(port: u16) -> bool {
        port == uart::COM1_PORT + uart::LINE_STATUS || Self::is_absent(port)
    }

    /// The guest reads a byte at one of the ports that read quickly, or writes one where no device is: what
    /// is read. `None` where there is more to do: then nothing has been done.
    #[inline(always)]
    pub fn quick_access(&mut self, port: u16) -> Option<u8> {
        if port == uart::COM1_PORT + uart::LINE_STATUS {
            return self.uart.quick_line_status();
        }
        self.absent.count_port(port);
        Some(u8::MAX)
    }

    /// The guest reads `width` at `address`, which is not RAM.
    pub fn mmio_read(&mut self, address: GuestPhysical, width: Width) -> u32 {
        match self.ioapic_offset(address) {
            Some(offset) => self.ioapic.read(offset, width.bytes()) & width.ones(),
            None => {
                self.absent.count_memory(address);
                width.ones()
            }
        }
    }

    /// The guest writes `width` of `value` at `address`, which is not RAM.
    pub fn mmio_write(&mut self, address: GuestPhysical, width: Width, value: u32) -> Outcome {
        let message = match self.ioapic_offset(address) {
            Some(offset) => self.ioapic.write(offset, width.bytes(), value),
            None => {
                self.absent.count_memory(address);
                None
            }
        };
        Outcome { message, ..Outcome::default() }
    }

    /// Input for the guest's console: how many of `bytes` there was room for, and an interrupt to send.
    #[must_use]
    pub fn console_input(&mut self, bytes: &[u8]) -> (usize, Option<Message>) {
        let taken = self.uart.push_input(bytes);
        (taken, self.uart_edge())
    }

    /// Output of the guest's console, up to the end of a line: how many bytes of `buffer` were filled,
    /// and an interrupt to send.
    #[must_use]
    pub fn console_output(&mut self, buffer: &mut [u8]) -> (usize, Option<Message>) {
        let taken = self.uart.take_output(buffer);
        (taken, self.uart_edge())
    }

    /// Presses the power button: the interrupt to send. `None` if the guest does not listen: its pin is masked, or asks
    /// for what a guest may not send. Then nothing has been done, so that nobody finds a button pressed long ago.
    #[must_use]
    pub fn press_power_button(&mut self) -> Option<Message> {
        self.ioapic.route(power::BUTTON_IRQ)?;
        self.ioapic.assert_edge(power::BUTTON_IRQ)
    }

    /// Whether there is console output to take.
    pub fn console_output_pending(&self) -> bool {
        self.uart.output_pending()
    }

    /// Console bytes that the guest wrote although the port was not ready, and that are lost.
    pub fn console_dropped(&self) -> u64 {
        self.uart.dropped()
    }

    /// Interrupts that were not sent because the IOAPIC asks for what a guest may not send.
    pub fn interrupts_refused(&self) -> u64 {
        self.ioapic.refused()
    }

    /// Accesses that no device answered.
    pub fn absent(&self) -> Absent {
        self.absent
    }

    fn uart_edge(&mut self) -> Option<Message> {
        if self.uart.take_interrupt_edge() { self.ioapic.assert_edge(uart::COM1_IRQ) } else { None }
    }

    fn ioapic_offset(&self, address: GuestPhysical) -> Option<u64> {
        let offset = address.as_u64().checked_sub(self.ioapic_page.as_u64())?;
        (offset < ioapic::PAGE_SIZE).then_some(offset)
    }

    /// `None` where there is nothing to read.
    fn read_byte(&mut self, port: u16, now: &impl Fn() -> Now) -> Option<u8> {
        match Target::of(port)? {
            Target::Uart(offset) => Some(self.uart.read(offset)),
            Target::Rtc(0) => None,
            Target::Rtc(_) => Some(self.rtc.read_data(now().unix_seconds)),
            Target::Power(offset) => Some(power::read(offset)),
            Target::ResetControl => Some(0),
            // There is no keyboard controller but its reset line.
            Target::KeyboardCommand => None,
            Target::PitCounter | Target::PitControl => None,
            Target::PitGate => Some(self.pit.read_gate(&now())),
        }
    }

    /// `None` where there is nothing to write. Of several events that ask for power-off or reset, the
    /// first counts.
    fn write_byte(
        &mut self,
        port: u16,
        value: u8,
        now: &impl Fn() -> Now,
        outcome: &mut Outcome,
    ) -> Option<()> {
        match Target::of(port)? {
            Target::Uart(offset) => self.write_uart(offset, value, outcome),
            Target::Rtc(0) => self.rtc.write_index(value),
            Target::Rtc(_) => self.rtc.write_data(value, now().unix_seconds),
            Target::Power(offset) => {
                outcome.power = outcome.power.or(power::write(offset, value));
            }
            Target::ResetControl => {
                outcome.power = outcome.power.or(power::legacy_reset(port, value));
            }
            Target::KeyboardCommand => {
                let event = power::legacy_reset(port, value)?;
                outcome.power = outcome.power.or(Some(event));
            }
            Target::PitCounter => self.pit.write_counter(value, &now())?,
            Target::PitControl => self.pit.write_control(value)?,
            Target::PitGate => self.pit.write_gate(value, &now()),
        }
        Some(())
    }

    fn write_uart(&mut self, offset: u8, value: u8, outcome: &mut Outcome) {
        let had_output = self.uart.output_pending();
        self.uart.write(offset, value);
        outcome.message = outcome.message.or(self.uart_edge());
        outcome.console |= !had_output && self.uart.output_pending();
    }
}

#[cfg(test)]
mod tests;
