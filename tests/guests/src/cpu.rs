//! The processor's instructions.

use core::arch::asm;

/// Stops for good.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: with interrupts off, only an NMI goes on from here.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// What LIDT and LGDT take (SDM Vol. 3A, 3.5.1).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct TablePointer {
    /// The table's last byte.
    pub limit: u16,
    /// Its address.
    pub base: u64,
}

/// Raises an exception that cannot be delivered, nor can the double fault that follows: the
/// processor shuts down.
pub fn triple_fault() -> ! {
    let empty = TablePointer { limit: 0, base: 0 };
    // SAFETY: nothing of the guest's is of use after this.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const empty, options(noreturn)) }
}
