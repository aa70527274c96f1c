//! Leaving one stack and address space for another.

use super::address::{HostPhysical, HostVirtual};
use core::arch::asm;

/// Loads CR3 and RSP and calls `entry(argument)`, which never returns.
///
/// # Safety
/// The new tables must map the running code, the stack and all that `entry` uses; nothing may
/// count on the old stack any more.
pub unsafe fn enter(
    root: HostPhysical,
    top: HostVirtual,
    entry: extern "C" fn(u64) -> !,
    argument: u64,
) -> ! {
    // SAFETY: the caller's contract. RBP is zeroed to end backtraces here; the call leaves the
    // stack aligned as the ABI wants it.
    unsafe {
        asm!(
            "mov cr3, {root}",
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {entry}",
            "ud2",
            root = in(reg) root.as_u64(),
            top = in(reg) top.as_u64(),
            entry = in(reg) entry,
            in("rdi") argument,
            options(noreturn),
        )
    }
}
