//! What a defect of a guest's ends in.

use crate::{power, println};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => println!("guest panic: {} at {place}", info.message()),
        None => println!("guest panic: {}", info.message()),
    }
    power::power_off()
}
