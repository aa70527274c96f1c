//! Decodes the instruction behind an access to emulated MMIO.
//!
//! An EPT violation says which guest-physical address was accessed, not with which operand. Kernels
//! access device registers with plain moves, and only those are taken: MOV between memory and a
//! general register or from an immediate, MOVZX, MOVSX and MOVSXD. Anything else is an error,
//! and the guest's fault.

use core::fmt;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind};

/// Most bytes of an instruction (SDM Vol. 2A, 2.3.11).
pub const MAX_INSTRUCTION: usize = 15;
/// General registers, numbered as the hardware does: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
pub const GENERAL_REGISTERS: usize = 16;

/// Default operand and address size, from CS: `L` and `D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeSize {
    /// Real mode, or a 16-bit segment.
    Bits16,
    /// A 32-bit segment.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl CodeSize {
    /// From `IA32_EFER.LMA` and CS's `L` and `D` bits.
    pub const fn new(long_mode: bool, l: bool, d: bool) -> Self {
        match (long_mode && l, d) {
            (true, _) => Self::Bits64,
            (false, true) => Self::Bits32,
            (false, false) => Self::Bits16,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// A general register or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Hardware number, 0 to 15.
    number: u8,
    /// Bytes: 1, 2, 4 or 8.
    width: u8,
    /// The second byte: AH, CH, DH or BH.
    high: bool,
}

impl Register {
    /// Hardware number of the whole register, 0 to 15.
    pub const fn number(self) -> u8 {
        self.number
    }

    /// Bytes of the register that take part: 1, 2, 4 or 8.
    pub const fn width(self) -> u8 {
        self.width
    }

    fn from_iced(register: iced_x86::Register) -> Option<Self> {
        use iced_x86::Register as Iced;
        if !register.is_gpr() {
            return None;
        }
        Some(Self {
            number: u8::try_from(register.full_register().number()).ok()?,
            width: u8::try_from(register.size()).ok()?,
            high: matches!(register, Iced::AH | Iced::CH | Iced::DH | Iced::BH),
        })
    }

    const fn shift(self) -> u32 {
        if self.high { u8::BITS } else { 0 }
    }

    /// The register's value.
    pub fn get(self, registers: &[u64; GENERAL_REGISTERS]) -> u64 {
        let index = usize::from(self.number) % GENERAL_REGISTERS;
        let whole = registers.get(index).copied().unwrap_or(0);
        (whole >> self.shift()) & mask(self.width)
    }

    /// Sets the register: writing 4 bytes clears the upper half, writing fewer leaves the
    /// rest as it is (SDM Vol. 1, 3.4.1.1).
    pub fn set(self, registers: &mut [u64; GENERAL_REGISTERS], value: u64) {
        let index = usize::from(self.number) % GENERAL_REGISTERS;
        let Some(whole) = registers.get_mut(index) else { return };
        let value = value & mask(self.width);
        *whole = match self.width {
            1 | 2 => (*whole & !(mask(self.width) << self.shift())) | (value << self.shift()),
            _ => value,
        };
    }
}

/// The low `width` bytes.
const fn mask(width: u8) -> u64 {
    match u64::MAX.checked_shl((width as u32).saturating_mul(u8::BITS)) {
        Some(others) => !others,
        None => u64::MAX,
    }
}

/// How a value is made wider on its way into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// MOV: the register has the width of the access.
    None,
    /// MOVZX.
    Zero,
    /// MOVSX, MOVSXD.
    Sign,
}

/// Where a written value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A register of the access's width.
    Register(Register),
    /// A constant, cut to the access's width.
    Immediate(u64),
}

/// What the instruction does with the device's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads it.
    Read {
        /// Where the value goes.
        into: Register,
        /// How it gets there.
        extend: Extend,
    },
    /// Writes it.
    Write {
        /// Where the value comes from.
        source: Source,
    },
}

/// An access to MMIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioAccess {
    /// Length of the instruction, 1 to 15 bytes.
    pub length: u8,
    /// Bytes accessed: 1, 2, 4 or 8.
    pub size: u8,
    /// What is done with them.
    pub direction: Direction,
}

impl MmioAccess {
    /// The value that a write stores, or `None` for a read. `registers` holds RSP too.
    pub fn written(&self, registers: &[u64; GENERAL_REGISTERS]) -> Option<u64> {
        match self.direction {
            Direction::Read { .. } => None,
            Direction::Write { source: Source::Register(register) } => {
                Some(register.get(registers) & mask(self.size))
            }
            Direction::Write { source: Source::Immediate(value) } => Some(value),
        }
    }

    /// Gives a read the value that the device answered with; does nothing for a write.
    pub fn complete_read(&self, registers: &mut [u64; GENERAL_REGISTERS], value: u64) {
        if let Direction::Read { into, extend } = self.direction {
            let value = value & mask(self.size);
            let used = u32::from(self.size).saturating_mul(u8::BITS);
            let unused = u64::BITS.saturating_sub(used);
            let extended = match extend {
                Extend::None | Extend::Zero => value,
                // No bytes are zero, whatever the shift.
                Extend::Sign => (value.wrapping_shl(unused) as i64).wrapping_shr(unused) as u64,
            };
            into.set(registers, extended);
        }
    }
}

/// Why the bytes are not an access that is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within the instruction.
    Truncated,
    /// They are not an instruction.
    Invalid,
    /// An instruction that is not emulated on MMIO.
    UnsupportedInstruction,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "instruction bytes end too early",
            Self::Invalid => "bytes are not an instruction",
            Self::UnsupportedInstruction => "instruction is not one that is emulated on MMIO",
        })
    }
}

/// Lets the decoder build its tables, which it does at its first use: so that no exit
/// pays for them, nor allocates.
pub fn prepare() {
    const NOP: [u8; 1] = [0x90];
    // What becomes of it does not matter.
    let _ = decode(&NOP, CodeSize::Bits64);
}

/// Decodes the first instruction in `bytes`, the guest's code at its RIP.
pub fn decode(bytes: &[u8], mode: CodeSize) -> Result<MmioAccess, DecodeError> {
    let mut decoder = Decoder::new(mode.bits(), bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.code() == Code::INVALID {
        return Err(match decoder.last_error() {
            DecoderError::NoMoreBytes => DecodeError::Truncated,
            _ => DecodeError::Invalid,
        });
    }
    access(&instruction).ok_or(DecodeError::UnsupportedInstruction)
}

fn access(instruction: &Instruction) -> Option<MmioAccess> {
    let extend = match instruction.mnemonic() {
        Mnemonic::Mov => Extend::None,
        Mnemonic::Movzx => Extend::Zero,
        Mnemonic::Movsx | Mnemonic::Movsxd => Extend::Sign,
        _ => return None,
    };
    let size = u8::try_from(instruction.memory_size().size()).ok()?;
    let direction = match (instruction.op0_kind(), instruction.op1_kind()) {
        (OpKind::Register, OpKind::Memory) => {
            let into = Register::from_iced(instruction.op0_register())?;
            Direction::Read { into, extend }
        }
        (OpKind::Memory, OpKind::Register) => {
            let source = Register::from_iced(instruction.op1_register())?;
            Direction::Write { source: Source::Register(source) }
        }
        (OpKind::Memory, _) => {
            let value = instruction.try_immediate(1).ok()? & mask(size);
            Direction::Write { source: Source::Immediate(value) }
        }
        _ => return None,
    };
    let length = u8::try_from(instruction.len()).ok()?;
    Some(MmioAccess { length, size, direction })
}

#[cfg(test)]
mod tests;
