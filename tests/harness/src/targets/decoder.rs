//! The decoder of MMIO accesses: any bytes as an instruction.

use crate::input::Input;
use bulkhead::guest::mmio::{
    CodeSize, DecodeError, Direction, GENERAL_REGISTERS, MAX_INSTRUCTION, MmioAccess, Source,
    decode,
};

/// An instruction that is taken is as long as it says, accesses what a register can hold, and changes the register that it
/// names and no other.
pub fn decoder(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let size = input.choose(&[CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64]);
    let value = input.u64();
    let bytes = input.bytes(MAX_INSTRUCTION + 1);
    let access = match decode(bytes, size) {
        Ok(access) => access,
        Err(error) => {
            // With bytes missing it is not known what it would be; with all of them it is.
            let whole = bytes.len() >= MAX_INSTRUCTION;
            assert!(!(whole && error == DecodeError::Truncated), "{bytes:02x?}");
            return error.to_string();
        }
    };
    let length = usize::from(access.length);
    assert!((1..=MAX_INSTRUCTION).contains(&length) && length <= bytes.len());
    assert!(matches!(access.size, 1 | 2 | 4 | 8), "{access:?}");
    assert_eq!(decode(&bytes[..length], size), Ok(access), "what follows does not matter");
    for shorter in 0..length {
        assert_eq!(decode(&bytes[..shorter], size), Err(DecodeError::Truncated));
    }
    let wide = access.size == 8
        || matches!(access.direction, Direction::Read { into, .. } if into.width() == 8);
    assert!(!wide || size == CodeSize::Bits64, "there are no 64-bit registers: {access:?}");
    check_registers(&access, value);
    format!(
        "{} of {} bytes",
        if matches!(access.direction, Direction::Read { .. }) { "read" } else { "write" },
        access.size
    )
}

fn check_registers(access: &MmioAccess, value: u64) {
    let before: [u64; GENERAL_REGISTERS] =
        std::array::from_fn(|at| 0x0101_0101_0101_0101 * at as u64);
    let fits = |value: u64| access.size == 8 || value >> (8 * u32::from(access.size)) == 0;
    let mut after = before;
    access.complete_read(&mut after, value);
    match access.direction {
        Direction::Read { into, .. } => {
            let number = usize::from(into.number());
            assert!(number < GENERAL_REGISTERS && into.width() >= access.size);
            let others = |at: &usize| *at != number;
            assert!((0..GENERAL_REGISTERS).filter(others).all(|at| after[at] == before[at]));
            let low = u64::MAX >> (64 - 8 * u32::from(access.size));
            assert_eq!(into.get(&after) & low, value & low, "what the device said arrives");
            assert_eq!(access.written(&before), None);
        }
        Direction::Write { source } => {
            assert_eq!(after, before);
            let written = access.written(&before).expect("a write has a value");
            assert!(fits(written), "{access:?} {written:#x}");
            if let Source::Register(from) = source {
                assert_eq!(written, from.get(&before));
            }
        }
    }
}
