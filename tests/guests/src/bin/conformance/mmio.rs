//! Guest-physical memory that is neither RAM nor a device's.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::suite::{Outcome, Test, same};
use core::arch::asm;

pub const TESTS: &[Test] = &[
    Test {
        title: "memory without RAM reads all ones",
        what: "MOV of 1, 2, 4 and 8 bytes at HPET's place, behind RAM and below 4 GiB",
        run: reads,
    },
    Test {
        title: "memory without RAM can be read with extension",
        what: "MOVZX and MOVSX of 1 and 2 bytes, MOVSXD",
        run: extensions,
    },
    Test {
        title: "memory without RAM can be read into any register",
        what: "MOV to AH, R8B, R15, RSP's low half; MOV AL of an absolute address",
        run: registers,
    },
    Test {
        title: "memory without RAM takes writes and keeps nothing",
        what: "MOV of 1, 2, 4 and 8 bytes and of constants, then reads",
        run: writes,
    },
];

/// Where PCs have the HPET.
const HPET: u64 = 0xFED0_0000;
/// The end of the IOAPIC's neighbourhood, the first byte of a MMIO hole, the last of 4 GiB.
const PLACES: [u64; 4] = [HPET, 0xC000_0000, 0xE000_0123, 0xFFFF_FFF0];

/// `MOV register, [at]` with the register's other bits filled before.
macro_rules! load {
    ($text:literal, $at:expr, $fill:expr) => {{
        let mut value: u64 = $fill;
        // SAFETY: there is no memory at the address, so that a read has no effect.
        unsafe { asm!($text, value = inout(reg_abcd) value, at = in(reg) $at, options(nostack)) };
        value
    }};
}

fn reads(_: &BootParams) -> Outcome {
    for at in PLACES {
        let byte = load!("mov {value:l}, [{at}]", at, 0);
        same(format_args!("a byte at {at:#x}"), byte, u8::MAX.into())?;
        let word = load!("mov {value:x}, [{at}]", at, 0);
        same(format_args!("2 bytes at {at:#x}"), word, u16::MAX.into())?;
        let dword = load!("mov {value:e}, [{at}]", at, 0);
        same(format_args!("4 bytes at {at:#x}"), dword, u32::MAX.into())?;
        let qword = load!("mov {value:r}, [{at}]", at, 0);
        same(format_args!("8 bytes at {at:#x}"), qword, u64::MAX)?;
    }
    Ok(())
}

fn extensions(_: &BootParams) -> Outcome {
    const FILL: u64 = 0x1122_3344_5566_7788;
    let byte = u64::from(u8::MAX);
    let word = u64::from(u16::MAX);
    let dword = u64::from(u32::MAX);
    let list = [
        ("MOVZX r32, byte", load!("movzx {value:e}, byte ptr [{at}]", HPET, FILL), byte),
        ("MOVZX r64, byte", load!("movzx {value:r}, byte ptr [{at}]", HPET, FILL), byte),
        ("MOVZX r32, word", load!("movzx {value:e}, word ptr [{at}]", HPET, FILL), word),
        ("MOVSX r32, byte", load!("movsx {value:e}, byte ptr [{at}]", HPET, FILL), dword),
        ("MOVSX r64, byte", load!("movsx {value:r}, byte ptr [{at}]", HPET, FILL), u64::MAX),
        ("MOVSX r64, word", load!("movsx {value:r}, word ptr [{at}]", HPET, FILL), u64::MAX),
        ("MOVSXD r64, dword", load!("movsxd {value:r}, dword ptr [{at}]", HPET, FILL), u64::MAX),
        ("MOV r8", load!("mov {value:l}, [{at}]", HPET, FILL), FILL | byte),
        ("MOV r16", load!("mov {value:x}, [{at}]", HPET, FILL), FILL | word),
        ("MOV r32", load!("mov {value:e}, [{at}]", HPET, FILL), dword),
    ];
    list.into_iter().try_for_each(|(name, got, expected)| same(name, got, expected))
}

fn registers(_: &BootParams) -> Outcome {
    const FILL: u64 = 0x1122_3344_5566_7788;
    const HIGH_BYTE: u64 = 0xFF00;
    let (high, r8, r15, sp, absolute): (u64, u64, u64, u64, u64);
    // SAFETY: there is no memory at the address, so that a read has no effect; RSP is put back
    // at once, and interrupts are off.
    unsafe {
        asm!("mov ah, [{at}]", at = in(reg_abcd) HPET, inout("rax") FILL => high, options(nostack));
        asm!("mov r8b, [{at}]", at = in(reg) HPET, inout("r8") FILL => r8, options(nostack));
        asm!("mov r15, [{at}]", at = in(reg) HPET, inout("r15") FILL => r15, options(nostack));
        asm!("mov {saved}, rsp", "mov esp, [{at}]", "xchg {saved}, rsp",
            saved = out(reg) sp, at = in(reg) HPET);
        asm!(".byte 0xa0", ".quad {at}", at = const HPET, inout("rax") FILL => absolute,
            options(nostack));
    }
    same("RAX after AH", high, FILL & !HIGH_BYTE | HIGH_BYTE)?;
    same("R8 after R8B", r8, FILL | u64::from(u8::MAX))?;
    same("R15", r15, u64::MAX)?;
    same("RSP after ESP", sp, u32::MAX.into())?;
    same("RAX after an absolute MOV AL", absolute, FILL | u64::from(u8::MAX))
}

fn writes(_: &BootParams) -> Outcome {
    for at in PLACES {
        // SAFETY: there is no memory at the address.
        unsafe {
            asm!("mov [{at}], {value:l}", at = in(reg) at, value = in(reg_abcd) 0u64);
            asm!("mov [{at}], {value:x}", at = in(reg) at, value = in(reg) 0u64);
            asm!("mov [{at}], {value:e}", at = in(reg) at, value = in(reg) 0u64);
            asm!("mov [{at}], {value:r}", at = in(reg) at, value = in(reg) 0u64);
            asm!("mov byte ptr [{at}], 0x12", at = in(reg) at);
            asm!("mov word ptr [{at}], 0x1234", at = in(reg) at);
            asm!("mov dword ptr [{at}], 0x12345678", at = in(reg) at);
            asm!("mov qword ptr [{at}], 0x12345678", at = in(reg) at);
        }
        let value = load!("mov {value:r}, [{at}]", at, 0);
        same(format_args!("what is at {at:#x} afterwards"), value, u64::MAX)?;
    }
    Ok(())
}
