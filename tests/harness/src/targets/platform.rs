//! All devices of a guest, by port and by address: any sequence of accesses.

use crate::input::Input;
use bulkhead::device::ioapic::PAGE_SIZE;
use bulkhead::device::platform::{Now, Outcome, Platform, Width};
use bulkhead::guest::layout::IOAPIC;
use bulkhead::memory::GuestPhysical;

/// Ports at or near which something answers.
const NEAR: [u16; 9] = [0x40, 0x60, 0x64, 0x70, 0x3F0, 0x3F8, 0x600, 0xCF8, 0xFFFC];

/// An access of several bytes is as those of its bytes, the lowest port first; what nothing answers reads as all ones, is
/// counted, and does nothing; an interrupt has a vector that a guest may send.
pub fn platform(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let page = GuestPhysical::new(IOAPIC);
    let (mut wide, mut bytes) = (Platform::new(page), Platform::new(page));
    let mut now = Now { unix_seconds: 1_700_000_000, tsc: 0, tsc_hz: 10_000_000 };
    let (mut operations, mut events) = (0, 0);
    while !input.is_empty() {
        operations += 1;
        let port = input.choose(&NEAR).wrapping_add(u16::from(input.u8() % 12));
        let width = input.choose(&[Width::Byte, Width::Word, Width::Dword]);
        let outcome = match input.u8() % 6 {
            0 => {
                let value = wide.port_read(port, width, || now);
                assert_eq!(value & !width.ones(), 0);
                assert_eq!(value, read_bytes(&mut bytes, port, width, now));
                Outcome::default()
            }
            1 | 2 => {
                let value = input.u32();
                let outcome = wide.port_write(port, width, value, || now);
                assert_eq!(outcome, write_bytes(&mut bytes, port, width, value, now));
                outcome
            }
            3 => {
                let at = GuestPhysical::new(IOAPIC.wrapping_add(input.u16().into()));
                let (value, is_read) = (input.u32(), input.u8() & 1 == 0);
                let absent = at.as_u64() >= IOAPIC + PAGE_SIZE;
                let before = wide.absent().memory_accesses;
                let outcome = if is_read {
                    let read = wide.mmio_read(at, width);
                    assert_eq!(read & !width.ones(), 0);
                    assert!(!absent || read == width.ones());
                    assert_eq!(read, bytes.mmio_read(at, width));
                    Outcome::default()
                } else {
                    let outcome = wide.mmio_write(at, width, value);
                    assert_eq!(outcome, bytes.mmio_write(at, width, value));
                    outcome
                };
                assert_eq!(wide.absent().memory_accesses - before, u64::from(absent));
                assert!(!absent || outcome == Outcome::default());
                outcome
            }
            4 => {
                let typed = input.bytes(8);
                let taken = wide.console_input(typed);
                assert_eq!(taken, bytes.console_input(typed));
                Outcome { message: taken.1, ..Outcome::default() }
            }
            _ => {
                let mut buffers = [[0; 16]; 2];
                let [one, other] = &mut buffers;
                let taken = wide.console_output(one);
                assert_eq!(taken, bytes.console_output(other));
                assert_eq!(one, other);
                now.tsc = now.tsc.wrapping_add(input.u32().into());
                now.unix_seconds += u64::from(input.u8());
                Outcome { message: taken.1, ..Outcome::default() }
            }
        };
        assert!(outcome.message.is_none_or(|message| message.vector >= 16));
        events += u32::from(outcome != Outcome::default());
        quick(&mut wide, &mut bytes, port, now);
    }
    format!("{operations} accesses, {events} with more to do")
}

/// What the quick way says is what the other does.
fn quick(wide: &mut Platform, bytes: &mut Platform, port: u16, now: Now) {
    if !Platform::reads_quickly(port) {
        return;
    }
    // `None` is for the other way to do: so both have had one access.
    let quick = match wide.quick_access(port) {
        Some(value) => value.into(),
        None => wide.port_read(port, Width::Byte, || now),
    };
    assert_eq!(quick, bytes.port_read(port, Width::Byte, || now));
    assert!(!Platform::is_absent(port) || quick == 0xFF);
}

fn ports(port: u16, width: Width) -> impl Iterator<Item = (u32, Option<u16>)> {
    (0..width.bytes()).map(move |byte| (8 * u32::from(byte), port.checked_add(byte.into())))
}

fn read_bytes(bytes: &mut Platform, port: u16, width: Width, now: Now) -> u32 {
    ports(port, width).fold(0, |value, (shift, port)| {
        // Behind the last port there is none.
        let byte = port.map_or(0xFF, |port| bytes.port_read(port, Width::Byte, || now));
        value | byte << shift
    })
}

fn write_bytes(bytes: &mut Platform, port: u16, width: Width, value: u32, now: Now) -> Outcome {
    ports(port, width).fold(Outcome::default(), |all, (shift, port)| {
        let Some(port) = port else { return all };
        let outcome = bytes.port_write(port, Width::Byte, value >> shift & 0xFF, || now);
        Outcome {
            power: all.power.or(outcome.power),
            message: all.message.or(outcome.message),
            console: all.console || outcome.console,
        }
    })
}
