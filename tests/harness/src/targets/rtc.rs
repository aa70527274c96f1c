//! The real-time clock: any sequence of accesses, and time passing.

use crate::input::Input;
use bulkhead::device::cmos::index::{
    CENTURY, DAY, HOUR, MINUTE, MONTH, SECOND, STATUS_A, STATUS_B, STATUS_C, STATUS_D, WEEKDAY,
    YEAR,
};
use bulkhead::device::cmos::{SET, TimeRegisters, VALID, decode_cmos};
use bulkhead::device::date_time::DateTime;
use bulkhead::device::rtc::Rtc;

const TIME: [u8; 8] = [SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY];

/// A clock that runs always shows a date, goes on by as much as time does, and shows what it was set to; status and RAM read
/// as the chip's do.
pub fn rtc(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let mut rtc = Rtc::new();
    let mut now = input.u64() >> input.choose(&[0u32, 1, 24, 28, 30, 32]);
    let mut ram = [0u8; 128];
    let (mut operations, mut dates) = (0, 0);
    while !input.is_empty() {
        operations += 1;
        match input.u8() % 5 {
            0 | 1 => {
                let (index, value) = (input.u8(), input.u8());
                write(&mut rtc, index, value, now);
                ram[usize::from(index & 0x7F)] = value;
            }
            2 => {
                let index = input.u8() & 0x7F;
                let value = read(&mut rtc, index, now);
                match index {
                    STATUS_A => assert_eq!(value & 0x80, 0, "the time can always be read"),
                    STATUS_C => assert_eq!(value, 0),
                    STATUS_D => assert_eq!(value, VALID),
                    index if TIME.contains(&index) || index == STATUS_B => {}
                    index => assert_eq!(value, ram[usize::from(index)], "register {index:#x}"),
                }
            }
            3 => now = pass(&mut rtc, now, input.u32().into()),
            _ => {
                let date = DateTime::from_unix(input.u64() >> 26);
                dates += u32::from(set(&mut rtc, date, now));
                // What was written there is gone by that.
                TIME.iter().for_each(|index| ram[usize::from(*index)] = 0);
            }
        }
        if !is_stopped(&mut rtc, now) {
            assert!(shown(&mut rtc, now).is_some(), "no date");
            let weekday = read(&mut rtc, WEEKDAY, now);
            assert!((1..=7).contains(&weekday));
        }
    }
    format!("{operations} operations, set to {dates} dates")
}

fn read(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
    rtc.write_index(index);
    rtc.read_data(now)
}

fn write(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
    rtc.write_index(index);
    rtc.write_data(value, now);
}

fn is_stopped(rtc: &mut Rtc, now: u64) -> bool {
    read(rtc, STATUS_B, now) & SET != 0
}

/// The date that a driver reads.
fn shown(rtc: &mut Rtc, now: u64) -> Option<DateTime> {
    let registers = TimeRegisters {
        second: read(rtc, SECOND, now),
        minute: read(rtc, MINUTE, now),
        hour: read(rtc, HOUR, now),
        day: read(rtc, DAY, now),
        month: read(rtc, MONTH, now),
        year: read(rtc, YEAR, now),
        century: Some(read(rtc, CENTURY, now)),
    };
    let status_b = read(rtc, STATUS_B, now);
    let date = decode_cmos(&registers, status_b)?;
    assert_eq!(TimeRegisters::encode(date, status_b), registers, "there and back");
    Some(date)
}

/// Lets time pass; the new time.
fn pass(rtc: &mut Rtc, now: u64, seconds: u64) -> u64 {
    let later = now.saturating_add(seconds);
    let (before, after) = (shown(rtc, now), shown(rtc, later));
    if is_stopped(rtc, now) {
        assert_eq!(before, after, "it stands still");
    } else {
        let [before, after] = [before, after].map(|date| date.expect("a running clock has one"));
        let [Some(from), Some(to)] = [before, after].map(DateTime::to_unix) else {
            panic!("{before:?} or {after:?} is no date")
        };
        let goes_on = to - from == later - now;
        // Before 1970 and behind the last year there is nothing to show.
        assert!(goes_on || after == DateTime::LAST || from == 0, "{before:?} {after:?}");
    }
    later
}

/// Sets the clock as drivers do: stopped. Says whether it then runs.
fn set(rtc: &mut Rtc, date: DateTime, now: u64) -> bool {
    let status_b = read(rtc, STATUS_B, now) & !SET;
    write(rtc, STATUS_B, status_b | SET, now);
    let registers = TimeRegisters::encode(date, status_b);
    for (index, value) in [
        (SECOND, registers.second),
        (MINUTE, registers.minute),
        (HOUR, registers.hour),
        (DAY, registers.day),
        (MONTH, registers.month),
        (YEAR, registers.year),
        (CENTURY, registers.century.unwrap_or(0)),
    ] {
        write(rtc, index, value, now);
    }
    write(rtc, STATUS_B, status_b, now);
    // The clock knows how far it is ahead in 63 bits.
    let near = now < i64::MAX as u64;
    assert!(!near || shown(rtc, now) == Some(date), "{date:?}");
    near
}
