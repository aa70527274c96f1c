//! Hypercalls of a hypervisor that was built to be tested. No other has any.

use super::Vcpu;
use crate::arch::switch::{Registers, reg};
use crate::vmx::vmcs::GuestField;

/// RAX of the hypercall that panics: "panic" in ASCII.
const PANIC: u64 = 0x70_616e_6963;
/// RAX of the hypercall that makes the next VM entry fail: "entry" in ASCII.
const FAILED_ENTRY: u64 = 0x65_6e74_7279;

impl Vcpu {
    /// Does a hypercall, if it is one of these.
    #[expect(clippy::panic, reason = "it is asked for")]
    pub(super) fn test_call(&mut self, registers: &Registers) {
        match registers.0[reg::RAX] {
            PANIC => panic!("a panic was asked for"),
            // Bit 1 of RFLAGS must be 1 (SDM Vol. 3C, 27.3.1.4).
            FAILED_ENTRY => self.vmcs.write(GuestField::RFLAGS, 0),
            _ => {}
        }
    }
}
