//! Copies to and from memory that somebody else may be changing.

use core::arch::asm;

/// Copies `len` bytes. Written in assembly because the other side may be guest
/// memory, which changes under our feet: a race that Rust's memory model does
/// not allow for ordinary accesses.
///
/// # Safety
/// Both ranges must be mapped, the destination writable, and they must not overlap.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's contract; the ABI keeps DF clear.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// Sets `len` bytes to zero, eight at a time.
///
/// # Safety
/// The range must be mapped and writable.
pub unsafe fn zero(at: *mut u8, len: usize) {
    // SAFETY: the caller's contract; the ABI keeps DF clear.
    unsafe {
        asm!("rep stosq", inout("rcx") len / 8 => _, inout("rdi") at => _, in("rax") 0u64,
            options(nostack, preserves_flags));
        let done = len & !7;
        asm!("rep stosb", inout("rcx") len - done => _, inout("rdi") at.add(done) => _, in("al") 0u8,
            options(nostack, preserves_flags));
    }
}
