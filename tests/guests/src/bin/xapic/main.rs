//! What a guest is promised of a local APIC that is not in x2APIC mode, tried from inside.
//!
//! `test=TEXT` on the command line runs those with TEXT in their titles alone.
#![no_std]
#![no_main]

mod interrupts;
mod modes;
mod page;

use bulkhead_guests::apic::{self, SPURIOUS_VECTOR};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{entry, suite, xapic};

entry!(main, apic::stay_in_xapic_mode);

/// SVR: enabled by software.
const SVR_ENABLE: u32 = 1 << 8;
/// An LVT entry's mask bit.
const MASKED: u32 = 1 << 16;

fn main(boot: &BootParams) -> ! {
    // What has to be seen before anything changes it comes first. Each group after the first
    // begins and ends with an APIC that `turn_on` has left.
    suite::run(boot, &[modes::TESTS, page::TESTS, interrupts::TESTS])
}

/// Makes the APIC, in xAPIC mode, one that takes interrupts, with nothing else set.
fn turn_on() {
    xapic::write(xapic::SVR, SVR_ENABLE | u32::from(SPURIOUS_VECTOR));
    xapic::write(xapic::TPR, 0);
    xapic::write(xapic::TIMER_INITIAL, 0);
    for entry in [xapic::LVT_TIMER, xapic::LVT_ERROR] {
        xapic::write(entry, MASKED);
    }
}
