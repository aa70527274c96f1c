//! Tries what may fault, and says what the processor did: for the self-test of a build to be tested.
//!
//! Each probe is one instruction at a known address. When it faults, the handler asks [`resume`], which has the probe
//! return what followed. A fault anywhere else is fatal as always.

use crate::arch::interrupts::{GENERAL_PROTECTION, PAGE_FAULT};
use core::arch::global_asm;

/// How an address is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A byte is read.
    Read,
    /// A byte is read and written, as it is.
    Write,
    /// It is called: there must be a RET.
    Execute,
}

/// Error codes of page faults (SDM Vol. 3A, 4.7).
pub mod code {
    /// The page is mapped: its rights forbid it.
    pub const PRESENT: u64 = 1 << 0;
    /// It was a write.
    pub const WRITE: u64 = 1 << 1;
    /// It was an instruction fetch.
    pub const FETCH: u64 = 1 << 4;
}

// Each takes the address, or the register's number, in RDI and returns 0 in RAX, or what `resume` says. A RET is there to be
// called, too.
global_asm!(
    r#"
    .pushsection .text.probe, "ax", @progbits
    .global bulkhead_probe_read
    bulkhead_probe_read:
        mov cl, [rdi]
        xor eax, eax
        ret
    .global bulkhead_probe_write
    bulkhead_probe_write:
        lock or byte ptr [rdi], 0
        xor eax, eax
        ret
    .global bulkhead_probe_execute
    bulkhead_probe_execute:
        call rdi
    .global bulkhead_probe_called
    bulkhead_probe_called:
        xor eax, eax
        ret
    .global bulkhead_probe_rdmsr
    bulkhead_probe_rdmsr:
        mov ecx, edi
    .global bulkhead_probe_rdmsr_itself
    bulkhead_probe_rdmsr_itself:
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov [rsi], rax
        xor eax, eax
    .global bulkhead_probe_return
    bulkhead_probe_return:
        ret
    .popsection
    "#
);

unsafe extern "C" {
    fn bulkhead_probe_read(at: u64) -> u64;
    fn bulkhead_probe_write(at: u64) -> u64;
    fn bulkhead_probe_execute(at: u64) -> u64;
    fn bulkhead_probe_rdmsr(number: u32, value: *mut u64) -> u64;
    static bulkhead_probe_called: u8;
    static bulkhead_probe_rdmsr_itself: u8;
    static bulkhead_probe_return: u8;
}

/// Set in what a probe returns that faulted; below it is the error code.
const FAULTED: u64 = 1 << 63;

/// Touches an address.
///
/// # Errors
/// The page fault's error code.
///
/// # Safety
/// If the access succeeds it must hurt nobody: a write leaves the byte as it is, but is a write; what is executed must be a RET.
pub unsafe fn touch(access: Access, at: u64) -> Result<(), u64> {
    // SAFETY: the caller's contract; a fault comes back here.
    let followed = unsafe {
        match access {
            Access::Read => bulkhead_probe_read(at),
            Access::Write => bulkhead_probe_write(at),
            Access::Execute => bulkhead_probe_execute(at),
        }
    };
    if followed & FAULTED == 0 { Ok(()) } else { Err(followed & !FAULTED) }
}

/// Reads a model-specific register, if there is one of this number.
pub fn rdmsr(number: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: reading has no side effect on those that are asked for; a fault comes back here.
    let followed = unsafe { bulkhead_probe_rdmsr(number, &raw mut value) };
    (followed & FAULTED == 0).then_some(value)
}

/// Address of a RET in the hypervisor's code.
pub fn own_return() -> u64 {
    &raw const bulkhead_probe_return as u64
}

/// What a fault's handler goes on with.
pub struct Resumption {
    /// Where.
    pub rip: u64,
    /// With which stack pointer.
    pub rsp: u64,
    /// What is in RAX there.
    pub rax: u64,
}

/// If a probe has faulted: what to go on with.
pub fn resume(vector: u8, error_code: u64, rip: u64, rsp: u64) -> Option<Resumption> {
    let (rip, rax) = (rip as usize, FAULTED | error_code);
    let resumption = Resumption { rip: own_return(), rsp, rax };
    let touched = [bulkhead_probe_read, bulkhead_probe_write].map(|probe| probe as usize);
    match vector {
        PAGE_FAULT if touched.contains(&rip) => Some(resumption),
        PAGE_FAULT if error_code & code::FETCH != 0 => {
            let called = &raw const bulkhead_probe_called as u64;
            // SAFETY: the stack is this core's own; a fetch that faults has not changed it.
            let caller = unsafe { *(rsp as *const u64) };
            // The CALL has been done: its return address goes.
            (caller == called).then_some(Resumption { rsp: rsp + 8, ..resumption })
        }
        GENERAL_PROTECTION if rip == &raw const bulkhead_probe_rdmsr_itself as usize => {
            Some(resumption)
        }
        _ => None,
    }
}
