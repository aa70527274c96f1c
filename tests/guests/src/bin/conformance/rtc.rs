//! The real-time clock.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::rdtsc;
use bulkhead_guests::suite::{Outcome, Test};
use bulkhead_guests::{ensure, fail, port};

pub const TESTS: &[Test] = &[Test {
    title: "the clock shows a plausible date",
    what: "CMOS: a year from 2026 on, and all else in its range",
    run: date,
}];

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

/// CMOS registers (MC146818A data sheet); the century is where PCs have it.
mod register {
    pub const SECOND: u8 = 0x00;
    pub const MINUTE: u8 = 0x02;
    pub const HOUR: u8 = 0x04;
    pub const DAY: u8 = 0x07;
    pub const MONTH: u8 = 0x08;
    pub const YEAR: u8 = 0x09;
    pub const STATUS_A: u8 = 0x0A;
    pub const STATUS_B: u8 = 0x0B;
    pub const CENTURY: u8 = 0x32;
}

/// Status A: an update is in progress.
const UPDATING: u8 = 1 << 7;
/// Status B: hours from 0 to 23; numbers in binary.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;

fn cmos(register: u8) -> u8 {
    port::write(INDEX, register);
    port::read(DATA)
}

fn date(_: &BootParams) -> Outcome {
    /// Ticks that an update may take.
    const PATIENCE: u64 = 1 << 28;
    const CENTURY: u16 = 100;
    let start = rdtsc();
    while cmos(register::STATUS_A) & UPDATING != 0 {
        if rdtsc() - start > PATIENCE {
            fail!("the update does not end");
        }
    }
    let status = cmos(register::STATUS_B);
    ensure!(status & HOURS_24 != 0, "hours are from 1 to 12: status B is {status:#x}");
    let get = |register| {
        let raw = cmos(register);
        u16::from(if status & BINARY != 0 { raw } else { (raw >> 4) * 10 + (raw & 0xF) })
    };
    let year = get(register::CENTURY) * CENTURY + get(register::YEAR);
    let (month, day) = (get(register::MONTH), get(register::DAY));
    let (hour, minute) = (get(register::HOUR), get(register::MINUTE));
    let second = get(register::SECOND);
    let plausible = (2026..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    ensure!(plausible, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    Ok(())
}
