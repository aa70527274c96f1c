//! The hypervisor's log, and the physical serial port that it shares with the guests' consoles.
//!
//! Until the service core serves, a line is on its way when the call returns. After that lines are
//! queued, and the service core gives the port what it takes, the log first. Lines of a panic are
//! written at once at any time.

use super::kept::{Kept, LONGEST};
use super::wire::{self, MARK, Speaker, Wire};
use crate::device::queue::ByteQueue;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// COM1, where PCs have it.
const COM1: u16 = 0x3F8;

/// How often a byte is offered to the port: a tenth of a second at the least, longer than any baud
/// rate takes for one.
const SEND_TRIES: u32 = 100_000;
/// How often a panicking core tries to get the lock: some seconds, longer than it is held by a
/// core that lives.
const PANIC_TRIES: u32 = 100_000_000;
/// Bytes of the log that wait for the port before whoever writes more has to wait too: a second
/// at 115,200 baud.
const QUEUE: usize = 12 << 10;

/// Something besides the serial port that shows the log: a screen.
pub type Screen = dyn Write + Send;

struct Output {
    serial: Option<Uart16550<PioBackend>>,
    screen: Option<&'static mut Screen>,
    wire: Wire,
    /// What of the log is not on the wire yet, once the service core serves.
    queue: Option<ByteQueue>,
    kept: Kept,
}

static OUTPUT: Mutex<Output> = Mutex::new(Output {
    serial: None,
    screen: None,
    wire: Wire::new(),
    queue: None,
    kept: Kept::new(),
});
/// Ticks of the TSC when the log began, and in a microsecond once that is known.
static EPOCH: AtomicU64 = AtomicU64::new(0);
static TICKS_PER_MICROSECOND: AtomicU64 = AtomicU64::new(0);

impl Output {
    /// Gives the port a byte, when it takes it.
    fn send_byte(&mut self, byte: u8) {
        let Some(serial) = &mut self.serial else { return };
        for _ in 0..SEND_TRIES {
            if serial.try_send_byte(byte).is_ok() {
                return;
            }
            crate::arch::cpu::pause();
        }
        // Not a port that works: it shall not slow everything down.
        self.serial = None;
    }

    /// Gives the port all that is on the wire.
    fn send_wire(&mut self) {
        while let Some(&byte) = self.wire.waiting().first() {
            self.send_byte(byte);
            self.wire.sent(1);
        }
    }

    /// Gives the port all that is on the wire and in the queue.
    fn send_all(&mut self) {
        self.send_wire();
        while self.queue_to_wire() {
            self.send_wire();
        }
    }

    /// Puts the log's oldest bytes on the wire, up to the end of a line. Says whether there were any.
    fn queue_to_wire(&mut self) -> bool {
        let Some(queue) = &mut self.queue else { return false };
        let mut piece = [0; wire::PIECE];
        let len = queue.pop_line(&mut piece[..self.wire.room()]);
        self.wire.say(Speaker::Log, &piece[..len]);
        len > 0
    }

    /// Writes a byte of the log.
    fn put(&mut self, byte: u8) {
        self.kept.push(byte);
        self.put_unkept(byte);
    }

    fn put_unkept(&mut self, byte: u8) {
        if let Some(queue) = &mut self.queue {
            if queue.push(byte) {
                return;
            }
            // Rather than losing a line, whoever writes so much waits for the port.
            self.send_wire();
            self.queue_to_wire();
            if let Some(queue) = &mut self.queue {
                queue.push(byte);
            }
        } else {
            self.wire.say(Speaker::Log, &[byte]);
            self.send_wire();
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>, marked: bool) {
        if marked {
            self.put(MARK);
        }
        // Writing into these cannot fail.
        let _ = writeln!(self, "{line}");
        if let Some(screen) = &mut self.screen {
            let _ = screen.write_fmt(line);
            let _ = screen.write_char('\n');
        }
    }

    /// Writes a line from a panic.
    fn panic_line(&mut self, line: fmt::Arguments<'_>) {
        self.line(line, true);
        self.send_all();
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let micros = micros();
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let mark = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        OUTPUT.lock().line(format_args!("[{seconds:4}.{rest:06}] {mark}{}", record.args()), false);
    }

    fn flush(&self) {}
}

/// 115,200 baud, 8 bits, no parity, one stop bit. An interrupt for each byte received leaves the
/// longest time until one is lost.
pub fn serial_config() -> Config {
    Config {
        baud_rate: BaudRate::Baud115200,
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::default()
    }
}

/// Starts the log on the serial port, where there is one.
pub fn start() {
    EPOCH.store(crate::arch::cpu::rdtsc(), Ordering::Relaxed);
    // SAFETY: COM1 is the log's alone; its eight ports are inside the I/O space.
    if let Ok(mut port) = unsafe { Uart16550::new_port(COM1) }
        && port.init(serial_config()).is_ok()
    {
        OUTPUT.lock().serial = Some(port);
    }
    // Only the first call succeeds, and there is only one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}

/// Shows the log on a screen too.
pub fn add_screen(screen: &'static mut Screen) {
    OUTPUT.lock().screen = Some(screen);
}

/// Lets the log's times be seconds.
pub fn set_rate(tsc_hz: u64) {
    TICKS_PER_MICROSECOND.store(tsc_hz / 1_000_000, Ordering::Relaxed);
}

/// Shows what an operator types at the port. It is no line of the log.
pub fn echo(text: &str) {
    let mut output = OUTPUT.lock();
    for byte in text.bytes() {
        if byte == b'\n' {
            output.put_unkept(b'\r');
        }
        output.put_unkept(byte);
    }
}

/// How many bytes the log has had in all.
pub fn written() -> u64 {
    OUTPUT.lock().kept.written()
}

/// The first line that is kept of the log from the byte number `from` on: see [`Kept::line`].
pub fn kept_line(from: u64, into: &mut [u8; LONGEST]) -> Option<(usize, u64)> {
    OUTPUT.lock().kept.line(from, into)
}

/// Microseconds since the log began; 0 until the TSC's rate is known.
pub fn micros() -> u64 {
    let per_microsecond = TICKS_PER_MICROSECOND.load(Ordering::Relaxed);
    let ticks = crate::arch::cpu::rdtsc().wrapping_sub(EPOCH.load(Ordering::Relaxed));
    ticks.checked_div(per_microsecond).unwrap_or(0)
}

/// Lets the log be queued from now on: the caller will call [`send`] again and again.
pub fn queue() {
    OUTPUT.lock().queue = Some(ByteQueue::new(QUEUE));
}

/// Writes a line as it is, without a time before it: those that tools look for.
pub fn line(line: fmt::Arguments<'_>) {
    OUTPUT.lock().line(line, true);
}

/// Writes a line from a panic, and what was queued before it: takes the lock by force if its holder
/// does not let go.
pub fn panic_line(line: fmt::Arguments<'_>) {
    for _ in 0..PANIC_TRIES {
        if let Some(mut output) = OUTPUT.try_lock() {
            output.panic_line(line);
            return;
        }
        crate::arch::cpu::pause();
    }
    // SAFETY: whoever holds the lock has not let go for longer than any line takes: it is this
    // core, or one that has died. Mixed-up output is better than none.
    unsafe { OUTPUT.force_unlock() };
    OUTPUT.lock().panic_line(line);
}

/// What the port takes now.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Bytes of one speaker, 1 to [`wire::PIECE`].
    pub room: usize,
    /// The log has something to say.
    pub log: bool,
}

/// Whether the port takes something now, and what. Without a port everything is taken, and lost.
pub fn offer() -> Option<Offer> {
    let mut output = OUTPUT.lock();
    let Output { serial, wire, queue, .. } = &mut *output;
    let ready = serial.as_mut().is_none_or(|serial| serial.ready_to_send().is_ok());
    let log = queue.as_ref().is_some_and(|queue| !queue.is_empty());
    (ready && wire.room() > 0).then_some(Offer { room: wire.room(), log })
}

/// Puts a line of the log on the wire, or a part of one.
pub fn say_log() {
    OUTPUT.lock().queue_to_wire();
}

/// Puts a guest's output on the wire: no more than [`offer`] has room for. Returns its cost in bytes.
pub fn say_guest(index: usize, name: &str, bytes: &[u8]) -> usize {
    OUTPUT.lock().wire.say(Speaker::Guest(index, name), bytes)
}

/// Puts a frame of the control protocol on the wire, where [`offer`] has room. Says whether it was taken.
pub fn say_frame(frame: &[u8]) -> bool {
    OUTPUT.lock().wire.frame(frame)
}

/// Gives the port what it takes at once of what is on the wire.
pub fn send() {
    let mut output = OUTPUT.lock();
    let Output { serial, wire, .. } = &mut *output;
    let taken = match serial {
        Some(serial) => serial.send_bytes(wire.waiting()),
        None => wire.waiting().len(),
    };
    wire.sent(taken);
}

/// Whether something is on the wire or in the queue.
pub fn unsent() -> bool {
    let output = OUTPUT.lock();
    let queued = output.queue.as_ref().is_some_and(|queue| !queue.is_empty());
    queued || !output.wire.waiting().is_empty()
}

/// Waits until the serial port has sent everything. Lines are written at once again after it.
pub fn flush() {
    let mut output = OUTPUT.lock();
    output.send_all();
    output.queue = None;
    if let Some(serial) = &mut output.serial {
        for _ in 0..1_000_000 {
            if serial.lsr().contains(LSR::TRANSMITTER_EMPTY) {
                break;
            }
            crate::arch::cpu::pause();
        }
    }
}

/// Takes what has arrived at the serial port.
pub fn take_input(into: &mut [u8]) -> usize {
    match &mut OUTPUT.lock().serial {
        Some(serial) => serial.receive_bytes(into),
        None => 0,
    }
}

/// Lets the serial port interrupt when something arrives, and when it can send more.
pub fn enable_interrupts() -> bool {
    match &mut OUTPUT.lock().serial {
        Some(serial) => {
            serial.enable_interrupts(IER::DATA_READY | IER::THR_EMPTY);
            true
        }
        None => false,
    }
}

/// Whether the serial port has a reason to interrupt; it is told so only once of a transmitter that
/// has become empty. The interrupt is edge-triggered: who sleeps on it makes sure first that there is none.
pub fn interrupt_pending() -> bool {
    let mut output = OUTPUT.lock();
    output.serial.as_mut().is_some_and(|serial| serial.isr().has_pending_interrupt())
}
