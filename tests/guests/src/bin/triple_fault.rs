//! A guest that shuts its processor down: an exception with nowhere to go.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{console, cpu, entry, println};

entry!(main);

fn main(_boot: &BootParams) -> ! {
    println!("about to triple-fault");
    console::flush();
    cpu::triple_fault()
}
