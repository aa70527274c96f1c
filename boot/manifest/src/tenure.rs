//! Whose a guest is, what it is for, how secret what it handles is, and until when it is needed: so that no guest is on a
//! machine that nobody answers for.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

/// What a manifest says of a guest besides what it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// Whom the guest belongs to; see [`is_owner`](crate::limits::is_owner).
    pub owner: String,
    /// What it is for; see [`is_purpose`](crate::limits::is_purpose).
    pub purpose: String,
    /// How secret what it handles is; see [`is_class`](crate::limits::is_class).
    pub classification: String,
    /// Until when it is needed.
    pub expires: Expiry,
    /// What happens then.
    pub on_expiry: OnExpiry,
}

impl Tenure {
    /// Bytes of its texts.
    pub fn text(&self) -> usize {
        self.owner.len() + self.purpose.len() + self.classification.len()
    }
}

/// Until when a guest is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// Nobody can say: the manifest writes `never`.
    Never,
    /// To the end of this day, UTC.
    After(Date),
}

impl Expiry {
    /// Whether the guest has expired at a time in seconds since the start of 1970, UTC.
    pub fn is_past(self, unix_seconds: u64) -> bool {
        match self {
            Self::Never => false,
            Self::After(date) => unix_seconds >= date.end(),
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::After(date) => date.fmt(f),
        }
    }
}

/// `never` or `YYYY-MM-DD`.
impl FromStr for Expiry {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        if text == "never" { Ok(Self::Never) } else { text.parse().map(Self::After) }
    }
}

/// What happens to a guest that has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnExpiry {
    /// It is shown as expired.
    #[default]
    Report,
    /// It is stopped, too, and not started any more.
    Stop,
}

impl OnExpiry {
    /// The name that the manifest uses: `report` or `stop`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Stop => "stop",
        }
    }
}

/// A day of the Gregorian calendar, from 1970-01-01 to 9999-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A text, or what a bundle has, is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDate;

impl Date {
    /// Whether there is such a day.
    pub fn is_valid(self) -> bool {
        (1970..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=self.days_of_month()).contains(&self.day)
    }

    fn days_of_month(self) -> u8 {
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// The first second after it, since the start of 1970, UTC.
    fn end(self) -> u64 {
        // Years begin in March, so that the leap day is their last.
        let (year, month) = (u64::from(self.year), u64::from(self.month));
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400;
        let days = days + (153 * month + 2) / 5 + u64::from(self.day);
        /// The days that this counts up to the end of 1969.
        const BEFORE_1970: u64 = 719_469;
        (days - BEFORE_1970 + 1) * SECONDS_OF_DAY
    }
}

impl FromStr for Date {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else {
            return Err(NoDate);
        };
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_u16, |number, digit| {
                digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'))
            })
        };
        let date = || {
            let year = number(&[y1, y2, y3, y4])?;
            let month = u8::try_from(number(&[m1, m2])?).ok()?;
            let day = u8::try_from(number(&[d1, d2])?).ok()?;
            Some(Self { year, month, day }).filter(|date| date.is_valid())
        };
        date().ok_or(NoDate)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn days_that_are_none_are_refused() {
        for good in ["1970-01-01", "2028-02-29", "2000-02-29", "9999-12-31", "2026-11-30"] {
            assert_eq!(good.parse::<Date>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "2026",
            "2026-1-1",
            "1969-12-31",
            "2026-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-11-31",
            "2026-11-00",
            "+026-11-30",
            "2026-11-3x",
            "26-11-30",
        ] {
            assert_eq!(bad.parse::<Date>(), Err(NoDate), "{bad}");
        }
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("Never".parse::<Expiry>(), Err(NoDate));
    }

    #[test]
    fn a_guest_is_needed_to_the_end_of_its_day() {
        for (day, end) in [
            ("1970-01-01", 86_400),
            ("1970-03-01", 60 * 86_400),
            ("2000-02-29", 951_868_800),
            ("2026-11-26", 1_795_737_600),
            ("9999-12-31", 253_402_300_800),
        ] {
            let expiry: Expiry = day.parse().unwrap();
            assert!(!expiry.is_past(end - 1) && expiry.is_past(end), "{day}");
        }
        assert!(!Expiry::Never.is_past(u64::MAX));
    }
}
