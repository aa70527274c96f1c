//! Tests of the decoder: encodings with what an assembler's manual says of them.

use super::*;
use proptest::prelude::*;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;
const RSI: u8 = 6;
const R9: u8 = 9;
const R15: u8 = 15;

const fn low(number: u8, width: u8) -> Register {
    Register { number, width, high: false }
}

const fn high(number: u8) -> Register {
    Register { number, width: 1, high: true }
}

const fn read(size: u8, into: Register) -> (u8, Direction) {
    (size, Direction::Read { into, extend: Extend::None })
}

const fn wide(size: u8, into: Register, extend: Extend) -> (u8, Direction) {
    (size, Direction::Read { into, extend })
}

const fn write(size: u8, register: Register) -> (u8, Direction) {
    (size, Direction::Write { source: Source::Register(register) })
}

const fn immediate(size: u8, value: u64) -> (u8, Direction) {
    (size, Direction::Write { source: Source::Immediate(value) })
}

/// Each decodes to its whole length.
#[track_caller]
fn check(mode: CodeSize, encodings: &[(&[u8], (u8, Direction))]) {
    for &(bytes, (size, direction)) in encodings {
        let expected = MmioAccess { length: bytes.len() as u8, size, direction };
        assert_eq!(decode(bytes, mode), Ok(expected), "{bytes:02x?}");
        // What follows is another instruction; what is missing makes it incomplete.
        let followed = [bytes, &[0xCC; 3]].concat();
        assert_eq!(decode(&followed, mode), Ok(expected), "{bytes:02x?}");
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], mode), Err(DecodeError::Truncated), "{bytes:02x?}");
        }
    }
}

#[test]
fn moves_in_64_bit_mode() {
    check(
        CodeSize::Bits64,
        &[
            (&[0x8B, 0x00], read(4, low(RAX, 4))),      // mov eax, [rax]
            (&[0x44, 0x8B, 0x0E], read(4, low(R9, 4))), // mov r9d, [rsi]
            (&[0x48, 0x8B, 0x43, 0x08], read(8, low(RAX, 8))), // mov rax, [rbx+8]
            (&[0x66, 0x8B, 0x0A], read(2, low(RCX, 2))), // mov cx, [rdx]
            (&[0x8A, 0x20], read(1, high(RAX))),        // mov ah, [rax]
            (&[0x8A, 0x38], read(1, high(RBX))),        // mov bh, [rax]
            (&[0x40, 0x8A, 0x30], read(1, low(RSI, 1))), // mov sil, [rax]
            (&[0x8A, 0x10], read(1, low(RDX, 1))),      // mov dl, [rax]
            (&[0x8B, 0x04, 0x25, 0xF0, 0, 0xE0, 0xFE], read(4, low(RAX, 4))), // mov eax, [disp32]
            (&[0x8B, 0x05, 1, 2, 3, 4], read(4, low(RAX, 4))), // mov eax, [rip+disp32]
            // mov eax, [moffs64]; mov [moffs64], al
            (&[0xA1, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0], read(4, low(RAX, 4))),
            (&[0xA2, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0], write(1, low(RAX, 1))),
            (&[0x89, 0x0A], write(4, low(RCX, 4))), // mov [rdx], ecx
            (&[0x4D, 0x89, 0x3C, 0x24], write(8, low(R15, 8))), // mov [r12], r15
            (&[0x66, 0x45, 0x89, 0x08], write(2, low(R9, 2))), // mov [r8], r9w
            (&[0x88, 0x2A], write(1, high(RCX))),   // mov [rdx], ch
            (&[0x44, 0x88, 0x0A], write(1, low(R9, 1))), // mov [rdx], r9b
            (&[0xC7, 0x00, 1, 2, 3, 0x84], immediate(4, 0x8403_0201)),
            (&[0x48, 0xC7, 0x00, 0, 0, 0, 0x80], immediate(8, 0xFFFF_FFFF_8000_0000)),
            (&[0x66, 0xC7, 0x00, 0xFE, 0xFF], immediate(2, 0xFFFE)),
            (&[0xC6, 0x00, 0x80], immediate(1, 0x80)),
            // mov dword ptr gs:[rax+rbx*4+disp32], imm32, with the address size overridden
            (&[0x65, 0x67, 0xC7, 0x84, 0x98, 0xB0, 0, 0, 0, 0, 0, 0, 0], immediate(4, 0)),
        ],
    );
}

#[test]
fn widening_moves() {
    check(
        CodeSize::Bits64,
        &[
            (&[0x0F, 0xB6, 0x01], wide(1, low(RAX, 4), Extend::Zero)), // movzx eax, byte [rcx]
            (&[0x48, 0x0F, 0xB7, 0x01], wide(2, low(RAX, 8), Extend::Zero)), // movzx rax, word
            (&[0x66, 0x0F, 0xB6, 0x11], wide(1, low(RDX, 2), Extend::Zero)), // movzx dx, byte
            (&[0x4C, 0x0F, 0xBE, 0x09], wide(1, low(R9, 8), Extend::Sign)), // movsx r9, byte
            (&[0x0F, 0xBF, 0x19], wide(2, low(RBX, 4), Extend::Sign)), // movsx ebx, word
            (&[0x48, 0x63, 0x01], wide(4, low(RAX, 8), Extend::Sign)), // movsxd rax, dword
        ],
    );
}

#[test]
fn moves_in_32_and_16_bit_code() {
    check(
        CodeSize::Bits32,
        &[
            (&[0xA1, 0x20, 0, 0xE0, 0xFE], read(4, low(RAX, 4))), // mov eax, [moffs32]
            (&[0xA3, 0xB0, 0, 0xE0, 0xFE], write(4, low(RAX, 4))), // mov [moffs32], eax
            (&[0x66, 0x89, 0x0B], write(2, low(RCX, 2))),
            (&[0xC7, 0x05, 0xB0, 0, 0xE0, 0xFE, 0, 0, 0, 0], immediate(4, 0)),
        ],
    );
    check(
        CodeSize::Bits16,
        &[
            (&[0x66, 0x67, 0x89, 0x0B], write(4, low(RCX, 4))), // mov [ebx], ecx
            (&[0x89, 0x07], write(2, low(RAX, 2))),             // mov [bx], ax
        ],
    );
}

#[test]
fn other_instructions_are_refused() {
    use DecodeError::{Invalid, UnsupportedInstruction};
    let encodings: [(&[u8], DecodeError); 13] = [
        (&[0x89, 0xC8], UnsupportedInstruction),       // mov eax, ecx
        (&[0xB8, 1, 0, 0, 0], UnsupportedInstruction), // mov eax, 1
        (&[0x8C, 0x18], UnsupportedInstruction),       // mov [rax], ds
        (&[0x8E, 0x18], UnsupportedInstruction),       // mov ds, [rax]
        (&[0x0F, 0x22, 0xC0], UnsupportedInstruction), // mov cr0, rax
        (&[0x0F, 0xB6, 0xC1], UnsupportedInstruction), // movzx eax, cl
        (&[0x09, 0x08], UnsupportedInstruction),       // or [rax], ecx
        (&[0x87, 0x08], UnsupportedInstruction),       // xchg [rax], ecx
        (&[0xF3, 0xA5], UnsupportedInstruction),       // rep movsd
        (&[0x0F, 0x11, 0x00], UnsupportedInstruction), // movups [rax], xmm0
        (&[0xF0, 0x89, 0x08], Invalid),                // lock mov
        (&[0x06, 0xC0], Invalid),                      // push es, not in 64-bit mode
        (&[0x66; 16], Invalid),                        // more prefixes than fit
    ];
    for (bytes, error) in encodings {
        assert_eq!(decode(bytes, CodeSize::Bits64), Err(error), "{bytes:02x?}");
    }
}

/// Registers with a value that shows which bytes were touched.
const BEFORE: u64 = 0x1122_3344_5566_7788;

fn after_read(size: u8, into: Register, extend: Extend, value: u64) -> u64 {
    let mut registers = [BEFORE; GENERAL_REGISTERS];
    let access = MmioAccess { length: 2, size, direction: Direction::Read { into, extend } };
    access.complete_read(&mut registers, value);
    let changed = registers[usize::from(into.number())];
    registers[usize::from(into.number())] = BEFORE;
    assert_eq!(registers, [BEFORE; GENERAL_REGISTERS], "another register changed");
    changed
}

#[test]
fn reads_touch_what_the_processor_would() {
    const VALUE: u64 = 0xF1F2_F3F4_F5F6_F7F8;
    let none = Extend::None;
    assert_eq!(after_read(8, low(RCX, 8), none, VALUE), VALUE);
    assert_eq!(after_read(4, low(R15, 4), none, VALUE), 0xF5F6_F7F8);
    assert_eq!(after_read(2, low(RAX, 2), none, VALUE), 0x1122_3344_5566_F7F8);
    assert_eq!(after_read(1, low(RSI, 1), none, VALUE), 0x1122_3344_5566_77F8);
    assert_eq!(after_read(1, high(RBX), none, VALUE), 0x1122_3344_5566_F888);
    assert_eq!(after_read(1, low(RAX, 4), Extend::Zero, VALUE), 0xF8);
    assert_eq!(after_read(1, low(RAX, 2), Extend::Zero, VALUE), 0x1122_3344_5566_00F8);
    assert_eq!(after_read(1, low(RAX, 2), Extend::Sign, VALUE), 0x1122_3344_5566_FFF8);
    assert_eq!(after_read(2, low(RAX, 4), Extend::Sign, VALUE), 0xFFFF_F7F8);
    assert_eq!(after_read(4, low(RAX, 8), Extend::Sign, VALUE), 0xFFFF_FFFF_F5F6_F7F8);
    assert_eq!(after_read(4, low(RAX, 8), Extend::Sign, 0x7FFF_FFFF), 0x7FFF_FFFF);
}

#[test]
fn writes_take_the_registers_part() {
    let registers = core::array::from_fn(|number| BEFORE + number as u64);
    let written = |size, register| {
        let direction = Direction::Write { source: Source::Register(register) };
        MmioAccess { length: 2, size, direction }.written(&registers)
    };
    assert_eq!(written(8, low(R9, 8)), Some(BEFORE + 9));
    assert_eq!(written(4, low(RAX, 4)), Some(0x5566_7788));
    assert_eq!(written(2, low(RCX, 2)), Some(0x7789));
    assert_eq!(written(1, low(RDX, 1)), Some(0x8A));
    assert_eq!(written(1, high(RDX)), Some(0x77));
    let access = decode(&[0x48, 0xC7, 0x00, 0xFF, 0xFF, 0xFF, 0xFF], CodeSize::Bits64).unwrap();
    assert_eq!(access.written(&registers), Some(u64::MAX));
    let read = decode(&[0x8B, 0x00], CodeSize::Bits64).unwrap();
    assert_eq!(read.written(&registers), None);
}

#[test]
fn code_size_follows_the_segment() {
    assert_eq!(CodeSize::new(true, true, false), CodeSize::Bits64);
    assert_eq!(CodeSize::new(true, false, true), CodeSize::Bits32);
    assert_eq!(CodeSize::new(false, true, true), CodeSize::Bits32); // L is ignored outside IA-32e mode
    assert_eq!(CodeSize::new(false, false, false), CodeSize::Bits16);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        registers: [u64; GENERAL_REGISTERS], value: u64,
    ) {
        for mode in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
            if let Ok(access) = decode(&bytes, mode) {
                prop_assert!(usize::from(access.length) <= bytes.len().min(MAX_INSTRUCTION));
                prop_assert!([1, 2, 4, 8].contains(&access.size));
                let written = access.written(&registers);
                prop_assert!(written.is_none_or(|value| value & !mask(access.size) == 0));
                access.complete_read(&mut registers.clone(), value);
            }
        }
    }
}
