//! The smallest guest: says where it is and powers off.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{entry, power, println};

entry!(main);

fn main(boot: &BootParams) -> ! {
    const KIB: u64 = 1 << 10;
    println!("hello from a hand-written guest");
    println!("command line: {}", boot.command_line());
    println!("RAM: {} KiB", boot.ram_size() / KIB);
    power::power_off()
}
