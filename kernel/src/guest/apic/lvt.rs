//! The local vector table: what of it reaches the hardware (SDM Vol. 3A, 11.5.1).

use crate::arch::apic::{LVT_MASKED, LVT_PERIODIC, register};

/// What becomes of a write to an entry of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvtWrite {
    /// This value goes to the physical register.
    Pass(u64),
    /// This value is kept, to be read back; the physical entry stays masked.
    Keep(u64),
    /// #GP.
    Fault,
}

/// Bits of an LVT entry (SDM Vol. 3A, figure 11-8): vector, delivery mode, delivery status (read
/// only: a write is ignored), polarity, remote IRR, trigger mode.
const LVT_VECTOR: u64 = 0xFF;
const LVT_DELIVERY: u64 = 0b111 << 8;
const LVT_STATUS: u64 = 1 << 12;
const LVT_PIN: u64 = 0b111 << 13;
/// What a guest may write to the timer's entry. Not bit 18, TSC-deadline mode, which is hidden. In
/// x2APIC mode a reserved bit is #GP, here as in the hardware, where it would be ours.
const TIMER_WRITABLE: u64 = LVT_VECTOR | LVT_STATUS | LVT_MASKED | LVT_PERIODIC;
/// What a guest may write to the error entry.
const ERROR_WRITABLE: u64 = LVT_VECTOR | LVT_STATUS | LVT_MASKED;
/// What a guest may write to the entries that are kept.
const KEPT_WRITABLE: u64 = LVT_VECTOR | LVT_DELIVERY | LVT_STATUS | LVT_PIN | LVT_MASKED;

/// Judges a write to an LVT register in x2APIC mode.
///
/// The timer and error entries interrupt the guest's own core with a vector, no
/// more, and go to the hardware. The others can carry NMI, SMI or ExtINT, or
/// belong to what guests are not given (machine checks, performance counters):
/// they are kept, and never take effect.
#[inline(always)]
pub fn lvt_write(msr: u32, value: u64) -> LvtWrite {
    if value & !writable(msr) == 0 { accepted(msr, value) } else { LvtWrite::Fault }
}

/// The same in xAPIC mode, where reserved bits are ignored.
pub fn lvt_write_xapic(msr: u32, value: u32) -> LvtWrite {
    accepted(msr, u64::from(value) & writable(msr))
}

const fn writable(msr: u32) -> u64 {
    match msr {
        register::LVT_TIMER => TIMER_WRITABLE,
        register::LVT_ERROR => ERROR_WRITABLE,
        _ => KEPT_WRITABLE,
    }
}

const fn accepted(msr: u32, value: u64) -> LvtWrite {
    let value = value & !LVT_STATUS;
    match msr {
        register::LVT_TIMER | register::LVT_ERROR => LvtWrite::Pass(value),
        _ => LvtWrite::Keep(value),
    }
}

/// The entries that are kept.
const KEPT: [u32; 5] = [
    register::LVT_CMCI,
    register::LVT_THERMAL,
    register::LVT_PERFORMANCE,
    register::LVT_LINT0,
    register::LVT_LINT1,
];

/// The entries that do not reach the hardware, as a guest has written them.
#[derive(Clone, Debug)]
pub struct Kept([u64; KEPT.len()]);

impl Kept {
    /// After reset every entry is masked (SDM Vol. 3A, 11.4.7.1).
    pub const RESET: Self = Self([LVT_MASKED; KEPT.len()]);

    /// The entry behind an MSR.
    pub fn get(&self, msr: u32) -> Option<u64> {
        self.0.get(index(msr)?).copied()
    }

    /// Changes the entry behind an MSR, where there is one.
    pub fn set(&mut self, msr: u32, value: u64) {
        if let Some(kept) = index(msr).and_then(|index| self.0.get_mut(index)) {
            *kept = value;
        }
    }
}

fn index(msr: u32) -> Option<usize> {
    KEPT.iter().position(|&kept| kept == msr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit in turn: whatever is passed on must be valid for the hardware, where a
    /// reserved bit would fault in root mode.
    #[test]
    fn no_lvt_write_reaches_the_hardware_but_plain_vectors() {
        for (msr, passed) in [(register::LVT_TIMER, 0x300FF), (register::LVT_ERROR, 0x100FF)] {
            for bit in 0..64 {
                let expected = match 1u64 << bit {
                    LVT_STATUS => LvtWrite::Pass(0),
                    value if value & passed != 0 => LvtWrite::Pass(value),
                    _ => LvtWrite::Fault,
                };
                assert_eq!(lvt_write(msr, 1 << bit), expected, "{msr:#x} bit {bit}");
            }
            assert_eq!(lvt_write_xapic(msr, u32::MAX), LvtWrite::Pass(passed));
        }
        for msr in KEPT {
            assert_eq!(lvt_write(msr, 0x400), LvtWrite::Keep(0x400), "NMI");
            for reserved in (17..64).chain([11]) {
                assert_eq!(lvt_write(msr, 1 << reserved), LvtWrite::Fault);
            }
            assert_eq!(lvt_write_xapic(msr, u32::MAX), LvtWrite::Keep(0x1_E7FF));
        }
    }

    #[test]
    fn kept_entries_are_masked_until_they_are_written() {
        let mut kept = Kept::RESET;
        for msr in KEPT {
            assert_eq!(kept.get(msr), Some(LVT_MASKED));
            kept.set(msr, u64::from(msr));
        }
        assert!(KEPT.iter().all(|&msr| kept.get(msr) == Some(msr.into())));
        kept.set(register::LVT_TIMER, 1);
        assert_eq!(kept.get(register::LVT_TIMER), None);
    }
}
