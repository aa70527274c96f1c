//! NMIs reach a core whatever it does, with interrupts off, halted, in its guest: they are how
//! one core asks another to look at what it has been told.
//!
//! An NMI carries nothing. Whoever sends one has said before, in memory, what is wanted. It finds a core in
//! one of three places:
//!
//! * in its guest: NMI exiting makes it an exit;
//! * in root mode, on the way back to its guest: what was said may have come after the core has
//!   looked. The handler makes the next VM entry exit at once, by the VMX-preemption timer;
//! * in root mode, in [`wait`]: it returns.

use super::apic::{self, ApicId};
use super::{local, vmx};
use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// What the NMI handler of a core knows of it.
#[derive(Debug, Default)]
pub struct Attention {
    /// An NMI has come that [`wait`] has not seen.
    kicked: AtomicBool,
    /// The core has a current VMCS, and is about to enter it or serves an exit of it.
    guest: AtomicBool,
}

impl Attention {
    /// Nothing has come, and there is no guest.
    pub const fn new() -> Self {
        Self { kicked: AtomicBool::new(false), guest: AtomicBool::new(false) }
    }
}

/// Makes a core look at what it has been told. All that was written before is seen by it.
pub fn kick(core: ApicId) {
    apic::send_nmi(core);
}

/// Says whether this core has a guest whose VMCS is current: then an NMI in root mode makes its
/// next entry exit. What was said before this call must be looked at after it.
pub fn set_guest(has_guest: bool) {
    if let Some(attention) = local::attention() {
        attention.guest.store(has_guest, Ordering::SeqCst);
    }
}

/// Lets NMIs in again, after an exit that one caused: it blocks further ones until the next IRET (SDM
/// Vol. 3C, 28.1, and Vol. 3A, 6.7.1), and a VM entry does not end that everywhere. One that waits
/// comes here, in root mode.
pub fn unblock() {
    // SAFETY: returns to the next instruction, with stack and flags as they are.
    unsafe { iret_to_caller() };
}

/// IRET to where it was called from.
#[unsafe(naked)]
unsafe extern "C" fn iret_to_caller() {
    naked_asm!(
        // What is called has its return address on the stack; IRET takes it from a frame.
        "pop rdx",
        "mov rax, rsp",
        "mov ecx, ss",
        "push rcx",
        "push rax",
        "pushfq",
        "mov ecx, cs",
        "push rcx",
        "push rdx",
        "iretq",
    )
}

/// Halts until an NMI comes, or returns at once if one has come since the last call. Interrupts
/// stay off and pending.
pub fn wait() {
    if let Some(attention) = local::attention() {
        // SAFETY: the flag lives as long as the core; `on_nmi` knows the sequence.
        unsafe { wait_for(&attention.kicked) };
        attention.kicked.store(false, Ordering::SeqCst);
    }
}

/// Halts unless the flag is set. NMIs are blocked after an exit that one caused, until the next
/// IRET (SDM Vol. 3A, 6.7.1): one is executed first.
///
/// An NMI between the look at the flag and HLT would be slept through: the handler moves RIP to
/// the end of the sequence when it finds it inside.
#[unsafe(naked)]
unsafe extern "C" fn wait_for(kicked: *const AtomicBool) {
    naked_asm!(
        "mov rax, rsp",
        "mov ecx, ss",
        "push rcx",
        "push rax",
        "pushfq",
        "mov ecx, cs",
        "push rcx",
        "lea rcx, [rip + bulkhead_wait_look]",
        "push rcx",
        "iretq",
        ".global bulkhead_wait_look",
        "bulkhead_wait_look:",
        "cmp byte ptr [rdi], 0",
        "jne bulkhead_wait_end",
        "hlt",
        ".global bulkhead_wait_end",
        "bulkhead_wait_end:",
        "ret",
    )
}

unsafe extern "C" {
    static bulkhead_wait_look: u8;
    static bulkhead_wait_end: u8;
}

/// The handler, in root mode: takes the interrupted RIP, and gives the one to go on at.
pub(super) fn on_nmi(rip: u64) -> u64 {
    let Some(attention) = local::attention() else { return rip };
    attention.kicked.store(true, Ordering::SeqCst);
    if attention.guest.load(Ordering::SeqCst) {
        // SAFETY: the flag says that a VMCS is current on this core.
        unsafe { vmx::exit_at_next_entry() };
    }
    let (look, end) = (&raw const bulkhead_wait_look as u64, &raw const bulkhead_wait_end as u64);
    if (look..end).contains(&rip) { end } else { rip }
}
