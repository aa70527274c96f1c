//! Reading the physical real-time clock, once.

use crate::arch::cmos::register;
use crate::arch::cpu;
use crate::device::cmos::{self, TimeRegisters, decode_cmos};

/// Tries to get two equal readings while no update is in progress.
const TRIES: usize = 100_000;

fn registers() -> TimeRegisters {
    TimeRegisters {
        second: register(cmos::index::SECOND),
        minute: register(cmos::index::MINUTE),
        hour: register(cmos::index::HOUR),
        day: register(cmos::index::DAY),
        month: register(cmos::index::MONTH),
        year: register(cmos::index::YEAR),
        // Where a century register is depends on the machine; without it the century is this one.
        century: None,
    }
}

/// Seconds since the start of 1970 as the machine's clock shows them, taken as UTC;
/// `None` if it shows no valid time.
pub fn read() -> Option<u64> {
    for _ in 0..TRIES {
        if register(cmos::index::STATUS_A) & cmos::UPDATE_IN_PROGRESS != 0 {
            cpu::pause();
            continue;
        }
        let (first, second) = (registers(), registers());
        if first == second {
            return decode_cmos(&first, register(cmos::index::STATUS_B))?.to_unix();
        }
    }
    None
}
