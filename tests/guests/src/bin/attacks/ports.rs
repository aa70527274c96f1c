//! I/O ports.

use crate::map;
use crate::place::{PAGE, Place};
use crate::{Followed, followed, runs};
use bulkhead_guests::console::COM1;
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::vector::PAGE_FAULT;
use bulkhead_guests::port::Number;
use bulkhead_guests::suite::{Outcome, same};
use bulkhead_guests::{apic, cpu, ensure, fail, interrupts, port};
use core::arch::asm;

runs! { "ports":
    reads_a_byte_of_every_port,
    reads_two_bytes_of_every_port,
    reads_four_bytes_of_every_port,
    writes_a_byte_to_every_port,
    writes_two_bytes_to_every_port,
    writes_four_bytes_to_every_port,
    takes_strings_from_every_port,
    sends_strings_to_every_port,
    moves_strings_across_the_end_of_memory,
    moves_a_string_without_an_end,
}

const CONSOLE_LAST: u16 = COM1 + 7;
const SCRATCH: u16 = CONSOLE_LAST;
/// A port that nothing answers.
const ABSENT: u16 = 0x1230;
/// What is written to every port: no power-off, no reset, no start of either.
const HARMLESS: u8 = 0xFB;

/// Whether one of the guest's devices answers at a port: the gate of counter 2, the real-time clock, the
/// console, power control, reset control.
const fn answers(port: u16) -> bool {
    matches!(port, 0x61 | 0x71 | COM1..=CONSOLE_LAST | 0x600..=0x602 | 0xCF9)
}

/// The bits of an access that no device answers.
fn unanswered(port: u16, width: u32) -> u32 {
    let byte = |number| match port.checked_add(number as u16) {
        Some(port) if answers(port) => 0,
        _ => 0xFF_u32 << (8 * number),
    };
    (0..width).map(byte).sum()
}

fn read_all<T: Number + Into<u32>>() -> Followed {
    let width = size_of::<T>() as u32;
    let mut met = 0;
    for at in 0..=u16::MAX {
        let mask = unanswered(at, width);
        let read: u32 = port::read::<T>(at).into();
        same(format_args!("{width} bytes at port {at:#x}"), (read & mask).into(), mask.into())?;
        met += u32::from(mask != unanswered(ABSENT, width));
    }
    followed!("all ones but from the bytes of its devices, met {met} times")
}

fn reads_a_byte_of_every_port(_: &Place) -> Followed {
    read_all::<u8>()
}

fn reads_two_bytes_of_every_port(_: &Place) -> Followed {
    read_all::<u16>()
}

fn reads_four_bytes_of_every_port(_: &Place) -> Followed {
    read_all::<u32>()
}

/// All ports that no byte of an access meets the console at: it is needed to say what followed.
fn but_the_console(width: u16) -> impl Iterator<Item = u16> {
    (0..=u16::MAX).filter(move |at| !(COM1 + 1 - width..=CONSOLE_LAST).contains(at))
}

/// The devices are as a guest expects them.
fn as_before() -> Outcome {
    for value in [0x5A, 0xA5u8] {
        port::write(SCRATCH, value);
        same("the scratch register", port::read::<u8>(SCRATCH).into(), value.into())?;
    }
    same("the sleep register", port::read::<u8>(0x600).into(), 0)
}

fn write_all<T: Number>(value: T) -> Followed {
    let mut count = 0;
    for at in but_the_console(size_of::<T>() as u16) {
        port::write(at, value);
        count += 1;
    }
    as_before()?;
    followed!("nothing, at {count} ports")
}

fn writes_a_byte_to_every_port(_: &Place) -> Followed {
    write_all(HARMLESS)
}

fn writes_two_bytes_to_every_port(_: &Place) -> Followed {
    write_all(u16::from_le_bytes([HARMLESS; 2]))
}

fn writes_four_bytes_to_every_port(_: &Place) -> Followed {
    write_all(u32::from_le_bytes([HARMLESS; 4]))
}

/// Two pages.
#[repr(C, align(4096))]
struct Pages([u8; 2 * PAGE as usize]);

static mut PAGES: Pages = Pages([0; 2 * PAGE as usize]);

/// Around the end of the first page, so much of them is looked at.
const AROUND: u64 = 16;

fn end_of_page() -> u64 {
    &raw mut PAGES as u64 + PAGE
}

/// The bytes around the end of the page, all set to one value.
fn fill(value: u8) -> &'static mut [u8; 2 * AROUND as usize] {
    // SAFETY: inside `PAGES`, which nothing else uses.
    let around = unsafe { &mut *((end_of_page() - AROUND) as *mut [u8; 2 * AROUND as usize]) };
    around.fill(value);
    around
}

/// A `REP INS` or `REP OUTS`: where to, from which port, how many elements.
macro_rules! string {
    ($instruction:tt, $index:tt) => {
        |at: u64, port: u16, count: u64| {
            let left: u64;
            // SAFETY: a few bytes of `PAGES`, or what the caller gives.
            unsafe {
                asm!(concat!("rep ", $instruction), inout($index) at => _, inout("rcx") count => left,
                    in("dx") port, options(nostack));
            }
            left
        }
    };
}

/// Bytes of an element, how many elements, and how they are moved.
type Strings = [(u64, u64, fn(u64, u16, u64) -> u64); 3];

fn takes_strings_from_every_port(_: &Place) -> Followed {
    let strings: Strings = [
        (1, 2, string!("insb", "rdi")),
        (2, 1, string!("insw", "rdi")),
        (4, 1, string!("insd", "rdi")),
    ];
    let mut count = 0;
    for at in 0..=u16::MAX {
        for (width, elements, take) in strings {
            let around = fill(0x11);
            let before = width * elements / 2;
            same("elements that are left", take(end_of_page() - before, at, elements), 0)?;
            let first = (AROUND - before) as usize;
            let taken = first..first + (width * elements) as usize;
            for (index, &byte) in around.iter().enumerate() {
                let number = (index.wrapping_sub(first) as u64 % width) as u16;
                let answered = at.checked_add(number).is_some_and(answers);
                let expected = if taken.contains(&index) { 0xFF } else { 0x11 };
                ensure!(
                    byte == expected || taken.contains(&index) && answered,
                    "{byte:#x} at {index}, from port {at:#x}, {width} bytes"
                );
            }
            count += 1;
        }
    }
    followed!("{count} strings of all ones, but from its devices")
}

fn sends_strings_to_every_port(_: &Place) -> Followed {
    let strings: Strings = [
        (1, 2, string!("outsb", "rsi")),
        (2, 1, string!("outsw", "rsi")),
        (4, 1, string!("outsd", "rsi")),
    ];
    fill(HARMLESS);
    let mut count = 0;
    for (width, elements, send) in strings {
        let start = end_of_page() - width * elements / 2;
        for at in but_the_console(width as u16) {
            same("elements that are left", send(start, at, elements), 0)?;
            count += 1;
        }
    }
    as_before()?;
    followed!("nothing, after {count} strings")
}

fn moves_strings_across_the_end_of_memory(place: &Place) -> Followed {
    const HALF: u64 = 64;
    /// #PF: the access was a write.
    const WRITE: u64 = 0b10;
    // Behind the window there is nothing, and in it memory that the guest does not use.
    let memory = place.ram_end - map::LARGE_PAGE;
    let start = map::open(memory, 0) + map::LARGE_PAGE - HALF;
    let end = start + HALF;
    let take: fn(u64, u16, u64) -> u64 = string!("insb", "rdi");
    let send: fn(u64, u16, u64) -> u64 = string!("outsb", "rsi");
    for (name, error_code, run) in [("INSB", WRITE, take), ("OUTSB", 0, send)] {
        match expect_fault(|| _ = run(start, ABSENT, 2 * HALF)) {
            Some(fault) if fault.vector == PAGE_FAULT && fault.error_code == error_code => {}
            Some(fault) => fail!("{name}: {fault}"),
            None => fail!("{name}: no fault"),
        }
        same(format_args!("CR2 after {name}"), cpu::read_cr2(), end)?;
    }
    let read = crate::place::load(start + HALF - 8, 8);
    // SAFETY: as above.
    unsafe { core::ptr::write_bytes(start as *mut u8, 0, HALF as usize) };
    map::close();
    same("the last bytes that are mapped", read, u64::MAX)?;
    followed!("#PF at {end:#x}; what is before it was moved")
}

fn moves_a_string_without_an_end(place: &Place) -> Followed {
    const VECTOR: u8 = 0x44;
    const BYTES: u64 = 100_000;
    const PERIOD: u32 = 100_000;
    const LEAST: u64 = 10;
    let before = interrupts::count(VECTOR);
    apic::start_periodic(VECTOR, PERIOD);
    cpu::enable_interrupts();
    let send: fn(u64, u16, u64) -> u64 = string!("outsb", "rsi");
    let left = send(place.ram_end - map::LARGE_PAGE, ABSENT, BYTES);
    cpu::disable_interrupts();
    apic::stop_timer();
    let came = interrupts::count(VECTOR) - before;
    same("bytes that are left", left, 0)?;
    ensure!(came >= LEAST, "{came} interrupts came");
    followed!("{came} interrupts while it lasted")
}
