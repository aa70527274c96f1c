//! Civil dates and Unix time, in the proleptic Gregorian calendar and UTC without leap seconds.

const SECONDS_PER_MINUTE: u64 = 60;
const SECONDS_PER_HOUR: u64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: u64 = 24 * SECONDS_PER_HOUR;
const DAYS_PER_YEAR: u64 = 365;
/// The year in which Unix time begins.
const EPOCH_YEAR: u16 = 1970;
/// The last year that four digits can show.
const LAST_YEAR: u16 = 9999;
/// 1 January 1970 was a Thursday; counted from Sunday as 0.
const EPOCH_WEEKDAY: u64 = 4;
const DAYS_PER_WEEK: u64 = 7;
const MONTHS_PER_YEAR: u8 = 12;

/// A moment from 1970 to 9999, to the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DateTime {
    /// 1970 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl DateTime {
    /// The last moment that can be shown.
    pub const LAST: Self =
        Self { year: LAST_YEAR, month: 12, day: 31, hour: 23, minute: 59, second: 59 };

    /// The moment `seconds` after the start of 1970; [`Self::LAST`] when that is beyond it.
    pub fn from_unix(seconds: u64) -> Self {
        let end = days_before_year(LAST_YEAR + 1).saturating_mul(SECONDS_PER_DAY);
        if seconds >= end {
            return Self::LAST;
        }
        let mut day = seconds / SECONDS_PER_DAY;
        // A guess that is never too late, and at most two years too early.
        let mut year = EPOCH_YEAR.saturating_add((day / (DAYS_PER_YEAR + 1)) as u16);
        while days_before_year(year.saturating_add(1)) <= day {
            year = year.saturating_add(1);
        }
        day = day.saturating_sub(days_before_year(year));
        let mut month = 1u8;
        while let Some(later) = day.checked_sub(days_in_month(year, month).into()) {
            day = later;
            month = month.saturating_add(1);
        }
        let second = seconds % SECONDS_PER_DAY;
        Self {
            year,
            month,
            day: (day as u8).saturating_add(1),
            hour: (second / SECONDS_PER_HOUR) as u8,
            minute: (second % SECONDS_PER_HOUR / SECONDS_PER_MINUTE) as u8,
            second: (second % SECONDS_PER_MINUTE) as u8,
        }
    }

    /// Seconds since the start of 1970, or `None` when a field is out of its range.
    pub fn to_unix(self) -> Option<u64> {
        if !self.is_valid() {
            return None;
        }
        let months = (1..self.month).map(|month| u64::from(days_in_month(self.year, month)));
        let days = days_before_year(self.year)
            .checked_add(months.sum())?
            .checked_add(self.day.checked_sub(1)?.into())?;
        let hours = days.checked_mul(24)?.checked_add(self.hour.into())?;
        let minutes = hours.checked_mul(60)?.checked_add(self.minute.into())?;
        minutes.checked_mul(SECONDS_PER_MINUTE)?.checked_add(self.second.into())
    }

    /// Whether every field is in its range, and the day is one of that month.
    pub fn is_valid(self) -> bool {
        (EPOCH_YEAR..=LAST_YEAR).contains(&self.year)
            && (1..=MONTHS_PER_YEAR).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    /// The day of the week, 0 for Sunday to 6; of an invalid date, 0.
    pub fn weekday(self) -> u8 {
        match self.to_unix() {
            Some(seconds) => {
                ((seconds / SECONDS_PER_DAY).saturating_add(EPOCH_WEEKDAY) % DAYS_PER_WEEK) as u8
            }
            None => 0,
        }
    }
}

/// Days from 1 January 1970 to 1 January of `year`, which is 1970 or later.
fn days_before_year(year: u16) -> u64 {
    /// Leap years up to the end of 1969.
    const BEFORE_EPOCH: u16 = leap_years(EPOCH_YEAR - 1);
    const fn leap_years(until: u16) -> u16 {
        // No term is larger than the one before.
        (until / 4).saturating_sub(until / 100).saturating_add(until / 400)
    }
    let leap_days = leap_years(year.saturating_sub(1)).saturating_sub(BEFORE_EPOCH);
    u64::from(year.saturating_sub(EPOCH_YEAR))
        .saturating_mul(DAYS_PER_YEAR)
        .saturating_add(leap_days.into())
}

fn days_in_month(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> DateTime {
        DateTime { year, month, day, hour, minute, second }
    }

    /// From `date -u -d DATE +%s` and `date -u -d DATE +%w`.
    #[test]
    fn known_moments() {
        let known = [
            (0, at(1970, 1, 1, 0, 0, 0), 4),
            (68_169_599, at(1972, 2, 28, 23, 59, 59), 1),
            (68_169_600, at(1972, 2, 29, 0, 0, 0), 2),
            (68_256_000, at(1972, 3, 1, 0, 0, 0), 3),
            (951_782_400, at(2000, 2, 29, 0, 0, 0), 2),
            (1_000_000_000, at(2001, 9, 9, 1, 46, 40), 0),
            (1_709_210_096, at(2024, 2, 29, 12, 34, 56), 4),
            (2_147_483_648, at(2038, 1, 19, 3, 14, 8), 2),
            (4_102_444_799, at(2099, 12, 31, 23, 59, 59), 4),
            (4_107_542_400, at(2100, 3, 1, 0, 0, 0), 1),
            (13_574_563_200, at(2400, 2, 29, 0, 0, 0), 2),
            (253_402_300_799, DateTime::LAST, 5),
        ];
        for (seconds, moment, weekday) in known {
            assert_eq!(DateTime::from_unix(seconds), moment);
            assert_eq!(moment.to_unix(), Some(seconds));
            assert_eq!(moment.weekday(), weekday, "{moment:?}");
        }
        assert_eq!(DateTime::from_unix(4_107_542_399), at(2100, 2, 28, 23, 59, 59));
    }

    #[test]
    fn what_no_calendar_has_is_invalid() {
        let invalid = [
            at(1969, 12, 31, 0, 0, 0),
            at(10000, 1, 1, 0, 0, 0),
            at(2024, 0, 1, 0, 0, 0),
            at(2024, 13, 1, 0, 0, 0),
            at(2024, 1, 0, 0, 0, 0),
            at(2024, 4, 31, 0, 0, 0),
            at(2023, 2, 29, 0, 0, 0),
            at(2100, 2, 29, 0, 0, 0),
            at(2024, 1, 1, 24, 0, 0),
            at(2024, 1, 1, 0, 60, 0),
            at(2024, 1, 1, 0, 0, 60),
        ];
        for moment in invalid {
            assert_eq!(moment.to_unix(), None, "{moment:?}");
        }
    }

    #[test]
    fn beyond_the_last_year_the_clock_stands_still() {
        assert_eq!(DateTime::from_unix(253_402_300_800), DateTime::LAST);
        assert_eq!(DateTime::from_unix(u64::MAX), DateTime::LAST);
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0u64..253_402_300_800) {
            let moment = DateTime::from_unix(seconds);
            prop_assert!(moment.is_valid());
            prop_assert_eq!(moment.to_unix(), Some(seconds));
        }

        #[test]
        fn later_is_later(seconds in 0u64..253_402_300_799) {
            prop_assert!(DateTime::from_unix(seconds) < DateTime::from_unix(seconds + 1));
        }
    }
}
