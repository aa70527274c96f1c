//! The port of the control protocol: COM2 where the machine has it, otherwise COM1, between the consoles' bytes.
//!
//! Nothing here waits for the port: it gets at most what its FIFO takes, and the rest waits in the [`Link`]. Used by
//! the service core alone.

use super::link::{Line, Link};
use super::log::{self as console, serial_config};
use bulkhead_control::Encoded;
use core::fmt;
use log::info;
use spin::Mutex;
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{IER, LSR};

/// COM2, where PCs have it.
const COM2: u16 = 0x2F8;
/// Bytes that are read or written at a time: a 16550's FIFO.
const PIECE: usize = 16;
/// How often the end of the machine looks whether the port takes more: as long as the log waits for a byte.
const LAST_TRIES: u32 = 100_000;

struct Port {
    link: Link,
    /// COM2. Without it, bytes come and go with those of the consoles.
    serial: Option<Uart16550<PioBackend>>,
    /// COM2 interrupts; without that it is polled.
    interrupts: bool,
}

static PORT: Mutex<Option<Port>> = Mutex::new(None);

/// Looks for COM2, and begins to listen.
pub fn start() {
    // SAFETY: COM2 is the control protocol's alone; its eight ports are inside the I/O space.
    let serial = unsafe { Uart16550::new_port(COM2) }.ok();
    let serial = serial.and_then(|mut port| port.init(serial_config()).is_ok().then_some(port));
    info!("control protocol on {}", if serial.is_some() { "COM2" } else { "COM1" });
    *PORT.lock() = Some(Port { link: Link::new(), serial, interrupts: false });
}

fn with<T: Default>(act: impl FnOnce(&mut Port) -> T) -> T {
    PORT.lock().as_mut().map(act).unwrap_or_default()
}

/// Lets COM2 interrupt. Says whether it is there.
pub fn enable_interrupts() -> bool {
    with(|port| {
        let Some(serial) = &mut port.serial else { return false };
        serial.enable_interrupts(IER::DATA_READY | IER::THR_EMPTY);
        port.interrupts = true;
        true
    })
}

/// Whether COM2 is the port.
pub fn is_com2() -> bool {
    with(|port| port.serial.is_some())
}

/// Whether COM2 has a reason to interrupt that was not looked at yet.
pub fn interrupt_pending() -> bool {
    with(|port| {
        let serial = port.serial.as_mut().filter(|_| port.interrupts);
        serial.is_some_and(|serial| serial.isr().has_pending_interrupt())
    })
}

/// Takes what has come at COM2, and gives it what it takes at once. Says whether there is more to do before the service
/// core may sleep.
pub fn exchange() -> bool {
    with(Port::exchange)
}

impl Port {
    fn exchange(&mut self) -> bool {
        let Some(serial) = &mut self.serial else { return false };
        let mut any = false;
        let mut bytes = [0; PIECE];
        loop {
            let came = serial.receive_bytes(&mut bytes);
            bytes[..came].iter().for_each(|&byte| self.link.receive(byte));
            let taken = serial.send_bytes(self.link.waiting());
            self.link.sent(taken);
            if came + taken == 0 {
                return any || (!self.interrupts && !self.link.is_idle());
            }
            any = true;
        }
    }
}

/// A frame begins between what is typed. Where the protocol has COM2, there are none.
pub fn begin_shared() {
    with(|port| {
        if port.serial.is_none() {
            port.link.begin();
        }
    });
}

/// Takes a byte of a frame that has come with what is typed.
pub fn receive_shared(byte: u8) {
    with(|port| {
        if port.serial.is_none() {
            port.link.receive(byte);
        }
    });
}

/// Whether frames wait to go between the consoles' bytes.
pub fn has_shared() -> bool {
    with(|port| port.serial.is_none() && !port.link.is_idle())
}

/// The next of those; none where none waits.
pub fn take_shared() -> Encoded {
    with(|port| if port.serial.is_none() { port.link.take_frame() } else { Encoded::new() })
}

/// Whether all that was said is on its way, so that more may be.
pub fn is_idle() -> bool {
    with(|port| port.link.is_idle())
}

/// The request to be answered next.
pub fn request() -> Option<Line> {
    with(|port| port.link.request())
}

/// Greets a client that has come. Says whether one has.
pub fn greet() -> bool {
    with(|port| port.link.greet())
}

/// Says a line of the answer.
pub fn answer(line: fmt::Arguments<'_>) {
    with(|port| port.link.answer(line));
}

/// Says why the command is refused.
pub fn refuse(why: fmt::Arguments<'_>) {
    with(|port| port.link.refuse(why));
}

/// Ends the answer.
pub fn end() {
    with(|port| port.link.end());
}

/// Frames that could not be used.
pub fn unusable_frames() -> u64 {
    with(|port| port.link.unusable_frames())
}

/// At the machine's end: waits until what was said has been sent, as long as the port takes it.
pub fn flush() {
    while has_shared() {
        console::flush();
        console::say_frame(&take_shared());
    }
    console::flush();
    with(|port| {
        let Port { link, serial: Some(serial), .. } = port else { return };
        while !link.waiting().is_empty() {
            let taken = (0..LAST_TRIES).find_map(|_| {
                crate::arch::cpu::pause();
                Some(serial.send_bytes(link.waiting())).filter(|&taken| taken > 0)
            });
            // Not a port that works.
            let Some(taken) = taken else { return };
            link.sent(taken);
        }
        for _ in 0..LAST_TRIES {
            if serial.lsr().contains(LSR::TRANSMITTER_EMPTY) {
                break;
            }
            crate::arch::cpu::pause();
        }
    });
}
