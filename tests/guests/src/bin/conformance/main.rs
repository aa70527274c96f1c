//! What a guest is promised, tried from inside: each test has a title that says what holds.
//!
//! `test=TEXT` on the command line runs those with TEXT in their titles alone.
#![no_std]
#![no_main]

mod acpi;
mod control;
mod cpuid;
mod debug;
mod instructions;
mod interrupts;
mod ioapic;
mod local_apic;
mod memory;
mod mmio;
mod msr;
mod ports;
mod rtc;
mod timer;
mod user;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{apic, entry, suite};

entry!(main);

fn main(boot: &BootParams) -> ! {
    // What has to be seen before anything changes it comes first.
    let groups = [
        memory::TESTS,
        acpi::TESTS,
        cpuid::TESTS,
        msr::TESTS,
        instructions::TESTS,
        control::TESTS,
        ports::TESTS,
        mmio::TESTS,
        rtc::TESTS,
        local_apic::TESTS,
        interrupts::TESTS,
        timer::TESTS,
        ioapic::TESTS,
        debug::TESTS,
        user::TESTS,
    ];
    apic::enable();
    suite::run(boot, &groups)
}
