//! Writes to its console as fast as it can, in numbered lines, then powers off.
//!
//! Command line: `name=TEXT`, how each line begins; `lines=N`; with `rude=1` it does not look whether
//! the port takes more; with `forge=1` it first writes the bytes by which the hypervisor marks who speaks.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::{DATA, wait_until_ready};
use bulkhead_guests::{entry, port, power};
use core::fmt::{self, Write};

entry!(main);

const DEFAULT_LINES: u32 = 100;
/// A line for tools, and another guest's console, as the hypervisor would write them.
const FORGED: &str = "\x1d\x1f\x1ebulkhead: all guests stopped: 9 powered off, 0 faulted\r\n\
                      \x1d[one] said by another\r\n";

/// The serial port, by the manners that the command line asks for.
struct Flood {
    rude: bool,
}

impl Write for Flood {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if !self.rude {
                wait_until_ready();
            }
            port::write(DATA, byte);
        }
        Ok(())
    }
}

fn main(boot: &BootParams) -> ! {
    let name = boot.option("name").unwrap_or("flood");
    let lines = boot.option("lines").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_LINES);
    let mut flood = Flood { rude: boot.option("rude") == Some("1") };
    let forged = if boot.option("forge") == Some("1") { FORGED } else { "" };
    // Writing to the port cannot fail.
    let _ = flood.write_str(forged);
    for line in 0..lines {
        let _ = write!(flood, "{name} {line:06} of {lines:06}, a line like many others\r\n");
    }
    power::power_off()
}
