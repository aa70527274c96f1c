//! The guest's clock: an MC146818 at I/O ports 0x70 and 0x71, showing the machine's date.
//!
//! The time is computed whenever it is read, from the seconds that the caller hands in. A guest may set
//! its clock; what is kept is the difference, so that the clocks of others do not move.
//! There is no interrupt line behind this model: alarm, periodic and update interrupts can be
//! enabled and never come, and status C reads 0.

use super::cmos::index::{
    CENTURY, DAY, HOUR, MINUTE, MONTH, SECOND, STATUS_A, STATUS_B, STATUS_C, STATUS_D, WEEKDAY,
    YEAR,
};
use super::cmos::{HOURS_24, SET, TimeRegisters, UPDATE_IN_PROGRESS, VALID, decode_cmos};
use super::date_time::DateTime;

/// The port that selects a register.
pub const INDEX_PORT: u16 = 0x70;
/// The port that shows the selected register.
pub const DATA_PORT: u16 = 0x71;
/// I/O ports that the clock occupies.
pub const PORT_COUNT: u16 = 2;

/// Registers and battery-backed bytes.
const REGISTER_COUNT: usize = 128;
/// The index port's bits that select; bit 7 masks NMIs on a PC, and does nothing here.
const INDEX_MASK: u8 = 0x7f;
/// Status A: a running 32.768 kHz divider and the usual 1,024 Hz rate.
const DEFAULT_STATUS_A: u8 = 0x26;
/// The registers that hold the time.
const TIME: [u8; 8] = [SECOND, MINUTE, HOUR, WEEKDAY, DAY, MONTH, YEAR, CENTURY];

/// The clock of one guest.
pub struct Rtc {
    selected: u8,
    /// Status registers, alarm and RAM; the time registers only while [`SET`] stops the clock.
    registers: [u8; REGISTER_COUNT],
    /// Seconds that the guest's clock is ahead of the machine's.
    ahead: i64,
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtc {
    /// A clock that shows the machine's time, in BCD and 24-hour format.
    #[expect(clippy::indexing_slicing, reason = "constant indices, below the length")]
    pub const fn new() -> Self {
        let mut registers = [0; REGISTER_COUNT];
        registers[STATUS_A as usize] = DEFAULT_STATUS_A;
        registers[STATUS_B as usize] = HOURS_24;
        registers[STATUS_D as usize] = VALID;
        Self { selected: 0, registers, ahead: 0 }
    }

    /// Writes the index port. It cannot be read: it reads as an absent port does.
    pub fn write_index(&mut self, value: u8) {
        self.selected = value & INDEX_MASK;
    }

    /// Reads the data port at `now`, in seconds since 1970.
    pub fn read_data(&self, now: u64) -> u8 {
        if TIME.contains(&self.selected) && !self.is_stopped() {
            self.time_register(self.selected, now)
        } else {
            self.register(self.selected)
        }
    }

    /// Writes the data port at `now`, in seconds since 1970.
    ///
    /// What is no date leaves the clock as it was.
    pub fn write_data(&mut self, value: u8, now: u64) {
        match self.selected {
            STATUS_A => self.store(STATUS_A, value & !UPDATE_IN_PROGRESS),
            STATUS_B => self.write_status_b(value, now),
            STATUS_C | STATUS_D => {}
            selected if TIME.contains(&selected) && !self.is_stopped() => {
                self.latch(now);
                self.store(selected, value);
                self.set_clock(now);
            }
            selected => self.store(selected, value),
        }
    }

    fn write_status_b(&mut self, value: u8, now: u64) {
        let was_stopped = self.is_stopped();
        if !was_stopped && value & SET != 0 {
            // The registers hold the last time until they are written.
            self.latch(now);
        }
        self.store(STATUS_B, value);
        if was_stopped && value & SET == 0 {
            self.set_clock(now);
        }
    }

    fn is_stopped(&self) -> bool {
        self.register(STATUS_B) & SET != 0
    }

    fn register(&self, index: u8) -> u8 {
        self.registers.get(usize::from(index)).copied().unwrap_or(u8::MAX)
    }

    fn store(&mut self, index: u8, value: u8) {
        if let Some(register) = self.registers.get_mut(usize::from(index)) {
            *register = value;
        }
    }

    fn time_register(&self, index: u8, now: u64) -> u8 {
        let time = DateTime::from_unix(now.saturating_add_signed(self.ahead));
        let status_b = self.register(STATUS_B);
        let registers = TimeRegisters::encode(time, status_b);
        match index {
            SECOND => registers.second,
            MINUTE => registers.minute,
            HOUR => registers.hour,
            // From 1 for Sunday; one digit is the same in BCD.
            WEEKDAY => time.weekday().saturating_add(1),
            DAY => registers.day,
            MONTH => registers.month,
            YEAR => registers.year,
            _ => registers.century.unwrap_or(0),
        }
    }

    /// Copies the running time to the registers.
    fn latch(&mut self, now: u64) {
        for index in TIME {
            self.store(index, self.time_register(index, now));
        }
    }

    /// Lets the clock run on from what the registers hold, when that is a date.
    fn set_clock(&mut self, now: u64) {
        let registers = TimeRegisters {
            second: self.register(SECOND),
            minute: self.register(MINUTE),
            hour: self.register(HOUR),
            day: self.register(DAY),
            month: self.register(MONTH),
            year: self.register(YEAR),
            century: Some(self.register(CENTURY)),
        };
        let time = decode_cmos(&registers, self.register(STATUS_B)).and_then(DateTime::to_unix);
        if let Some(ahead) = time.and_then(|time| time.checked_signed_diff(now)) {
            self.ahead = ahead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23 21:45:59, a Monday.
    const NOW: u64 = 1_795_470_359;

    fn read(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
        rtc.write_index(index);
        rtc.read_data(now)
    }

    fn write(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
        rtc.write_index(index);
        rtc.write_data(value, now);
    }

    fn time(rtc: &mut Rtc, now: u64) -> [u8; 8] {
        TIME.map(|index| read(rtc, index, now))
    }

    #[test]
    fn shows_the_time_that_it_is_given() {
        let mut rtc = Rtc::new();
        assert_eq!(time(&mut rtc, NOW), [0x59, 0x45, 0x21, 2, 0x23, 0x11, 0x26, 0x20]);
        assert_eq!(time(&mut rtc, NOW + 1), [0x00, 0x46, 0x21, 2, 0x23, 0x11, 0x26, 0x20]);
        assert_eq!(read(&mut rtc, 0x0a, NOW), 0x26);
        assert_eq!(read(&mut rtc, 0x0b, NOW), 0x02);
        assert_eq!(read(&mut rtc, 0x0c, NOW), 0);
        assert_eq!(read(&mut rtc, 0x0d, NOW), 0x80);
    }

    #[test]
    fn the_format_is_the_guests_choice() {
        let mut rtc = Rtc::new();
        write(&mut rtc, 0x0b, 0x04, NOW);
        assert_eq!(time(&mut rtc, NOW), [59, 45, 0x89, 2, 23, 11, 26, 20]);
        write(&mut rtc, 0x0b, 0x06, NOW);
        assert_eq!(time(&mut rtc, NOW), [59, 45, 21, 2, 23, 11, 26, 20]);
    }

    #[test]
    fn setting_it_as_linux_does_moves_this_clock() {
        let mut rtc = Rtc::new();
        write(&mut rtc, 0x0b, 0x82, NOW);
        let stopped = time(&mut rtc, NOW);
        assert_eq!(time(&mut rtc, NOW + 100), stopped, "the clock stands still");
        // 1999-12-31 23:59:58; halfway through there is 31 November.
        for (index, value) in [
            (0x09, 0x99),
            (0x07, 0x31),
            (0x08, 0x12),
            (0x04, 0x23),
            (0x02, 0x59),
            (0x00, 0x58),
            (0x32, 0x19),
        ] {
            write(&mut rtc, index, value, NOW + 100);
        }
        write(&mut rtc, 0x0b, 0x02, NOW + 100);
        assert_eq!(time(&mut rtc, NOW + 100), [0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19]);
        assert_eq!(time(&mut rtc, NOW + 102), [0x00, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20]);
    }

    #[test]
    fn one_register_can_be_set_while_it_runs() {
        let mut rtc = Rtc::new();
        write(&mut rtc, 0x04, 0x08, NOW);
        assert_eq!(time(&mut rtc, NOW + 1), [0x00, 0x46, 0x08, 2, 0x23, 0x11, 0x26, 0x20]);
    }

    #[test]
    fn what_is_no_date_leaves_the_clock_alone() {
        let mut rtc = Rtc::new();
        write(&mut rtc, 0x08, 0x13, NOW);
        assert_eq!(read(&mut rtc, 0x08, NOW), 0x11);
        write(&mut rtc, 0x0b, 0x82, NOW);
        write(&mut rtc, 0x32, 0x18, NOW);
        write(&mut rtc, 0x0b, 0x02, NOW);
        assert_eq!(time(&mut rtc, NOW), [0x59, 0x45, 0x21, 2, 0x23, 0x11, 0x26, 0x20]);
    }

    #[test]
    fn memory_is_kept_and_status_is_protected() {
        let mut rtc = Rtc::new();
        for index in (0x0e..=0x7f).filter(|index| *index != 0x32) {
            assert_eq!(read(&mut rtc, index, NOW), 0);
            write(&mut rtc, index, !index, NOW);
        }
        for index in (0x0e..=0x7f).filter(|index| *index != 0x32) {
            // Bit 7 of the index port masks NMIs and selects nothing.
            assert_eq!(read(&mut rtc, index | 0x80, NOW), !index);
        }
        write(&mut rtc, 0x0a, 0xff, NOW);
        assert_eq!(read(&mut rtc, 0x0a, NOW), 0x7f, "never an update in progress");
        write(&mut rtc, 0x0c, 0xff, NOW);
        write(&mut rtc, 0x0d, 0xff, NOW);
        assert_eq!(read(&mut rtc, 0x0c, NOW), 0);
        assert_eq!(read(&mut rtc, 0x0d, NOW), 0x80);
    }

    proptest! {
        #[test]
        fn whatever_is_written_a_running_clock_shows_a_date(
            writes in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u64>()), 1..200),
            now: u64,
        ) {
            let mut rtc = Rtc::new();
            for (index, value, now) in writes {
                write(&mut rtc, index, value, now);
                read(&mut rtc, index, now);
            }
            let status_b = read(&mut rtc, 0x0b, now) & !SET;
            write(&mut rtc, 0x0b, status_b, now);
            let [second, minute, hour, _, day, month, year, century] = time(&mut rtc, now);
            let shown = TimeRegisters { second, minute, hour, day, month, year, century: Some(century) };
            prop_assert!(decode_cmos(&shown, status_b).is_some());
        }
    }
}
