//! The VMX instructions (SDM Vol. 3C, chapter 31).

use super::address::HostPhysical;
use core::arch::asm;

/// An instruction failed (SDM Vol. 3C, 31.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmFail {
    /// VMfailInvalid: there is no current VMCS.
    Invalid,
    /// VMfailValid: the number is in the VMCS's VM-instruction error field.
    Valid,
}

/// Enters VMX operation.
///
/// # Safety
/// CR0, CR4 and `IA32_FEATURE_CONTROL` must allow it (SDM Vol. 3C, 24.7); `region` is a frame of the
/// caller's with the VMCS revision in its first word, given to the processor until VMXOFF.
pub unsafe fn vmxon(region: HostPhysical) -> Result<(), VmFail> {
    let region = region.as_u64();
    // SAFETY: the caller's contract.
    unsafe {
        let (carry, zero): (u8, u8);
        asm!("vmxon [{at}]", "setc {carry}", "setz {zero}", at = in(reg) &region,
            carry = out(reg_byte) carry, zero = out(reg_byte) zero, options(nostack));
        if carry | zero == 0 { Ok(()) } else { Err(VmFail::Invalid) }
    }
}

/// Writes a VMCS back to memory and makes it "clear".
///
/// # Safety
/// `region` must be a VMCS region of the caller's.
pub unsafe fn vmclear(region: HostPhysical) -> Result<(), VmFail> {
    let region = region.as_u64();
    // SAFETY: the caller's contract.
    unsafe {
        let (carry, zero): (u8, u8);
        asm!("vmclear [{at}]", "setc {carry}", "setz {zero}", at = in(reg) &region,
            carry = out(reg_byte) carry, zero = out(reg_byte) zero, options(nostack));
        result(carry, zero)
    }
}

/// Makes a VMCS this core's current one.
///
/// # Safety
/// `region` must be a VMCS region of the caller's that is not active on another core.
pub unsafe fn vmptrld(region: HostPhysical) -> Result<(), VmFail> {
    let region = region.as_u64();
    // SAFETY: the caller's contract.
    unsafe {
        let (carry, zero): (u8, u8);
        asm!("vmptrld [{at}]", "setc {carry}", "setz {zero}", at = in(reg) &region,
            carry = out(reg_byte) carry, zero = out(reg_byte) zero, options(nostack));
        result(carry, zero)
    }
}

fn result(carry: u8, zero: u8) -> Result<(), VmFail> {
    match (carry, zero) {
        (0, 0) => Ok(()),
        (0, _) => Err(VmFail::Valid),
        _ => Err(VmFail::Invalid),
    }
}

/// Reads a field of the current VMCS. No check of the outcome: fields are
/// constants that the capability check has found to exist, and this is on the
/// path of every exit.
///
/// # Safety
/// A VMCS must be current on this core.
#[inline(always)]
pub unsafe fn vmread(field: u32) -> u64 {
    let value: u64;
    // SAFETY: the caller's contract.
    unsafe {
        asm!("vmread {}, {}", out(reg) value, in(reg) u64::from(field), options(nomem, nostack));
    }
    value
}

/// Reads a field of the current VMCS; `None` where the processor has no such field.
///
/// # Safety
/// A VMCS must be current on this core.
pub unsafe fn vmread_checked(field: u32) -> Option<u64> {
    let (value, carry, zero): (u64, u8, u8);
    // SAFETY: the caller's contract.
    unsafe {
        asm!("vmread {}, {}", "setc {carry}", "setz {zero}", out(reg) value,
            in(reg) u64::from(field), carry = out(reg_byte) carry, zero = out(reg_byte) zero,
            options(nomem, nostack));
    }
    (carry | zero == 0).then_some(value)
}

/// Writes a field of the current VMCS; unchecked for the reason given at [`vmread`].
///
/// # Safety
/// A VMCS must be current on this core; the caller answers for what the field does.
#[inline(always)]
pub unsafe fn vmwrite(field: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nostack)) };
}

/// Writes a field of the current VMCS and says whether the processor took it.
///
/// # Safety
/// As [`vmwrite`].
pub unsafe fn vmwrite_checked(field: u32, value: u64) -> Result<(), VmFail> {
    let (carry, zero): (u8, u8);
    // SAFETY: the caller's contract.
    unsafe {
        asm!("vmwrite {}, {}", "setc {carry}", "setz {zero}", in(reg) u64::from(field),
            in(reg) value, carry = out(reg_byte) carry, zero = out(reg_byte) zero,
            options(nostack));
    }
    result(carry, zero)
}

/// Invalidates everything that this core has cached of any EPT (type 2, SDM Vol. 3C, 31.3).
///
/// # Safety
/// The core must be in VMX operation, and INVEPT with type 2 must be supported.
pub unsafe fn invept_all() {
    let descriptor = [0u64; 2];
    // SAFETY: the caller's contract.
    unsafe { asm!("invept {}, [{}]", in(reg) 2u64, in(reg) &descriptor, options(nostack)) };
}

/// Invalidates everything that this core has cached of any VPID (type 2).
///
/// # Safety
/// The core must be in VMX operation, and INVVPID with type 2 must be supported.
pub unsafe fn invvpid_all() {
    let descriptor = [0u64; 2];
    // SAFETY: the caller's contract.
    unsafe { asm!("invvpid {}, [{}]", in(reg) 2u64, in(reg) &descriptor, options(nostack)) };
}

/// Makes the next entry of the current VMCS exit before its first instruction: the VMX-preemption
/// timer, at zero (SDM Vol. 3C, 26.5.1). The exit's handler switches the timer off again.
///
/// # Safety
/// A VMCS must be current on this core; the processor has the timer.
pub unsafe fn exit_at_next_entry() {
    use x86::vmx::vmcs::{control, guest};
    /// Pin-based control "activate VMX-preemption timer" (SDM Vol. 3C, table 25-5).
    const TIMER: u64 = 1 << 6;
    // SAFETY: the caller's contract. The control causes an exit more, never one less.
    unsafe {
        vmwrite(guest::VMX_PREEMPTION_TIMER_VALUE, 0);
        let controls = vmread(control::PINBASED_EXEC_CONTROLS);
        vmwrite(control::PINBASED_EXEC_CONTROLS, controls | TIMER);
    }
}
