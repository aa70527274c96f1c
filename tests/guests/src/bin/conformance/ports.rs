//! I/O ports, and the string instructions on them.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console;
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, port};
use core::arch::asm;

pub const TESTS: &[Test] = &[
    Test {
        title: "a port without a device reads all ones",
        what: "IN of 1, 2 and 4 bytes from ports of PIC, PIT, PCI, QEMU's firmware and others",
        run: absent_reads,
    },
    Test {
        title: "a port without a device takes writes",
        what: "OUT of 1, 2 and 4 bytes to ports of old PCs that do no harm",
        run: absent_writes,
    },
    Test {
        title: "IN leaves the rest of RAX as it is, or clears the upper half",
        what: "IN AL, AX and EAX with RAX filled",
        run: parts_of_rax,
    },
    Test {
        title: "REP OUTSB prints",
        what: "REP OUTSB to the console's data register; the text is \"a string by OUTSB\"",
        run: outs,
    },
    Test {
        title: "REP INS fills memory, forwards and backwards",
        what: "REP INSB, INSW and INSD from a port without a device, more than are done at once",
        run: ins,
    },
    Test {
        title: "REP INS of nothing does nothing",
        what: "REP INSB with RCX = 0",
        run: ins_nothing,
    },
    Test {
        title: "the console's scratch register keeps a byte",
        what: "OUT and IN of 0x3ff",
        run: scratch,
    },
];

/// A port that nothing answers.
const ABSENT: u16 = 0x1230;

fn absent_reads(_: &BootParams) -> Outcome {
    // PICs, PIT, POST code, DMA page, second serial port, firmware configuration, PCI, and the end.
    for at in [0x20, 0x21, 0x40, 0x43, 0x80, 0x87, 0xA1, 0x2F8, 0x510, 0xCFC, ABSENT, 0xFFF0] {
        same(format_args!("a byte at {at:#x}"), port::read::<u8>(at).into(), u8::MAX.into())?;
        same(format_args!("2 bytes at {at:#x}"), port::read::<u16>(at).into(), u16::MAX.into())?;
        same(format_args!("4 bytes at {at:#x}"), port::read::<u32>(at).into(), u32::MAX.into())?;
    }
    Ok(())
}

fn absent_writes(_: &BootParams) -> Outcome {
    for at in [0x20, 0x80, 0xCFC, ABSENT, u16::MAX] {
        port::write(at, u8::MAX);
        port::write(at, u16::MAX);
        port::write(at, u32::MAX);
    }
    Ok(())
}

fn parts_of_rax(_: &BootParams) -> Outcome {
    const FILL: u64 = 0x1122_3344_5566_7788;
    let (byte, word, dword): (u64, u64, u64);
    // SAFETY: nothing answers at the port.
    unsafe {
        asm!("in al, dx", inout("rax") FILL => byte, in("dx") ABSENT);
        asm!("in ax, dx", inout("rax") FILL => word, in("dx") ABSENT);
        asm!("in eax, dx", inout("rax") FILL => dword, in("dx") ABSENT);
    }
    same("RAX after IN AL", byte, FILL | u64::from(u8::MAX))?;
    same("RAX after IN AX", word, FILL | u64::from(u16::MAX))?;
    same("RAX after IN EAX", dword, u32::MAX.into())
}

fn outs(_: &BootParams) -> Outcome {
    const TEXT: &[u8] = b"(a string by OUTSB) ";
    // The text is longer than a FIFO, so the queue behind it must take more than that: it does
    // once all before is gone.
    console::wait_until_ready();
    let (end, left): (u64, u64);
    // SAFETY: reads the text.
    unsafe {
        asm!("rep outsb", inout("rsi") TEXT.as_ptr() => end, inout("rcx") TEXT.len() => left,
            in("dx") console::DATA, options(readonly, nostack));
    }
    same("RCX", left, 0)?;
    same("RSI", end, TEXT.as_ptr() as u64 + TEXT.len() as u64)
}

/// Bytes of the buffer that INS fills, with room on both sides that it must leave alone.
const BUFFER: usize = 512;
const MARGIN: usize = 64;

fn ins(_: &BootParams) -> Outcome {
    type Ins = fn(u64, u64) -> (u64, u64);
    /// A `REP INS` of one size in one direction.
    macro_rules! ins {
        ($instruction:literal, $direction:literal) => {
            |start, count| {
                let (end, left): (u64, u64);
                // SAFETY: the caller gives the memory; the direction flag is cleared again.
                unsafe {
                    asm!($direction, concat!("rep ", $instruction), "cld",
                        inout("rdi") start => end, inout("rcx") count => left,
                        in("dx") ABSENT, options(nostack));
                }
                (end, left)
            }
        };
    }
    let list: [(&str, usize, Ins, Ins); 3] = [
        ("INSB", 1, ins!("insb", "cld"), ins!("insb", "std")),
        ("INSW", 2, ins!("insw", "cld"), ins!("insw", "std")),
        ("INSD", 4, ins!("insd", "cld"), ins!("insd", "std")),
    ];
    for (name, width, forwards, backwards) in list {
        let filled = BUFFER - 2 * MARGIN;
        let count = (filled / width) as u64;
        for back in [false, true] {
            let mut buffer = [0u8; BUFFER];
            let first = &raw mut buffer as u64 + MARGIN as u64;
            let (end, left) = if back {
                backwards(first + (filled - width) as u64, count)
            } else {
                forwards(first, count)
            };
            same(format_args!("{name}: RCX"), left, 0)?;
            let behind = if back { first - width as u64 } else { first + filled as u64 };
            same(format_args!("{name}: RDI"), end, behind)?;
            for (at, byte) in buffer.into_iter().enumerate() {
                let inside = (MARGIN..BUFFER - MARGIN).contains(&at);
                ensure!(byte == if inside { u8::MAX } else { 0 }, "{name}: {byte:#x} at {at}");
            }
        }
    }
    Ok(())
}

fn ins_nothing(_: &BootParams) -> Outcome {
    let mut byte = 0u8;
    let start = &raw mut byte;
    let end: u64;
    // SAFETY: the byte is this function's.
    unsafe {
        asm!("rep insb", inout("rdi") start => end, inout("rcx") 0u64 => _, in("dx") ABSENT,
            options(nostack));
    }
    same("RDI", end, start as u64)?;
    same("memory", byte.into(), 0)
}

fn scratch(_: &BootParams) -> Outcome {
    const SCRATCH: u16 = console::COM1 + 7;
    for value in [0x5A, 0xA5] {
        port::write::<u8>(SCRATCH, value);
        same("scratch", port::read::<u8>(SCRATCH).into(), value.into())?;
    }
    Ok(())
}
