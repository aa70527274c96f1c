//! INS and OUTS: I/O between a port and memory (SDM Vol. 3C, table 28-5).

use super::super::report;
use super::super::walk::{self, GuestVirtual, WalkError};
use super::event::Exception;
use super::{Served, Vcpu};
use crate::arch::cpu;
use crate::arch::switch::{Registers, reg};
use crate::device::platform::Width;
use crate::memory::{GuestMemory, GuestPhysical};
use crate::vmx::exit::{IoDirection, IoInstruction};
use crate::vmx::vmcs::{GuestField, InfoField};

/// Elements moved at one exit: so that a long REP cannot keep the core in root
/// mode. The instruction is resumed for the rest.
const AT_ONCE: u64 = 64;
/// Destination index in [`Registers`].
const RDI: usize = 7;
/// RFLAGS.DF.
const DIRECTION_FLAG: u64 = 1 << 10;
/// VM-exit instruction information: address size in bits 9:7 (SDM Vol. 3C, table 28-9).
const ADDRESS_SIZE_SHIFT: u64 = 7;
/// Page-fault error codes: write (bit 1).
const FAULT_WRITE: u32 = 1 << 1;

/// Bits of the registers that count and index.
fn address_mask(instruction_info: u64) -> u64 {
    match instruction_info >> ADDRESS_SIZE_SHIFT & 0b111 {
        0 => 0xFFFF,
        1 => 0xFFFF_FFFF,
        _ => u64::MAX,
    }
}

/// Puts `value` into the part of a register that an address size uses: a 32-bit write clears the upper half.
fn replace(register: &mut u64, value: u64, mask: u64) {
    *register = if mask == 0xFFFF { *register & !mask | value & mask } else { value & mask };
}

pub(super) fn serve(
    vcpu: &mut Vcpu,
    registers: &mut Registers,
    access: &IoInstruction,
    width: Width,
) -> Served {
    // The exit comes before any check of the memory's protection, which the walk below does not
    // do for user code: only the guest's kernel gets string I/O.
    if report::privilege_level(&vcpu.vmcs) != 0 {
        return Served::Inject(Exception::GeneralProtection);
    }
    let mask = address_mask(vcpu.vmcs.info(InfoField::INSTRUCTION_INFO));
    let count = if access.rep { registers.0[reg::RCX] & mask } else { 1 };
    let backwards = vcpu.vmcs.read(GuestField::RFLAGS) & DIRECTION_FLAG != 0;
    let bytes = u64::from(width.bytes());
    let step = if backwards { bytes.wrapping_neg() } else { bytes };
    // The processor gives the linear address of the first element.
    let first = vcpu.vmcs.info(InfoField::GUEST_LINEAR);
    let now = count.min(AT_ONCE);
    let mut result = Served::Done;
    let mut moved = 0u64;
    while moved < now {
        let linear = first.wrapping_add(moved.wrapping_mul(step));
        match element(vcpu, access, width, linear) {
            Ok(Served::Done) => moved = moved.saturating_add(1),
            Ok(other) => {
                moved = moved.saturating_add(1);
                result = other;
                break;
            }
            Err(exception) => {
                result = Served::Inject(exception);
                break;
            }
        }
    }
    let pointer = match access.direction {
        IoDirection::In => &mut registers.0[RDI],
        IoDirection::Out => &mut registers.0[reg::RSI],
    };
    let advanced = pointer.wrapping_add(moved.wrapping_mul(step));
    replace(pointer, advanced, mask);
    if access.rep {
        let left = registers.0[reg::RCX].wrapping_sub(moved);
        replace(&mut registers.0[reg::RCX], left, mask);
    }
    match result {
        Served::Done if moved < count => Served::Again,
        other => other,
    }
}

/// Moves one element, byte by byte as it may straddle two pages.
fn element(
    vcpu: &mut Vcpu,
    access: &IoInstruction,
    width: Width,
    linear: u64,
) -> Result<Served, Exception> {
    let len = usize::from(width.bytes());
    let now = || vcpu.clock.now();
    let mut value = [0; 4];
    let mut places = [GuestPhysical::default(); 4];
    for (offset, place) in places.iter_mut().take(len).enumerate() {
        *place = locate(vcpu, linear.wrapping_add(offset as u64), access.direction)?;
    }
    match access.direction {
        IoDirection::In => {
            let Some(mut platform) = vcpu.shared.platform() else { return Ok(Served::Leave) };
            value = platform.port_read(access.port, width, now).to_le_bytes();
            drop(platform);
            for (place, byte) in places.iter().zip(&value).take(len) {
                // What is not RAM takes no writes.
                let _ = vcpu.ram.write(*place, core::slice::from_ref(byte));
            }
            Ok(Served::Done)
        }
        IoDirection::Out => {
            for (place, byte) in places.iter().zip(&mut value).take(len) {
                // What is not RAM reads as all ones.
                if vcpu.ram.read(*place, core::slice::from_mut(byte)).is_err() {
                    *byte = u8::MAX;
                }
            }
            let value = u32::from_le_bytes(value);
            let Some(mut platform) = vcpu.shared.platform() else { return Ok(Served::Leave) };
            let outcome = platform.port_write(access.port, width, value, now);
            drop(platform);
            Ok(vcpu.finish_access(outcome))
        }
    }
}

fn locate(vcpu: &Vcpu, linear: u64, direction: IoDirection) -> Result<GuestPhysical, Exception> {
    match walk::translate(&vcpu.ram, report::paging(&vcpu.vmcs), GuestVirtual::new(linear)) {
        Ok(at) => Ok(at),
        Err(WalkError::NotCanonical(_)) => Err(Exception::GeneralProtection),
        Err(WalkError::NotPresent { .. } | WalkError::NotRam(_)) => {
            // SAFETY: the page fault is about to be injected.
            unsafe { cpu::write_cr2(linear) };
            let write = if direction == IoDirection::In { FAULT_WRITE } else { 0 };
            Err(Exception::PageFault(write))
        }
    }
}
