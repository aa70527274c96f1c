//! Says what is typed to it, a line at a time; powers off at the line `quit`.
//!
//! Command line: `name=TEXT`, what it calls itself; `button=obeyed`, it powers off when its power button is pressed, or
//! `button=heard`, it only says so; otherwise it does not listen. It sleeps while nothing is typed, and looks at
//! its timer's interrupts: a port that is polled would cost exits.
#![no_std]
#![no_main]

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{apic, console, cpu, entry, interrupts, ioapic, port, power, println};

entry!(main);

const TIMER_VECTOR: u8 = 0x40;
const BUTTON_VECTOR: u8 = 0x41;
/// Ticks of the timer between two looks.
const PERIOD: u32 = 50_000;
/// Most bytes of a line; what is longer is said in pieces.
const LONGEST: usize = 256;

fn main(boot: &BootParams) -> ! {
    let name = boot.option("name").unwrap_or("echo");
    apic::enable();
    apic::start_periodic(TIMER_VECTOR, PERIOD);
    let button = boot.option("button");
    if button.is_some() {
        interrupts::ignore(BUTTON_VECTOR);
        ioapic::route(ioapic::BUTTON_PIN, 0, BUTTON_VECTOR.into());
    }
    println!("{name}: ready");
    let mut presses = 0;
    let mut line: heapless::Vec<u8, LONGEST> = heapless::Vec::new();
    loop {
        while let Some(byte) = received() {
            let ended = matches!(byte, b'\r' | b'\n');
            if !ended && line.push(byte).is_ok() {
                continue;
            }
            println!("{name}: got \"{}\"", line.escape_ascii());
            if line == b"quit" {
                power::power_off();
            }
            line.clear();
        }
        let pressed = interrupts::count(BUTTON_VECTOR);
        if pressed > presses {
            presses = pressed;
            println!("{name}: its button was pressed");
            if button == Some("obeyed") {
                power::power_off();
            }
        }
        cpu::halt();
    }
}

fn received() -> Option<u8> {
    let ready = port::read::<u8>(console::LINE_STATUS) & console::RECEIVED != 0;
    ready.then(|| port::read(console::DATA))
}
