use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const THRE: u8 = 1 << 5;
const TEMT: u8 = 1 << 6;
const DR: u8 = 1 << 0;
const OE: u8 = 1 << 1;
const IIR_NONE: u8 = 0x01;
const IIR_THRE: u8 = 0x02;
const IIR_DATA: u8 = 0x04;
const IIR_ERROR: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0c;
const IER_DATA: u8 = 1;
const IER_THRE: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;
const MCR_OUT2: u8 = 8;
const MCR_LOOP: u8 = 0x10;

fn connected() -> Uart {
    let mut uart = Uart::new();
    uart.write(offset::MODEM_CONTROL, MCR_OUT2);
    uart
}

fn fill(uart: &mut Uart) {
    for _ in 0..OUTPUT_CAPACITY {
        uart.write(offset::DATA, b'x');
    }
}

#[test]
fn registers_after_reset() {
    let mut uart = Uart::new();
    let registers: Vec<u8> = (1..8).map(|register| uart.read(register)).collect();
    assert_eq!(registers, [0, IIR_NONE, 0, 0, THRE | TEMT, 0xb0, 0]);
    assert_eq!(uart.read(8), 0xff);
}

#[test]
fn output_is_taken_up_to_the_end_of_a_line() {
    let mut uart = Uart::new();
    for byte in *b"one\ntwo" {
        uart.write(offset::DATA, byte);
    }
    let mut buffer = [0; 16];
    assert_eq!((uart.take_output(&mut buffer), &buffer[..4]), (4, b"one\n".as_slice()));
    assert_eq!((uart.take_output(&mut buffer), &buffer[..3]), (3, b"two".as_slice()));
    assert!(!uart.output_pending());
}

#[test]
fn divisor_latch_hides_data_and_interrupt_enable() {
    let mut uart = Uart::new();
    uart.write(offset::LINE_CONTROL, 0x83);
    uart.write(0, 0x34);
    uart.write(1, 0x12);
    assert_eq!((uart.read(0), uart.read(1)), (0x34, 0x12));
    uart.write(offset::LINE_CONTROL, 0x03);
    assert_eq!((uart.read(0), uart.read(1)), (0, 0));
    assert!(!uart.output_pending());
    assert_eq!(uart.divisor, 0x1234);
}

#[test]
fn reserved_bits_read_as_zero_and_scratch_keeps_all() {
    let mut uart = Uart::new();
    uart.write(offset::INTERRUPT_ENABLE, 0xff);
    uart.write(offset::MODEM_CONTROL, 0xff);
    uart.write(offset::SCRATCH, 0xa5);
    assert_eq!(uart.read(offset::INTERRUPT_ENABLE), 0x0f);
    assert_eq!(uart.read(offset::MODEM_CONTROL), 0x1f);
    assert_eq!(uart.read(offset::SCRATCH), 0xa5);
}

#[test]
fn output_comes_out_in_order() {
    let mut uart = Uart::new();
    for byte in *b"hello" {
        uart.write(offset::DATA, byte);
    }
    let mut buffer = [0; 16];
    assert_eq!(uart.take_output(&mut buffer), 5);
    assert_eq!(&buffer[..5], b"hello");
    assert!(!uart.output_pending());
}

#[test]
fn a_full_queue_lowers_thre_one_fifo_early_and_then_counts_what_is_lost() {
    let mut uart = connected();
    uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
    for _ in 0..OUTPUT_CAPACITY - FIFO_DEPTH {
        uart.write(offset::DATA, 0);
    }
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT);
    for _ in 0..FIFO_DEPTH {
        uart.write(offset::DATA, 0);
        assert_eq!(uart.read(offset::LINE_STATUS), 0);
    }
    assert_eq!(uart.dropped(), 0);
    uart.write(offset::DATA, 0);
    assert_eq!(uart.dropped(), 1);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_NONE);
    uart.take_interrupt_edge();
    // One byte of room is not a FIFO of room.
    uart.take_output(&mut [0; FIFO_DEPTH - 1]);
    assert!(!uart.take_interrupt_edge());
    assert_eq!(uart.read(offset::LINE_STATUS), 0);
    uart.take_output(&mut [0; 1]);
    assert!(uart.take_interrupt_edge());
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_THRE);
}

#[test]
fn fifo_bits_appear_only_while_enabled() {
    let mut uart = Uart::new();
    uart.write(offset::IDENTIFICATION, 0x01);
    assert_eq!(uart.read(offset::IDENTIFICATION), 0xc0 | IIR_NONE);
    uart.write(offset::IDENTIFICATION, 0x00);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_NONE);
}

#[test]
fn interrupts_are_shown_by_priority() {
    let mut uart = connected();
    // Overrun by looping back two bytes without FIFOs; the modem lines change as loopback begins and ends.
    uart.write(offset::MODEM_CONTROL, MCR_LOOP);
    uart.write(offset::DATA, 1);
    uart.write(offset::DATA, 2);
    uart.write(offset::MODEM_CONTROL, MCR_OUT2);
    uart.write(offset::INTERRUPT_ENABLE, IER_DATA | IER_THRE | IER_LINE | IER_MODEM);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_ERROR);
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT | DR | OE);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_DATA);
    assert_eq!(uart.read(offset::DATA), 2);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_THRE);
    assert_eq!(uart.read(offset::IDENTIFICATION), 0);
    assert_ne!(uart.read(offset::MODEM_STATUS) & 0x0f, 0);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_NONE);
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT);
}

#[test]
fn an_overrun_costs_the_byte_before_or_with_fifos_the_new_one() {
    let mut uart = connected();
    uart.write(offset::MODEM_CONTROL, MCR_LOOP);
    for byte in [1, 2, 3] {
        uart.write(offset::DATA, byte);
    }
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT | DR | OE);
    assert_eq!((uart.read(offset::DATA), uart.read(offset::LINE_STATUS) & DR), (3, 0));
    uart.write(offset::IDENTIFICATION, 1);
    for byte in 1..=FIFO_DEPTH as u8 + 1 {
        uart.write(offset::DATA, byte);
    }
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT | DR | OE);
    let received: Vec<u8> = (0..FIFO_DEPTH).map(|_| uart.read(offset::DATA)).collect();
    assert!(received.into_iter().eq(1..=FIFO_DEPTH as u8));
    assert_eq!(uart.read(offset::LINE_STATUS) & DR, 0);
}

#[test]
fn reading_iir_leaves_the_transmitter_interrupt_while_another_is_shown() {
    let mut uart = connected();
    uart.push_input(b"a");
    uart.write(offset::INTERRUPT_ENABLE, IER_DATA | IER_THRE);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_DATA);
    uart.read(offset::DATA);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_THRE);
}

#[test]
fn trigger_level_tells_data_from_timeout() {
    for (bits, level) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
        let mut uart = Uart::new();
        uart.write(offset::INTERRUPT_ENABLE, IER_DATA);
        uart.write(offset::IDENTIFICATION, bits);
        uart.push_input(&[0; 13][..level - 1]);
        let below = if level == 1 { IIR_NONE } else { IIR_TIMEOUT };
        assert_eq!(uart.read(offset::IDENTIFICATION), 0xc0 | below);
        uart.push_input(&[0]);
        assert_eq!(uart.read(offset::IDENTIFICATION), 0xc0 | IIR_DATA);
    }
}

#[test]
fn input_waits_for_the_guest_through_fifo_resets() {
    let mut uart = Uart::new();
    assert_eq!(uart.push_input(&[7; INPUT_CAPACITY + 9]), INPUT_CAPACITY);
    uart.write(offset::IDENTIFICATION, 0x07);
    for _ in 0..INPUT_CAPACITY {
        assert_eq!(uart.read(offset::LINE_STATUS) & DR, DR);
        assert_eq!(uart.read(offset::DATA), 7);
    }
    assert_eq!(uart.read(offset::LINE_STATUS) & DR, 0);
    assert_eq!(uart.read(offset::DATA), 0);
}

#[test]
fn loopback_returns_bytes_and_modem_lines_and_keeps_the_outside_out() {
    let mut uart = Uart::new();
    uart.push_input(b"o");
    uart.write(offset::IDENTIFICATION, 0x01);
    // Linux's autoconfig: LOOP | OUT2 | RTS must read back as DCD | CTS.
    uart.write(offset::MODEM_CONTROL, 0x1a);
    assert_eq!(uart.read(offset::MODEM_STATUS) & 0xf0, 0x90);
    uart.write(offset::MODEM_CONTROL, 0x15);
    assert_eq!(uart.read(offset::MODEM_STATUS) & 0xf0, 0x60);
    assert_eq!(uart.read(offset::LINE_STATUS), THRE | TEMT);
    for byte in 0..16 {
        uart.write(offset::DATA, byte);
        assert_eq!(uart.read(offset::LINE_STATUS) & OE, 0);
    }
    uart.write(offset::DATA, 16);
    assert_eq!(uart.read(offset::LINE_STATUS) & OE, OE);
    for byte in 0..16 {
        assert_eq!(uart.read(offset::DATA), byte);
    }
    assert_eq!(uart.read(offset::LINE_STATUS) & DR, 0);
    assert!(!uart.output_pending());
    uart.write(offset::MODEM_CONTROL, 0);
    assert_eq!(uart.read(offset::DATA), b'o');
}

#[test]
fn ring_indicator_reports_only_its_end() {
    let mut uart = Uart::new();
    uart.write(offset::MODEM_CONTROL, MCR_LOOP);
    uart.read(offset::MODEM_STATUS);
    uart.write(offset::MODEM_CONTROL, MCR_LOOP | 4);
    assert_eq!(uart.read(offset::MODEM_STATUS), 0x40);
    uart.write(offset::MODEM_CONTROL, MCR_LOOP);
    assert_eq!(uart.read(offset::MODEM_STATUS), 0x04);
}

#[test]
fn linux_finds_no_transmitter_bugs() {
    let mut uart = Uart::new();
    let mut enabled = || {
        uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
        let iir = uart.read(offset::IDENTIFICATION);
        uart.write(offset::INTERRUPT_ENABLE, 0);
        iir
    };
    assert_eq!(enabled(), IIR_THRE);
    assert_eq!(enabled(), IIR_THRE);
}

#[test]
fn out2_gates_the_line_and_loopback_disables_out2() {
    let mut uart = Uart::new();
    uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
    assert!(!uart.take_interrupt_edge());
    uart.write(offset::MODEM_CONTROL, MCR_OUT2 | MCR_LOOP);
    assert!(!uart.take_interrupt_edge());
    uart.write(offset::MODEM_CONTROL, MCR_OUT2);
    assert!(uart.take_interrupt_edge());
    assert!(!uart.take_interrupt_edge());
}

#[test]
fn each_cause_is_an_edge() {
    let mut uart = connected();
    uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
    assert!(uart.take_interrupt_edge(), "enabled with the THR empty");
    uart.write(offset::DATA, 0);
    assert!(uart.take_interrupt_edge(), "THR written and empty again, without a look at IIR");
    uart.read(offset::IDENTIFICATION);
    assert!(!uart.take_interrupt_edge(), "acknowledged");
    uart.write(offset::DATA, 0);
    assert!(uart.take_interrupt_edge(), "THR written and empty again");
    uart.write(offset::INTERRUPT_ENABLE, 0);
    uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
    assert!(uart.take_interrupt_edge(), "enabled anew");
    uart.write(offset::INTERRUPT_ENABLE, 0);
    uart.push_input(b"a");
    assert!(!uart.take_interrupt_edge());
    uart.write(offset::INTERRUPT_ENABLE, IER_DATA);
    assert!(uart.take_interrupt_edge(), "enabled with data waiting");
    uart.push_input(b"b");
    assert!(!uart.take_interrupt_edge(), "the line is up already");
    uart.read(offset::DATA);
    uart.read(offset::DATA);
    uart.push_input(b"c");
    assert!(uart.take_interrupt_edge(), "new data after the last was read");
}

#[test]
fn leaving_loopback_with_a_full_queue_lowers_thre() {
    let mut uart = connected();
    fill(&mut uart);
    uart.write(offset::MODEM_CONTROL, MCR_LOOP);
    assert_eq!(uart.read(offset::LINE_STATUS) & THRE, THRE);
    uart.write(offset::MODEM_CONTROL, MCR_OUT2);
    uart.write(offset::INTERRUPT_ENABLE, IER_THRE);
    assert_eq!(uart.read(offset::IDENTIFICATION), IIR_NONE);
    uart.take_output(&mut [0; 100]);
    assert!(uart.take_interrupt_edge());
}

#[derive(Clone, Debug)]
enum Operation {
    Read(u8),
    Write(u8, u8),
    Input(usize),
    Output(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0u8..9).prop_map(Operation::Read),
        6 => (0u8..9, any::<u8>()).prop_map(|(register, value)| Operation::Write(register, value)),
        1 => (0usize..40).prop_map(Operation::Input),
        1 => (0usize..40).prop_map(Operation::Output),
    ]
}

proptest! {
    #[test]
    fn whatever_a_driver_does_the_line_agrees_with_iir(
        operations in prop::collection::vec(operation(), 1..400),
        full: bool,
    ) {
        let mut uart = Uart::new();
        if full {
            fill(&mut uart);
        }
        let mut buffer = [0; 40];
        for operation in operations {
            let before = uart.line;
            let is_read = matches!(operation, Operation::Read(_));
            let is_data = matches!(operation, Operation::Write(offset::DATA, _));
            match operation {
                Operation::Read(register) => {
                    uart.read(register);
                }
                Operation::Write(register, value) => uart.write(register, value),
                Operation::Input(count) => {
                    uart.push_input(&buffer[..count]);
                }
                Operation::Output(count) => {
                    uart.take_output(&mut buffer[..count]);
                }
            }
            let edge = uart.take_interrupt_edge();
            let gate = uart.modem_control.bits() & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
            prop_assert_eq!(uart.line, gate && uart.pending() != Interrupt::None);
            // No rise goes unreported; only a written byte may be a fall and a rise in one.
            prop_assert!(!uart.line || before || edge);
            prop_assert!(!edge || (uart.line && (!before || is_data)));
            prop_assert!(!(is_read && edge), "a read never interrupts");
            prop_assert!(!uart.transmitter_pending || uart.ready());
            prop_assert!(uart.output.len() <= OUTPUT_CAPACITY && uart.receiver.len() <= FIFO_DEPTH);
        }
    }
}
