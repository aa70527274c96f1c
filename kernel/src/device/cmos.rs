//! How an MC146818 holds the time: for the guest's clock, and for reading the machine's.
//!
//! The source is Motorola's MC146818A data sheet (1984), table 2 for the formats.

use super::date_time::DateTime;

/// Register indices of the clock.
pub mod index {
    /// Seconds.
    pub const SECOND: u8 = 0x00;
    /// Minutes.
    pub const MINUTE: u8 = 0x02;
    /// Hours, with bit 7 for p.m. in 12-hour format.
    pub const HOUR: u8 = 0x04;
    /// Day of the week, 1 for Sunday.
    pub const WEEKDAY: u8 = 0x06;
    /// Day of the month.
    pub const DAY: u8 = 0x07;
    /// Month.
    pub const MONTH: u8 = 0x08;
    /// Year in its century.
    pub const YEAR: u8 = 0x09;
    /// Divider and update-in-progress flag.
    pub const STATUS_A: u8 = 0x0a;
    /// Format, and the bit that stops the clock for setting.
    pub const STATUS_B: u8 = 0x0b;
    /// Interrupt flags.
    pub const STATUS_C: u8 = 0x0c;
    /// Valid RAM and time.
    pub const STATUS_D: u8 = 0x0d;
    /// Century: not in the chip, but where PCs have it by convention, and where the guests' FADT says.
    pub const CENTURY: u8 = 0x32;
}

/// Status A: the time changes soon and must not be read.
pub const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Status B: the clock stands still, to be set.
pub const SET: u8 = 1 << 7;
/// Status B: the registers are binary rather than BCD.
pub const BINARY: u8 = 1 << 2;
/// Status B: hours from 0 to 23 rather than 1 to 12 with a p.m. bit.
pub const HOURS_24: u8 = 1 << 1;
/// Status D: the battery did not fail, RAM and time are valid.
pub const VALID: u8 = 1 << 7;
/// Hours: p.m., in 12-hour format.
const PM: u8 = 1 << 7;
const NOON: u8 = 12;
/// Years below mean the 21st century where there is no century register.
const PIVOT_YEAR: u8 = 70;

/// The time registers as they are in the chip, in the format that status B tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeRegisters {
    /// Register 0x00.
    pub second: u8,
    /// Register 0x02.
    pub minute: u8,
    /// Register 0x04.
    pub hour: u8,
    /// Register 0x07.
    pub day: u8,
    /// Register 0x08.
    pub month: u8,
    /// Register 0x09.
    pub year: u8,
    /// The register that the FADT's `CENTURY` names, where it names one.
    pub century: Option<u8>,
}

impl TimeRegisters {
    /// How a chip whose status B is `status_b` holds `time`.
    pub fn encode(time: DateTime, status_b: u8) -> Self {
        let number = |value: u8| if status_b & BINARY != 0 { value } else { to_bcd(value) };
        let hour = if status_b & HOURS_24 != 0 {
            number(time.hour)
        } else {
            let hour = match time.hour % NOON {
                0 => NOON,
                hour => hour,
            };
            number(hour) | if time.hour >= NOON { PM } else { 0 }
        };
        Self {
            second: number(time.second),
            minute: number(time.minute),
            hour,
            day: number(time.day),
            month: number(time.month),
            year: number((time.year % 100) as u8),
            century: Some(number((time.year / 100) as u8)),
        }
    }
}

/// The time that a chip's registers hold, in the format of its status B; `None` when they hold none.
///
/// Without a century register the years are 1970 to 2069.
pub fn decode_cmos(registers: &TimeRegisters, status_b: u8) -> Option<DateTime> {
    let number = |value: u8| if status_b & BINARY != 0 { Some(value) } else { from_bcd(value) };
    let hour = if status_b & HOURS_24 != 0 {
        number(registers.hour)?
    } else {
        let hour = number(registers.hour & !PM).filter(|hour| (1..=NOON).contains(hour))?;
        (hour % NOON).saturating_add(if registers.hour & PM != 0 { NOON } else { 0 })
    };
    let year = number(registers.year).filter(|year| *year < 100)?;
    let century = match registers.century {
        Some(century) => number(century).filter(|century| *century < 100)?,
        None if year < PIVOT_YEAR => 20,
        None => 19,
    };
    let time = DateTime {
        year: u16::from(century).saturating_mul(100).saturating_add(year.into()),
        month: number(registers.month)?,
        day: number(registers.day)?,
        hour,
        minute: number(registers.minute)?,
        second: number(registers.second)?,
    };
    time.is_valid().then_some(time)
}

/// Two decimal digits of a number below 100.
pub fn to_bcd(value: u8) -> u8 {
    ((value / 10 % 10) << 4) | (value % 10)
}

fn from_bcd(value: u8) -> Option<u8> {
    let (tens, units) = (value >> 4, value & 0x0f);
    (tens < 10 && units < 10).then_some(tens.saturating_mul(10).saturating_add(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENING: DateTime =
        DateTime { year: 2026, month: 11, day: 23, hour: 21, minute: 45, second: 59 };

    fn registers(bytes: [u8; 6], century: Option<u8>) -> TimeRegisters {
        let [second, minute, hour, day, month, year] = bytes;
        TimeRegisters { second, minute, hour, day, month, year, century }
    }

    #[test]
    fn all_four_formats() {
        let formats = [
            (0x02, registers([0x59, 0x45, 0x21, 0x23, 0x11, 0x26], Some(0x20))),
            (0x06, registers([59, 45, 21, 23, 11, 26], Some(20))),
            (0x00, registers([0x59, 0x45, 0x89, 0x23, 0x11, 0x26], Some(0x20))),
            (0x04, registers([59, 45, 0x89, 23, 11, 26], Some(20))),
        ];
        for (status_b, registers) in formats {
            assert_eq!(TimeRegisters::encode(EVENING, status_b), registers);
            assert_eq!(decode_cmos(&registers, status_b), Some(EVENING));
            let without_century = TimeRegisters { century: None, ..registers };
            assert_eq!(decode_cmos(&without_century, status_b), Some(EVENING));
        }
    }

    #[test]
    fn midnight_and_noon_in_12_hour_format() {
        for (hour, register) in
            [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)]
        {
            let time = DateTime { hour, ..EVENING };
            assert_eq!(TimeRegisters::encode(time, 0).hour, register);
            assert_eq!(decode_cmos(&TimeRegisters::encode(time, 0), 0), Some(time));
        }
    }

    #[test]
    fn years_without_a_century_are_1970_to_2069() {
        let of =
            |year| decode_cmos(&registers([0, 0, 0, 1, 1, year], None), 0x02).map(|time| time.year);
        assert_eq!(of(0x70), Some(1970));
        assert_eq!(of(0x99), Some(1999));
        assert_eq!(of(0x00), Some(2000));
        assert_eq!(of(0x69), Some(2069));
    }

    #[test]
    fn the_century_register_is_believed() {
        let of = |century| decode_cmos(&registers([0, 0, 0, 0x28, 2, 0], Some(century)), 0x02);
        assert_eq!(of(0x21).map(|time| time.year), Some(2100));
        assert_eq!(of(0x18), None);
        // 2100 has no 29 February, 2000 had one.
        let leap_day =
            |century| decode_cmos(&registers([0, 0, 0, 0x29, 2, 0], Some(century)), 0x02);
        assert_eq!(leap_day(0x21), None);
        assert!(leap_day(0x20).is_some());
    }

    #[test]
    fn nonsense_is_no_time() {
        let good = registers([0, 0, 0, 1, 1, 0], None);
        assert!(decode_cmos(&good, 0x02).is_some());
        for bad in [
            TimeRegisters { second: 0x60, ..good },
            TimeRegisters { second: 0x0a, ..good },
            TimeRegisters { minute: 0xa0, ..good },
            TimeRegisters { hour: 0x24, ..good },
            TimeRegisters { day: 0, ..good },
            TimeRegisters { month: 0x13, ..good },
            TimeRegisters { year: 0xff, ..good },
            registers([0xff; 6], Some(0xff)),
        ] {
            assert_eq!(decode_cmos(&bad, 0x02), None, "{bad:?}");
        }
        assert_eq!(decode_cmos(&TimeRegisters { year: 100, ..good }, 0x06), None);
        // Hour 0 and 13 are not on a 12-hour clock.
        assert_eq!(decode_cmos(&good, 0x00), None);
        assert_eq!(decode_cmos(&TimeRegisters { hour: 0x13, ..good }, 0x00), None);
    }
}
