//! The hypervisor's log, and the physical serial port that it shares with the
//! guests' consoles.
//!
//! The log is written in whole lines: where a guest's output stands in the
//! middle of a line, the log begins a new one.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{IER, LSR};
use uart_16550::{Config, Uart16550};

/// COM1, where PCs have it.
const COM1: u16 = 0x3F8;

/// Begins each line that tools look for. Guests cannot send it: it is taken out of
/// what they write, so that none can speak in the hypervisor's name.
const MARK: u8 = 0x1E;
/// What guests' output has in its place.
const MARK_REPLACED: u8 = b'?';

/// How often a byte is offered to the port: a tenth of a second at the least, longer than any baud
/// rate takes for one.
const SEND_TRIES: u32 = 100_000;
/// How often a panicking core tries to get the lock: some seconds, far longer than it is held by a
/// core that lives.
const PANIC_TRIES: u32 = 100_000_000;

/// Something besides the serial port that shows the log: a screen.
pub type Screen = dyn Write + Send;

struct Output {
    serial: Option<Uart16550<PioBackend>>,
    screen: Option<&'static mut Screen>,
    at_line_start: bool,
}

static OUTPUT: Mutex<Output> =
    Mutex::new(Output { serial: None, screen: None, at_line_start: true });
/// Ticks of the TSC when the log began, and in a microsecond once that is known.
static EPOCH: AtomicU64 = AtomicU64::new(0);
static TICKS_PER_MICROSECOND: AtomicU64 = AtomicU64::new(0);

impl Output {
    fn serial_bytes(&mut self, bytes: &[u8]) {
        let Some(serial) = &mut self.serial else { return };
        for &byte in bytes {
            let sent = (0..SEND_TRIES).any(|_| {
                let sent = serial.try_send_byte(byte).is_ok();
                if !sent {
                    crate::arch::cpu::pause();
                }
                sent
            });
            if !sent {
                // Not a port that works: it shall not slow everything down.
                self.serial = None;
                return;
            }
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>, marked: bool) {
        if !self.at_line_start {
            self.serial_bytes(b"\r\n");
        }
        if marked {
            self.serial_bytes(&[MARK]);
        }
        // Writing into these cannot fail.
        let _ = write!(self, "{line}");
        self.serial_bytes(b"\r\n");
        if let Some(screen) = &mut self.screen {
            let _ = screen.write_fmt(line);
            let _ = screen.write_char('\n');
        }
        self.at_line_start = true;
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.serial_bytes(b"\r");
            }
            self.serial_bytes(&[byte]);
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
        let per_microsecond = TICKS_PER_MICROSECOND.load(Ordering::Relaxed);
        let ticks = crate::arch::cpu::rdtsc().wrapping_sub(EPOCH.load(Ordering::Relaxed));
        let micros = ticks.checked_div(per_microsecond).unwrap_or(0);
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

/// Starts the log on the serial port, where there is one.
pub fn start() {
    EPOCH.store(crate::arch::cpu::rdtsc(), Ordering::Relaxed);
    // SAFETY: COM1 is the log's alone; its eight ports are inside the I/O space.
    if let Ok(mut port) = unsafe { Uart16550::new_port(COM1) }
        && port.init(Config::default()).is_ok()
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

/// Writes a line as it is, without a time before it: those that tools look for.
pub fn line(line: fmt::Arguments<'_>) {
    OUTPUT.lock().line(line, true);
}

/// Writes a line from a panic: takes the lock by force if its holder does not let go.
pub fn panic_line(line: fmt::Arguments<'_>) {
    for _ in 0..PANIC_TRIES {
        if let Some(mut output) = OUTPUT.try_lock() {
            output.line(line, true);
            return;
        }
        crate::arch::cpu::pause();
    }
    // SAFETY: whoever holds the lock has not let go for longer than any line takes: it is this
    // core, or one that has died. Mixed-up output is better than none.
    unsafe { OUTPUT.force_unlock() };
    OUTPUT.lock().line(line, true);
}

/// Writes guests' console output as it is.
pub fn console_bytes(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte == MARK) {
        *byte = MARK_REPLACED;
    }
    let mut output = OUTPUT.lock();
    output.serial_bytes(bytes);
    if let Some(&last) = bytes.last() {
        output.at_line_start = last == b'\n';
    }
}

/// Waits until the serial port has sent everything.
pub fn flush() {
    if let Some(serial) = &mut OUTPUT.lock().serial {
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

/// Lets the serial port interrupt when something arrives.
pub fn enable_input_interrupt() -> bool {
    match &mut OUTPUT.lock().serial {
        Some(serial) => {
            serial.enable_interrupts(IER::DATA_READY);
            true
        }
        None => false,
    }
}
