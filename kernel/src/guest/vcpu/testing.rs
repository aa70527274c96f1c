//! Hypercalls of a hypervisor that was built to be tested. No other has any.

use super::Vcpu;
use crate::arch::switch::{Registers, reg};
use crate::arch::testing::host_msrs;
use crate::vmx::vmcs::GuestField;
use core::hint::black_box;

/// RAX of the hypercall that panics: "panic" in ASCII.
const PANIC: u64 = 0x70_616e_6963;
/// RAX of the hypercall that makes the next VM entry fail: "entry" in ASCII.
const FAILED_ENTRY: u64 = 0x65_6e74_7279;
/// RAX of the hypercall that calls itself without an end: "stack" in ASCII.
const STACK: u64 = 0x73_7461_636b;
/// RAX of the hypercall that compares this core's model-specific registers with those of its start: "msrs" in ASCII. Afterwards
/// RAX says how many differ, RCX how many there are, and RDX which is the first that differs, or 0.
const REGISTERS: u64 = 0x6d73_7273;

impl Vcpu {
    /// Does a hypercall, if it is one of these. Says whether RAX has its answer.
    #[expect(clippy::panic, reason = "it is asked for")]
    pub(super) fn test_call(&mut self, registers: &mut Registers) -> bool {
        match registers.0[reg::RAX] {
            PANIC => panic!("a panic was asked for"),
            STACK => _ = deeper(0),
            // Bit 1 of RFLAGS must be 1 (SDM Vol. 3C, 27.3.1.4).
            FAILED_ENTRY => self.vmcs.write(GuestField::RFLAGS, 0),
            REGISTERS => {
                let seen = host_msrs::compare();
                registers.0[reg::RAX] = seen.changed as u64;
                registers.0[reg::RCX] = seen.registers as u64;
                registers.0[reg::RDX] = seen.first.map_or(0, |(msr, ..)| msr.into());
                return true;
            }
            _ => {}
        }
        false
    }
}

/// Has a page and more on the stack, and calls itself.
#[expect(unconditional_recursion, reason = "it is asked for")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let mut room = [depth; 0x2000 / size_of::<u64>()];
    black_box(&mut room);
    deeper(depth.wrapping_add(1)).wrapping_add(black_box(&room).iter().sum())
}
