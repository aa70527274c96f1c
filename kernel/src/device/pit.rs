//! Counter 2 of the 8254 interval timer, with its gate and output at port 0x61.
//!
//! Kernels that do not know CPUID leaf 0x15 measure the TSC against it. It counts in mode 0 alone
//! (Intel 8254 data sheet, "Mode 0: interrupt on terminal count"), and its count cannot be read.
//! Counters 0 and 1 are not there: no interrupt comes from this device.

use super::platform::Now;

/// Counter 2's port, to which its count is written.
pub const COUNTER_PORT: u16 = 0x42;
/// Port of control words.
pub const CONTROL_PORT: u16 = 0x43;
/// Port of the gate and the output.
pub const GATE_PORT: u16 = 0x61;

/// Counts a second.
const RATE: u128 = 1_193_182;
/// Control word: counter 2, low byte then high byte, mode 0. The lowest bit says BCD.
const ONE_SHOT: u8 = 0b1011_0000;
/// Gate port: counter 2 may count.
const GATE: u8 = 1 << 0;
/// Gate port: counter 2 is connected to the loudspeaker, of which there is none.
const SPEAKER: u8 = 1 << 1;
/// Gate port, reads: counter 2 has reached 0.
const OUTPUT: u8 = 1 << 5;

/// What counter 2 does.
#[derive(Clone, Copy, Default)]
enum Counter {
    /// Before the first control word.
    #[default]
    Unset,
    /// It has its control word and waits for its count's low byte.
    Low,
    /// It waits for the high byte.
    High(u8),
    /// It counts, while the gate is open.
    Counting {
        /// Counts left when the gate opened last.
        left: u64,
        /// TSC ticks since then; at a closed gate, of no meaning.
        since: u64,
    },
}

/// The timer.
#[derive(Default)]
pub struct Pit {
    counter: Counter,
    /// GATE and SPEAKER as they were written.
    gate: u8,
}

impl Pit {
    /// Reads the gate's port.
    pub fn read_gate(&self, now: &Now) -> u8 {
        let done = matches!(self.counter, Counter::Counting { .. }) && self.left(now) == 0;
        self.gate | if done { OUTPUT } else { 0 }
    }

    /// Writes the gate's port.
    pub fn write_gate(&mut self, value: u8, now: &Now) {
        if let Counter::Counting { .. } = self.counter {
            self.counter = Counter::Counting { left: self.left(now), since: now.tsc };
        }
        self.gate = value & (GATE | SPEAKER);
    }

    /// Writes a control word; `None` if it asks for what is not there.
    pub fn write_control(&mut self, value: u8) -> Option<()> {
        (value == ONE_SHOT).then(|| self.counter = Counter::Low)
    }

    /// Writes a byte of the count; `None` without a control word. The low byte of a new count stops
    /// the old one.
    pub fn write_counter(&mut self, value: u8, now: &Now) -> Option<()> {
        self.counter = match self.counter {
            Counter::Unset => return None,
            Counter::Low | Counter::Counting { .. } => Counter::High(value),
            Counter::High(low) => {
                let count = u64::from(u16::from_le_bytes([low, value]));
                // 0 is 2^16, and the first clock loads the counter.
                let left = if count == 0 { 1u64 << 16 } else { count }.saturating_add(1);
                Counter::Counting { left, since: now.tsc }
            }
        };
        Some(())
    }

    /// Counts that are left.
    fn left(&self, now: &Now) -> u64 {
        let Counter::Counting { left, since } = self.counter else { return 0 };
        if self.gate & GATE == 0 {
            return left;
        }
        let ticks = u128::from(now.tsc.wrapping_sub(since));
        let counted = (ticks * RATE).checked_div(now.tsc_hz.into()).unwrap_or(0);
        left.saturating_sub(u64::try_from(counted).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 10_000_000;
    const TICKS_50_MS: u64 = HZ / 20;

    fn at(tsc: u64) -> Now {
        Now { unix_seconds: 0, tsc, tsc_hz: HZ }
    }

    fn set(pit: &mut Pit, count: u16, now: &Now) {
        pit.write_control(0xB0).unwrap();
        for byte in count.to_le_bytes() {
            pit.write_counter(byte, now).unwrap();
        }
    }

    #[test]
    fn the_output_rises_after_the_count() {
        let mut pit = Pit::default();
        // The TSC wraps in between.
        let start = u64::MAX - 1000;
        pit.write_gate(1, &at(start));
        assert_eq!(pit.read_gate(&at(start)), 1);
        set(&mut pit, 59659, &at(start));
        let after = |ticks: u64| pit.read_gate(&at(start.wrapping_add(ticks)));
        assert_eq!((after(0), after(TICKS_50_MS - 20), after(TICKS_50_MS + 20)), (1, 1, 0x21));
    }

    #[test]
    fn it_counts_while_the_gate_is_open() {
        let mut pit = Pit::default();
        set(&mut pit, 59659, &at(0));
        assert_eq!(pit.read_gate(&at(HZ)), 0);
        pit.write_gate(3, &at(HZ));
        pit.write_gate(2, &at(HZ + TICKS_50_MS / 2));
        assert_eq!(pit.read_gate(&at(2 * HZ)), 2);
        pit.write_gate(0xFF, &at(2 * HZ));
        assert_eq!(pit.read_gate(&at(2 * HZ + TICKS_50_MS / 2 - 20)), 3);
        assert_eq!(pit.read_gate(&at(2 * HZ + TICKS_50_MS / 2 + 20)), 0x23);
        // A new count lowers the output.
        set(&mut pit, 0, &at(3 * HZ));
        assert_eq!(pit.read_gate(&at(3 * HZ)), 3);
        assert_eq!(pit.read_gate(&at(3 * HZ + HZ * 65536 / 1_193_182 - 20)), 3);
    }

    #[test]
    fn other_modes_and_counters_are_not_there() {
        let mut pit = Pit::default();
        assert_eq!(pit.write_counter(0, &at(0)), None);
        for word in (0..=u8::MAX).filter(|&word| word != 0xB0) {
            assert_eq!(pit.write_control(word), None, "{word:#x}");
        }
    }

    #[test]
    fn a_clock_without_a_rate_is_no_division_by_zero() {
        let mut pit = Pit::default();
        let now = Now { unix_seconds: 0, tsc: 0, tsc_hz: 0 };
        pit.write_gate(1, &now);
        set(&mut pit, 1, &now);
        assert_eq!(pit.read_gate(&Now { tsc: u64::MAX, ..now }), 1);
    }
}
