//! Device models: plain logic, host-tested, which know nothing of VMX.
//!
//! A model is a struct with a method per kind of access. It never touches hardware, never
//! allocates on an access, and has no input that makes it panic: what a guest writes is either
//! meaningful or ignored. All models of one guest sit behind one lock: the guest's cores reach
//! them on exits, the service core when it moves console bytes.
//!
//! * [`platform`]: all devices of one guest, by port and address. Start here.
//! * [`uart`]: the 16550A of the console, with back-pressure towards the guest.
//! * [`ioapic`]: translates an interrupt pin to the message that is sent to the guest's processors.
//! * [`pit`]: the one counter of the interval timer that kernels measure the TSC against.
//! * [`power`]: the ACPI sleep and reset registers, and the old ways to reset a PC.
//! * [`rtc`]: the clock; [`cmos`] is its format, which the machine's own clock shares, and
//!   [`date_time`] the calendar.

// A guest reaches all of this: whatever it writes must not stop the hypervisor, also where
// overflow panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::arithmetic_side_effects
    )
)]

pub mod cmos;
pub mod date_time;
pub mod ioapic;
pub mod pit;
pub mod platform;
pub mod power;
pub mod queue;
pub mod rtc;
pub mod uart;
