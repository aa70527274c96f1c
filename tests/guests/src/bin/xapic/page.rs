//! The registers as a page of memory (SDM Vol. 3A, 11.4.1).

use crate::{MASKED, SVR_ENABLE, turn_on};
use bulkhead_guests::apic::{SPURIOUS_VECTOR, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::xapic::{self, PAGE, STRIDE, read, write};
use bulkhead_guests::{ensure, interrupts};
use core::arch::asm;

pub const TESTS: &[Test] = &[
    Test {
        title: "a register can be read by every form of MOV",
        what: "MOV to EAX, R15D, ESP; by base, index and displacement; absolute; MOVSXD",
        run: reads,
    },
    Test {
        title: "a register can be written by every form of MOV",
        what: "MOV from EAX, R9D, a constant; by base, index and displacement; absolute",
        run: writes,
    },
    Test {
        title: "LDR keeps 8 bits and DFR 4",
        what: "writes of all ones, of zero and of a pattern",
        run: logical,
    },
    Test {
        title: "reserved bits are ignored",
        what: "all ones to each register that can be written, then reads",
        run: reserved,
    },
    Test {
        title: "LVT entries forget their delivery mode, but for those that are never in effect",
        what: "NMI delivery to timer, error, LINT0, LINT1, thermal, performance, CMCI",
        run: entries,
    },
    Test {
        title: "read-only registers ignore writes",
        what: "ID, version, APR, PPR, RRD, ISR, TMR, IRR, current count",
        run: read_only,
    },
    Test {
        title: "bytes, words, quadwords and places between registers are not there",
        what: "reads of all ones; writes that change nothing",
        run: undefined,
    },
    Test {
        title: "offsets without a register are not there, the one of SELF_IPI among them",
        what: "reads of all ones, a write of a vector",
        run: absent,
    },
    Test {
        title: "an illegal vector is an error in ESR, seen after a write, gone after the next",
        what: "ICR with vectors 0 and 15; ESR",
        run: errors,
    },
];

/// A value for LDR, in the eight bits that it keeps.
const PATTERN: u64 = 0xA500_0000;

/// The register at `$offset` by an instruction with `at` and `value`.
macro_rules! load {
    ($text:literal, $offset:expr) => {{
        let value: u64;
        // SAFETY: no register has side effects when read.
        unsafe {
            asm!($text, at = in(reg) PAGE + $offset, value = out(reg) value, options(nostack));
        }
        value
    }};
}

fn reads(_: &BootParams) -> Outcome {
    const LDR: u64 = PAGE + xapic::LDR;
    write(xapic::LDR, PATTERN as u32);
    let (eax, r15, rsp, indexed, absolute): (u64, u64, u64, u64, u64);
    // SAFETY: no register has side effects when read; RSP is put back at once, and interrupts are
    // off.
    unsafe {
        asm!("mov eax, [{at}]", at = in(reg) LDR, out("rax") eax, options(nostack));
        asm!("mov r15d, [{at}]", at = in(reg) LDR, out("r15") r15, options(nostack));
        asm!("mov {saved}, rsp", "mov esp, [{at}]", "xchg {saved}, rsp",
            saved = out(reg) rsp, at = in(reg) LDR);
        asm!("mov {value:e}, [{at} + 4*{index} + 0x10]", at = in(reg) PAGE,
            index = in(reg) (xapic::LDR - 0x10) / 4, value = out(reg) indexed, options(nostack));
        asm!(".byte 0xa1", ".quad {at}", at = const LDR, out("rax") absolute, options(nostack));
    }
    let sign_extended = load!("movsxd {value}, dword ptr [{at}]", xapic::LDR);
    write(xapic::LDR, 0);
    let read = [eax, r15, rsp, indexed, absolute];
    read.into_iter().try_for_each(|value| same("LDR", value, PATTERN))?;
    same("LDR by MOVSXD", sign_extended, PATTERN as u32 as i32 as u64)
}

fn writes(_: &BootParams) -> Outcome {
    const LDR: u64 = PAGE + xapic::LDR;
    let check = |what, value: u64| {
        let read = read(xapic::LDR);
        write(xapic::LDR, 0);
        same(format_args!("LDR after {what}"), read, value << 24)
    };
    // SAFETY: LDR is nobody's business but this guest's interrupts'.
    unsafe { asm!("mov [{at}], eax", at = in(reg) LDR, in("eax") 1 << 24) };
    check("MOV of EAX", 1)?;
    // SAFETY: as above.
    unsafe { asm!("mov [{at}], r9d", at = in(reg) LDR, in("r9") 2 << 24) };
    check("MOV of R9D", 2)?;
    // SAFETY: as above.
    unsafe { asm!("mov dword ptr [{at}], 0x3000000", at = in(reg) LDR) };
    check("MOV of a constant", 3)?;
    // SAFETY: as above.
    unsafe {
        asm!("mov [{at} + 8*{index} + 0x50], {value:e}", at = in(reg) PAGE,
            index = in(reg) (xapic::LDR - 0x50) / 8, value = in(reg) 4 << 24);
    }
    check("MOV by base and index", 4)?;
    // SAFETY: as above.
    unsafe { asm!(".byte 0xa3", ".quad {at}", at = const LDR, in("eax") 5 << 24) };
    check("an absolute MOV", 5)?;
    // SAFETY: as above.
    unsafe { asm!("mov dword ptr [{at:e}], 0x6000000", at = in(reg) LDR) };
    check("MOV with a 32-bit address", 6)
}

fn logical(_: &BootParams) -> Outcome {
    for (value, ldr, dfr) in [
        (u32::MAX, 0xFF00_0000, u32::MAX),
        (0, 0, 0x0FFF_FFFF),
        (0x5678_9ABC, 0x5600_0000, 0x5FFF_FFFF),
    ] {
        write(xapic::LDR, value);
        write(xapic::DFR, value);
        same("LDR", read(xapic::LDR), ldr)?;
        same("DFR", read(xapic::DFR), dfr.into())?;
    }
    write(xapic::LDR, 0);
    write(xapic::DFR, u32::MAX);
    Ok(())
}

fn reserved(_: &BootParams) -> Outcome {
    turn_on();
    let registers = [
        (xapic::TPR, 0xFF),
        (xapic::SVR, u64::from(SVR_ENABLE) | u64::from(SPURIOUS_VECTOR)),
        (xapic::LVT_TIMER, 0x300FF),
        (xapic::LVT_ERROR, 0x100FF),
        (xapic::TIMER_DIVIDE, 0b1011),
        (xapic::ICR_HIGH, 0xFF00_0000),
        // Delivery mode 7 and all but oneself: nothing is sent.
        (xapic::ICR, 0xC_CFFF),
    ];
    let before = interrupts::count_all();
    let read = registers.map(|(offset, _)| {
        write(offset, u32::MAX);
        read(offset)
    });
    // Any value ends an interrupt, and updates ESR.
    write(xapic::EOI, u32::MAX);
    write(xapic::ESR, u32::MAX);
    turn_on();
    write(xapic::TIMER_DIVIDE, 0);
    interrupts::let_in_for(10_000);
    same("the count of interrupts", interrupts::count_all() - before, 0)?;
    registers.into_iter().zip(read).try_for_each(|((offset, expected), value)| {
        same(format_args!("the register at {offset:#x}"), value, expected)
    })
}

fn entries(_: &BootParams) -> Outcome {
    const ENTRY: u32 = MASKED | icr::NMI as u32 | 0x40;
    turn_on();
    for (offset, expected) in [
        (xapic::LVT_TIMER, MASKED | 0x40),
        (xapic::LVT_ERROR, MASKED | 0x40),
        (xapic::LVT_LINT0, ENTRY),
        (xapic::LVT_LINT1, ENTRY),
        (xapic::LVT_THERMAL, ENTRY),
        (xapic::LVT_PERFORMANCE, ENTRY),
        (xapic::LVT_CMCI, ENTRY),
    ] {
        write(offset, ENTRY);
        let value = read(offset);
        write(offset, MASKED);
        same(format_args!("the entry at {offset:#x}"), value, expected.into())?;
    }
    Ok(())
}

fn read_only(_: &BootParams) -> Outcome {
    for offset in [
        xapic::ID,
        xapic::VERSION,
        xapic::APR,
        xapic::PPR,
        xapic::RRD,
        xapic::ISR,
        xapic::TMR + 7 * STRIDE,
        xapic::IRR,
        xapic::TIMER_CURRENT,
    ] {
        let before = read(offset);
        write(offset, !before as u32);
        same(format_args!("the register at {offset:#x}"), read(offset), before)?;
    }
    Ok(())
}

fn undefined(_: &BootParams) -> Outcome {
    let ones = [u64::from(u8::MAX), u64::from(u16::MAX), u64::from(u32::MAX), u64::MAX];
    write(xapic::LDR, PATTERN as u32);
    let read_of = |offset: u64| {
        [
            load!("movzx {value:e}, byte ptr [{at}]", offset),
            load!("movzx {value:e}, word ptr [{at}]", offset),
            load!("mov {value:e}, dword ptr [{at} + 4]", offset),
            load!("mov {value}, qword ptr [{at}]", offset),
        ]
    };
    let between = load!("mov {value:e}, dword ptr [{at} + 1]", xapic::LDR);
    let read_ldr = read_of(xapic::LDR);
    // SAFETY: LDR is nobody's business but this guest's interrupts'.
    unsafe {
        let at = PAGE + xapic::LDR;
        asm!("mov byte ptr [{at}], 0", "mov byte ptr [{at} + 3], 0", at = in(reg) at);
        asm!("mov word ptr [{at}], 0", "mov word ptr [{at} + 2], 0", at = in(reg) at);
        asm!("mov dword ptr [{at} + 4], 0", "mov dword ptr [{at} - 1], 0", at = in(reg) at);
        asm!("mov dword ptr [{at} + 1], 0", "mov qword ptr [{at}], 0", at = in(reg) at);
    }
    let after = read(xapic::LDR);
    write(xapic::LDR, 0);
    ensure!(read_ldr == ones, "LDR reads {read_ldr:#x?}");
    same("a doubleword between registers", between, u32::MAX.into())?;
    same("LDR", after, PATTERN)
}

fn absent(_: &BootParams) -> Outcome {
    const SELF_IPI: u64 = 0x3F0;
    turn_on();
    let before = interrupts::count_all();
    for offset in [0, 0x10, 0x40, 0x290, 0x2E0, 0x3A0, SELF_IPI, 0x400, 0xFF0] {
        same(format_args!("what is at {offset:#x}"), read(offset), u32::MAX.into())?;
        write(offset, 0x40);
    }
    interrupts::let_in_for(10_000);
    same("the count of interrupts", interrupts::count_all() - before, 0)
}

fn errors(_: &BootParams) -> Outcome {
    /// "Send illegal vector" and "received illegal vector": which of them is the processor's to say
    /// for one that is sent to oneself.
    const ILLEGAL_VECTOR: u64 = 0b11 << 5;
    turn_on();
    write(xapic::ESR, 0);
    for vector in [0, 15] {
        let before = interrupts::count_all();
        xapic::command(0, icr::ASSERT as u32 | vector);
        same("ESR before it was written", read(xapic::ESR), 0)?;
        write(xapic::ESR, 0);
        let error = read(xapic::ESR);
        ensure!(error & ILLEGAL_VECTOR != 0, "ESR is {error:#x} after vector {vector}");
        same("ESR's other bits", error & !ILLEGAL_VECTOR, 0)?;
        write(xapic::ESR, 0);
        same("ESR afterwards", read(xapic::ESR), 0)?;
        interrupts::let_in_for(10_000);
        same("the count of interrupts", interrupts::count_all() - before, 0)?;
    }
    Ok(())
}
