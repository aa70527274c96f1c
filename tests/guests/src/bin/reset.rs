//! A guest that restarts itself, through the reset register.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{entry, power, println};

entry!(main);

fn main(_boot: &BootParams) -> ! {
    println!("about to reset");
    power::reset()
}
