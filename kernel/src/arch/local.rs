//! What a core knows about itself, found through GS.

use super::msr::Msr;
use super::nmi::Attention;
use alloc::boxed::Box;

/// Bounds of a stack, in bytes: the lowest address and one past the highest.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackBounds {
    /// Lowest mapped address.
    pub bottom: u64,
    /// One past the highest.
    pub top: u64,
}

struct CoreLocal {
    index: usize,
    stack: StackBounds,
    attention: Attention,
}

/// Says which core this is, from now on. Called once by each core.
pub fn set(index: usize, stack: StackBounds) {
    let local = Box::leak(Box::new(CoreLocal { index, stack, attention: Attention::new() }));
    // SAFETY: GS's base is the hypervisor's own in root mode; the VMCS restores it at each exit.
    unsafe { Msr::GS_BASE.write(local as *const CoreLocal as u64) };
}

/// Forgets what the boot loader left in GS, before anyone looks.
pub fn clear() {
    // SAFETY: as in `set`.
    unsafe { Msr::GS_BASE.write(0) };
}

fn get() -> Option<&'static CoreLocal> {
    let base = Msr::GS_BASE.read() as *const CoreLocal;
    // SAFETY: the base is zero before `set`, by `clear` or by INIT, and points to a leaked box after it.
    unsafe { base.as_ref() }
}

/// Index of this core; 0 is the boot processor, also before it has said so.
pub fn core_index() -> usize {
    get().map_or(0, |local| local.index)
}

/// This core's main stack, once it has one of its own.
pub fn stack() -> Option<StackBounds> {
    get().map(|local| local.stack)
}

/// What the NMI handler of this core works with, once the core has said which it is.
pub fn attention() -> Option<&'static Attention> {
    get().map(|local| &local.attention)
}
