//! A 16550A serial port, as a PC has it at I/O port 0x3f8.
//!
//! The source is National Semiconductor's PC16550D data sheet (June 1995); "DS" and a
//! section number in a comment means it. There is no line behind this one, so some things are
//! simpler than in the chip, and a driver cannot tell:
//!
//! * A byte is sent the moment it is written: it goes to an output queue that the service
//!   core empties. Divisor, word length, parity and break are stored and change nothing.
//! * Input waits in a queue of its own until the guest reads it, so no byte from outside
//!   is ever overrun, and clearing the receiver FIFO does not lose what was typed ahead.
//! * The character time-out (DS 8.11) has always passed: input below the trigger level is
//!   reported as timed out at once.
//!
//! **Back-pressure.** `LSR.THRE` says that a driver may load a whole transmitter FIFO without
//! asking again, so it is set while the output queue has room for that, and a driver that looks
//! at it slows down to the speed at which output is taken. A byte written to a full queue is
//! dropped and counted.
//!
//! **Interrupts.** On a PC the INTR pin reaches the interrupt controller through a buffer that
//! the OUT2 pin enables. The virtual IOAPIC is edge-triggered, so what matters is every rise of
//! that line: [`Uart::take_interrupt_edge`] reports it. A byte written while the transmitter's
//! interrupt is pending makes the line fall and rise again, as DS table IV asks ("writing into
//! the THR" resets the condition, and the THR is empty again at once). A driver that returns from its
//! interrupt when IIR says that nothing is pending therefore never waits for an edge that was.

use super::queue::ByteQueue;
use bitflags::bitflags;

/// First I/O port of COM1.
pub const COM1_PORT: u16 = 0x3f8;
/// Offset of the line status register's port.
pub const LINE_STATUS: u16 = offset::LINE_STATUS as u16;
/// I/O ports that the chip occupies.
pub const PORT_COUNT: u16 = 8;
/// The ISA interrupt of COM1, which is the IOAPIC pin of the same number.
pub const COM1_IRQ: u8 = 4;
/// Bytes that a driver may write after one look at `LSR.THRE` (DS 8.11).
pub const FIFO_DEPTH: usize = 16;
/// Bytes of output that wait for the service core before the guest is slowed down.
pub const OUTPUT_CAPACITY: usize = 16 << 10;
/// Bytes of input that wait for the guest.
pub const INPUT_CAPACITY: usize = 4 << 10;

/// The chip's registers by offset from its first port (DS table II).
mod offset {
    /// Receiver buffer when read, transmitter holding when written, divisor's low byte under DLAB.
    pub const DATA: u8 = 0;
    /// Interrupt enable; divisor's high byte under DLAB.
    pub const INTERRUPT_ENABLE: u8 = 1;
    /// Interrupt identification when read, FIFO control when written.
    pub const IDENTIFICATION: u8 = 2;
    pub const LINE_CONTROL: u8 = 3;
    pub const MODEM_CONTROL: u8 = 4;
    pub const LINE_STATUS: u8 = 5;
    pub const MODEM_STATUS: u8 = 6;
    pub const SCRATCH: u8 = 7;
}

bitflags! {
    /// Interrupt enable register (DS 8.7). Bits 4 to 7 are always 0.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct InterruptEnable: u8 {
        const RECEIVED_DATA = 1 << 0;
        const TRANSMITTER_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// FIFO control register (DS 8.5); bits 6 and 7 are the receiver's trigger level.
    #[derive(Clone, Copy)]
    struct FifoControl: u8 {
        const ENABLE = 1 << 0;
        const RESET_RECEIVER = 1 << 1;
        const RESET_TRANSMITTER = 1 << 2;
    }

    /// Modem control register (DS 8.8). Bits 5 to 7 are always 0.
    #[derive(Clone, Copy)]
    struct ModemControl: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOPBACK = 1 << 4;
    }

    /// Line status register (DS 8.4), the bits that this model sets.
    #[derive(Clone, Copy)]
    struct LineStatus: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const HOLDING_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
    }

    /// Modem status register (DS 8.9): lines in the upper half, their changes in the lower.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct ModemStatus: u8 {
        const DELTA_CTS = 1 << 0;
        const DELTA_DSR = 1 << 1;
        const TRAILING_RI = 1 << 2;
        const DELTA_DCD = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
    }
}

impl ModemStatus {
    const LINES: Self = Self::CTS.union(Self::DSR).union(Self::RI).union(Self::DCD);
    /// What a null-modem cable to a terminal that is switched on shows.
    const CONNECTED: Self = Self::CTS.union(Self::DSR).union(Self::DCD);
}

/// `LCR` bit 7: offsets 0 and 1 are the divisor latch (DS 8.1).
const DIVISOR_LATCH_ACCESS: u8 = 1 << 7;
/// `FCR` bits 6 and 7 (DS 8.5).
const TRIGGER_SHIFT: u8 = 6;
/// Bytes in the receiver FIFO for each value of the trigger bits (DS 8.5).
const TRIGGER_LEVELS: [usize; 4] = [1, 4, 8, 14];
/// `IIR` bits 6 and 7: the FIFOs are enabled (DS 8.6).
const FIFOS_ENABLED: u8 = 0b1100_0000;
/// The divisor before a driver sets one: 115,200 baud. Not 0, by which drivers divide.
const DEFAULT_DIVISOR: u16 = 1;

/// What `IIR` bits 0 to 3 say (DS table IV).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Interrupt {
    ModemStatus = 0b0000,
    None = 0b0001,
    TransmitterEmpty = 0b0010,
    ReceivedData = 0b0100,
    LineStatus = 0b0110,
    CharacterTimeout = 0b1100,
}

/// One serial port.
pub struct Uart {
    /// Bytes that came back in loopback mode: the receiver FIFO proper.
    receiver: ByteQueue,
    input: ByteQueue,
    output: ByteQueue,
    interrupt_enable: InterruptEnable,
    fifos_enabled: bool,
    trigger_level: usize,
    line_control: u8,
    modem_control: ModemControl,
    /// Lines as last seen, with the changes since the register was read.
    modem_status: ModemStatus,
    overrun: bool,
    scratch: u8,
    divisor: u16,
    /// The transmitter became empty and nobody was told yet.
    transmitter_pending: bool,
    /// `LSR.THRE` after the last operation.
    was_ready: bool,
    /// The interrupt line after the last operation.
    line: bool,
    edge: bool,
    dropped: u64,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// A port after master reset (DS table I), connected to a terminal.
    pub fn new() -> Self {
        Self {
            receiver: ByteQueue::new(FIFO_DEPTH),
            input: ByteQueue::new(INPUT_CAPACITY),
            output: ByteQueue::new(OUTPUT_CAPACITY),
            interrupt_enable: InterruptEnable::empty(),
            fifos_enabled: false,
            trigger_level: TRIGGER_LEVELS[0],
            line_control: 0,
            modem_control: ModemControl::empty(),
            modem_status: ModemStatus::CONNECTED,
            overrun: false,
            scratch: 0,
            divisor: DEFAULT_DIVISOR,
            transmitter_pending: false,
            was_ready: true,
            line: false,
            edge: false,
            dropped: 0,
        }
    }

    /// Reads the line status, which is what drivers read most, when that changes nothing.
    #[inline(always)]
    pub fn quick_line_status(&mut self) -> Option<u8> {
        (!self.overrun).then(|| self.line_status())
    }

    /// Reads the register at `offset` (0 to 7) from the first port; beyond, all ones.
    pub fn read(&mut self, offset: u8) -> u8 {
        let value = match offset {
            offset::DATA if self.divisor_latched() => self.divisor.to_le_bytes()[0],
            offset::DATA => self.receive(),
            offset::INTERRUPT_ENABLE if self.divisor_latched() => self.divisor.to_le_bytes()[1],
            offset::INTERRUPT_ENABLE => self.interrupt_enable.bits(),
            offset::IDENTIFICATION => self.identify(),
            offset::LINE_CONTROL => self.line_control,
            offset::MODEM_CONTROL => self.modem_control.bits(),
            offset::LINE_STATUS => self.line_status(),
            offset::MODEM_STATUS => {
                let status = self.modem_status;
                self.modem_status = status & ModemStatus::LINES;
                status.bits()
            }
            offset::SCRATCH => self.scratch,
            _ => u8::MAX,
        };
        self.settle();
        value
    }

    /// Writes the register at `offset` (0 to 7) from the first port; beyond, nothing happens.
    pub fn write(&mut self, offset: u8, value: u8) {
        match offset {
            offset::DATA if self.divisor_latched() => {
                self.divisor = u16::from_le_bytes([value, self.divisor.to_le_bytes()[1]]);
            }
            offset::DATA => self.transmit(value),
            offset::INTERRUPT_ENABLE if self.divisor_latched() => {
                self.divisor = u16::from_le_bytes([self.divisor.to_le_bytes()[0], value]);
            }
            offset::INTERRUPT_ENABLE => {
                let enable = InterruptEnable::from_bits_truncate(value);
                let newly = enable.difference(self.interrupt_enable);
                self.interrupt_enable = enable;
                // Enabling it with the THR empty interrupts at once, however often the condition
                // was acknowledged before: Linux's `UART_BUG_THRE` and `UART_BUG_TXEN` tests
                // look for chips that fail to.
                if newly.contains(InterruptEnable::TRANSMITTER_EMPTY) && self.ready() {
                    self.transmitter_pending = true;
                }
            }
            offset::IDENTIFICATION => self.control_fifos(value),
            offset::LINE_CONTROL => self.line_control = value,
            offset::MODEM_CONTROL => {
                self.modem_control = ModemControl::from_bits_truncate(value);
                self.update_modem_lines();
            }
            offset::SCRATCH => self.scratch = value,
            // The status registers: written only in factory tests (DS 8.4).
            _ => {}
        }
        self.settle();
    }

    /// Input for the guest; says how many of `bytes` there was room for.
    pub fn push_input(&mut self, bytes: &[u8]) -> usize {
        let taken = self.input.push_slice(bytes);
        self.settle();
        taken
    }

    /// Moves the oldest output to `buffer`, up to the end of its first line, and says how many bytes.
    pub fn take_output(&mut self, buffer: &mut [u8]) -> usize {
        let taken = self.output.pop_line(buffer);
        self.settle();
        taken
    }

    /// Whether there is output to take.
    pub fn output_pending(&self) -> bool {
        !self.output.is_empty()
    }

    /// Bytes that were written to a full output queue, and are lost.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the interrupt line rose since the last call.
    pub fn take_interrupt_edge(&mut self) -> bool {
        core::mem::take(&mut self.edge)
    }

    fn divisor_latched(&self) -> bool {
        self.line_control & DIVISOR_LATCH_ACCESS != 0
    }

    fn loopback(&self) -> bool {
        self.modem_control.contains(ModemControl::LOOPBACK)
    }

    /// `LSR.THRE`: a whole FIFO may be written.
    fn ready(&self) -> bool {
        self.loopback() || self.output.room() >= FIFO_DEPTH
    }

    /// Bytes that the guest can read now. In loopback the serial input is cut off (DS 8.8).
    fn received(&self) -> usize {
        let input = if self.loopback() { 0 } else { self.input.len() };
        // Both are limited.
        self.receiver.len().wrapping_add(input)
    }

    fn receive(&mut self) -> u8 {
        let byte = match self.receiver.pop() {
            None if !self.loopback() => self.input.pop(),
            received => received,
        };
        byte.unwrap_or(0)
    }

    fn transmit(&mut self, byte: u8) {
        self.transmitter_pending = false;
        // The line is seen low in between, so that the byte's completion is a new edge.
        self.update_line();
        if self.loopback() {
            // A full FIFO keeps what it has; without one the byte before is destroyed (DS 8.4, bit 1).
            let depth = if self.fifos_enabled { FIFO_DEPTH } else { 1 };
            self.overrun |= self.receiver.len() >= depth;
            if !self.fifos_enabled {
                self.receiver.clear();
            }
            if self.receiver.len() < depth {
                self.receiver.push(byte);
            }
        } else if !self.output.push(byte) {
            self.dropped = self.dropped.saturating_add(1);
        }
        self.transmitter_pending = self.ready();
    }

    fn control_fifos(&mut self, value: u8) {
        let control = FifoControl::from_bits_truncate(value);
        let enable = control.contains(FifoControl::ENABLE);
        // Changing the mode clears both FIFOs; the other bits count only while it is on (DS 8.5).
        // The transmitter's is always empty: what was written is on its way.
        if enable != self.fifos_enabled || (enable && control.contains(FifoControl::RESET_RECEIVER))
        {
            self.receiver.clear();
        }
        self.fifos_enabled = enable;
        let [lowest, low, high, highest] = TRIGGER_LEVELS;
        self.trigger_level = match value >> TRIGGER_SHIFT {
            1 if enable => low,
            2 if enable => high,
            3 if enable => highest,
            _ => lowest,
        };
    }

    /// The pending interrupt of the highest priority (DS table IV).
    fn pending(&self) -> Interrupt {
        let enabled = |interrupt| self.interrupt_enable.contains(interrupt);
        if enabled(InterruptEnable::LINE_STATUS) && self.overrun {
            Interrupt::LineStatus
        } else if enabled(InterruptEnable::RECEIVED_DATA) && self.received() >= self.trigger_level {
            Interrupt::ReceivedData
        } else if enabled(InterruptEnable::RECEIVED_DATA) && self.received() > 0 {
            Interrupt::CharacterTimeout
        } else if enabled(InterruptEnable::TRANSMITTER_EMPTY) && self.transmitter_pending {
            Interrupt::TransmitterEmpty
        } else if enabled(InterruptEnable::MODEM_STATUS)
            && !self.modem_status.difference(ModemStatus::LINES).is_empty()
        {
            Interrupt::ModemStatus
        } else {
            Interrupt::None
        }
    }

    /// Reads IIR, which acknowledges the transmitter's interrupt when it is the one shown (DS table IV).
    fn identify(&mut self) -> u8 {
        let interrupt = self.pending();
        if interrupt == Interrupt::TransmitterEmpty {
            self.transmitter_pending = false;
        }
        let fifos = if self.fifos_enabled { FIFOS_ENABLED } else { 0 };
        fifos | interrupt as u8
    }

    /// Reads LSR, which clears the error bits (DS 8.4).
    #[inline(always)]
    fn line_status(&mut self) -> u8 {
        let mut status = LineStatus::empty();
        status.set(LineStatus::DATA_READY, self.received() > 0);
        status.set(LineStatus::OVERRUN, core::mem::take(&mut self.overrun));
        // There is no shift register that could still be busy.
        status.set(LineStatus::HOLDING_EMPTY | LineStatus::TRANSMITTER_EMPTY, self.ready());
        status.bits()
    }

    /// Follows the modem lines, which in loopback are the modem control outputs (DS 8.8).
    fn update_modem_lines(&mut self) {
        let lines = if self.loopback() {
            let mut lines = ModemStatus::empty();
            lines.set(ModemStatus::CTS, self.modem_control.contains(ModemControl::RTS));
            lines.set(ModemStatus::DSR, self.modem_control.contains(ModemControl::DTR));
            lines.set(ModemStatus::RI, self.modem_control.contains(ModemControl::OUT1));
            lines.set(ModemStatus::DCD, self.modem_control.contains(ModemControl::OUT2));
            lines
        } else {
            ModemStatus::CONNECTED
        };
        let before = self.modem_status & ModemStatus::LINES;
        let mut changes = self.modem_status.difference(ModemStatus::LINES);
        let changed = before ^ lines;
        let watched = [
            (ModemStatus::DELTA_CTS, changed.contains(ModemStatus::CTS)),
            (ModemStatus::DELTA_DSR, changed.contains(ModemStatus::DSR)),
            (ModemStatus::DELTA_DCD, changed.contains(ModemStatus::DCD)),
            // RI reports only its end.
            (ModemStatus::TRAILING_RI, before.difference(lines).contains(ModemStatus::RI)),
        ];
        for (change, seen) in watched {
            changes |= if seen { change } else { ModemStatus::empty() };
        }
        self.modem_status = lines | changes;
    }

    /// Brings the derived state up to date after an operation.
    fn settle(&mut self) {
        let ready = self.ready();
        if ready != self.was_ready {
            // Room again: the THR "becomes empty", which is an interrupt; or full: there is none.
            self.transmitter_pending = ready;
            self.was_ready = ready;
        }
        self.update_line();
    }

    fn update_line(&mut self) {
        // In loopback the OUT2 pin is inactive whatever its bit says (DS 8.8).
        let out2 = self.modem_control.contains(ModemControl::OUT2) && !self.loopback();
        let line = out2 && self.pending() != Interrupt::None;
        self.edge |= line && !self.line;
        self.line = line;
    }
}

#[cfg(test)]
mod tests;
