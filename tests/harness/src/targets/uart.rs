//! The serial port: any sequence of accesses, input and output.

use crate::input::Input;
use bulkhead::device::uart::{FIFO_DEPTH, INPUT_CAPACITY, OUTPUT_CAPACITY, Uart};
use std::collections::VecDeque;

const DATA: u8 = 0;
const INTERRUPT_ENABLE: u8 = 1;
const IDENTIFICATION: u8 = 2;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;
const SCRATCH: u8 = 7;

/// What a driver knows of the chip by the data sheet (PC16550D, 8).
#[derive(Default)]
struct Model {
    interrupt_enable: u8,
    fifos: bool,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: u16,
    overrun: bool,
    /// What came back in loopback mode, what came from outside, and what went there.
    receiver: VecDeque<u8>,
    input: VecDeque<u8>,
    output: VecDeque<u8>,
}

impl Model {
    fn latched(&self) -> bool {
        self.line_control & 0x80 != 0
    }

    fn loopback(&self) -> bool {
        self.modem_control & 0x10 != 0
    }

    fn interrupts(&self) -> bool {
        self.modem_control & 0x08 != 0 && !self.loopback()
    }

    fn has_data(&self) -> bool {
        !self.receiver.is_empty() || (!self.loopback() && !self.input.is_empty())
    }

    fn ready(&self) -> bool {
        self.loopback() || self.output.len() + FIFO_DEPTH <= OUTPUT_CAPACITY
    }

    fn write(&mut self, register: u8, value: u8) {
        match register {
            DATA if self.latched() => self.divisor = self.divisor & 0xFF00 | u16::from(value),
            INTERRUPT_ENABLE if self.latched() => {
                self.divisor = self.divisor & 0xFF | u16::from(value) << 8;
            }
            DATA if self.loopback() => {
                // A FIFO keeps what it has; without one the byte before is destroyed (8.4).
                let depth = if self.fifos { FIFO_DEPTH } else { 1 };
                self.overrun |= self.receiver.len() == depth;
                if !self.fifos {
                    self.receiver.clear();
                }
                if self.receiver.len() < depth {
                    self.receiver.push_back(value);
                }
            }
            DATA if self.output.len() < OUTPUT_CAPACITY => self.output.push_back(value),
            INTERRUPT_ENABLE => self.interrupt_enable = value & 0x0F,
            IDENTIFICATION => {
                let fifos = value & 1 != 0;
                if fifos != self.fifos || (fifos && value & 2 != 0) {
                    self.receiver.clear();
                }
                self.fifos = fifos;
            }
            LINE_CONTROL => self.line_control = value,
            MODEM_CONTROL => self.modem_control = value & 0x1F,
            SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    /// Compares what a register reads as with what it has to.
    fn read(&mut self, register: u8, value: u8) {
        match register {
            DATA if self.latched() => assert_eq!(value, self.divisor as u8),
            INTERRUPT_ENABLE if self.latched() => assert_eq!(value, (self.divisor >> 8) as u8),
            DATA => {
                let byte = match self.receiver.pop_front() {
                    None if !self.loopback() => self.input.pop_front(),
                    received => received,
                };
                assert_eq!(value, byte.unwrap_or(0), "bytes come in their order");
            }
            INTERRUPT_ENABLE => assert_eq!(value, self.interrupt_enable),
            IDENTIFICATION => self.identified(value),
            LINE_CONTROL => assert_eq!(value, self.line_control),
            MODEM_CONTROL => assert_eq!(value, self.modem_control),
            LINE_STATUS => {
                let expected = u8::from(self.has_data())
                    | u8::from(std::mem::take(&mut self.overrun)) << 1
                    | if self.ready() { 0x60 } else { 0 };
                assert_eq!(value, expected);
            }
            SCRATCH => assert_eq!(value, self.scratch),
            8.. => assert_eq!(value, 0xFF, "the chip has eight registers"),
            _ => {}
        }
    }

    /// Table IV: what is shown is enabled and there, and nothing above it is.
    fn identified(&self, value: u8) {
        let enabled = |bit: u8| self.interrupt_enable >> bit & 1 != 0;
        let (error, data) = (enabled(2) && self.overrun, enabled(0) && self.has_data());
        assert_eq!(value & 0xF0, if self.fifos { 0xC0 } else { 0 });
        match value & 0x0F {
            0b0110 => assert!(error),
            0b0100 | 0b1100 => assert!(data && !error),
            0b0010 => assert!(enabled(1) && !data && !error),
            0b0000 => assert!(enabled(3) && !data && !error),
            0b0001 => assert!(!data && !error),
            other => panic!("interrupt {other:#b} is not in table IV"),
        }
    }
}

/// Registers read as the data sheet says, bytes come out in the order in which they went in, queues keep their bounds, and an
/// interrupt comes where one is due and enabled.
pub fn uart(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let mut uart = Uart::new();
    let mut model = Model { divisor: 1, ..Model::default() };
    // Enough to fill the queue twice.
    let mut burst = 2 * OUTPUT_CAPACITY;
    let (mut typed, mut edges, mut operations, mut lost) = (0u8, 0, 0, 0);
    while !input.is_empty() && operations < 500 {
        operations += 1;
        let mut none_pending = false;
        match input.u8() % 6 {
            0 => {
                let register = input.u8() % 9;
                let value = uart.read(register);
                model.read(register, value);
                none_pending = register == IDENTIFICATION && value & 0x0F == 0b0001;
            }
            1 | 2 => {
                let (register, value) = (input.u8() % 9, input.u8());
                uart.write(register, value);
                let room = model.output.len() < OUTPUT_CAPACITY;
                lost +=
                    u64::from(register == DATA && !room && !model.latched() && !model.loopback());
                model.write(register, value);
            }
            3 => {
                let bytes: Vec<u8> = (0..input.u16() % 300).map(|_| next(&mut typed)).collect();
                let taken = uart.push_input(&bytes);
                assert_eq!(taken, bytes.len().min(INPUT_CAPACITY - model.input.len()));
                model.input.extend(&bytes[..taken]);
            }
            4 => take(&mut uart, &mut model, input.u8().into()),
            _ => {
                let bytes = usize::from(input.u16() % 5000).min(burst);
                burst -= bytes;
                for _ in 0..bytes {
                    let byte = next(&mut typed);
                    uart.write(DATA, byte);
                    let room = model.output.len() < OUTPUT_CAPACITY;
                    lost += u64::from(!room && !model.latched() && !model.loopback());
                    model.write(DATA, byte);
                }
            }
        }
        assert_eq!(uart.dropped(), lost);
        assert_eq!(uart.output_pending(), !model.output.is_empty());
        match uart.quick_line_status() {
            Some(status) => model.read(LINE_STATUS, status),
            None => assert!(model.overrun, "it changes nothing"),
        }
        if uart.take_interrupt_edge() {
            edges += 1;
            assert!(model.interrupts() && model.interrupt_enable != 0, "nobody asked for it");
        }
        // A driver that has seen that nothing is pending is told of the next byte.
        if none_pending && model.interrupts() && model.interrupt_enable & 1 != 0 {
            let byte = next(&mut typed);
            if uart.push_input(&[byte]) == 1 {
                model.input.push_back(byte);
                assert!(uart.take_interrupt_edge(), "it waits for ever");
            }
        }
    }
    format!("{operations} operations, {edges} interrupts, {lost} bytes lost")
}

fn next(byte: &mut u8) -> u8 {
    *byte = byte.wrapping_add(1);
    *byte
}

/// Takes output: all that is there, but no more than a line.
fn take(uart: &mut Uart, model: &mut Model, most: usize) {
    let mut buffer = vec![0; most];
    let taken = uart.take_output(&mut buffer);
    let line = model.output.iter().take(most).position(|&byte| byte == b'\n');
    let expected = line.map_or(most.min(model.output.len()), |at| at + 1);
    assert_eq!(taken, expected);
    assert!(buffer[..taken].iter().copied().eq(model.output.drain(..taken)));
}
