//! Hypercalls of a hypervisor that was built to be tested. No other has any.

use super::Vcpu;
use crate::arch::switch::{Registers, reg};
use crate::vmx::vmcs::GuestField;
use core::hint::black_box;

/// RAX of the hypercall that panics: "panic" in ASCII.
const PANIC: u64 = 0x70_616e_6963;
/// RAX of the hypercall that makes the next VM entry fail: "entry" in ASCII.
const FAILED_ENTRY: u64 = 0x65_6e74_7279;
/// RAX of the hypercall that calls itself without an end: "stack" in ASCII.
const STACK: u64 = 0x73_7461_636b;

impl Vcpu {
    /// Does a hypercall, if it is one of these.
    #[expect(clippy::panic, reason = "it is asked for")]
    pub(super) fn test_call(&mut self, registers: &Registers) {
        match registers.0[reg::RAX] {
            PANIC => panic!("a panic was asked for"),
            STACK => _ = deeper(0),
            // Bit 1 of RFLAGS must be 1 (SDM Vol. 3C, 27.3.1.4).
            FAILED_ENTRY => self.vmcs.write(GuestField::RFLAGS, 0),
            _ => {}
        }
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
