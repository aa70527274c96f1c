//! Single instructions, given names.

use core::arch::asm;
pub use core::arch::x86_64::CpuidResult;

/// CPUID of this processor.
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

/// Bits of a physical address (CPUID.80000008H:EAX\[7:0\]).
pub fn physical_bits() -> u32 {
    cpuid(0x8000_0008, 0).eax & 0xFF
}

/// The time-stamp counter, in ticks.
#[inline(always)]
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter; CR4.TSD does not matter at CPL 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A hint to the processor inside a spin loop.
pub fn pause() {
    core::hint::spin_loop();
}

/// Stops this processor for good: interrupts off, halted. An NMI wakes it and it halts again.
pub fn park() -> ! {
    loop {
        // SAFETY: stopping the processor touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Turns interrupts on and halts until one arrives, without a gap between the
/// two (STI blocks interrupts for one instruction), then turns them off.
///
/// # Safety
/// The interrupt descriptor table must be loaded, and its handlers must not need a lock that the
/// caller holds.
pub unsafe fn wait_for_interrupt() {
    // SAFETY: the caller's contract.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Lets interrupts that are pending in, for a moment.
///
/// # Safety
/// As [`wait_for_interrupt`].
pub unsafe fn take_interrupts() {
    // SAFETY: the caller's contract. STI takes effect after the instruction that follows it.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}

/// Control registers and flags.
macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading a control register has no side effect at CPL 0.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }

        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The value must be valid in the present mode, and must keep what runs mapped.
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller's contract.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");

/// CR2, the address of the last page fault.
pub fn read_cr2() -> u64 {
    let value: u64;
    // SAFETY: reading CR2 has no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The frame pointer, where a walk of the stack starts.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Bits of CR0 by the manual's names (SDM Vol. 3A, 2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Emulation of the coprocessor.
    pub const EM: u64 = 1 << 2;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type, always 1.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Alignment mask.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4 by the manual's names (SDM Vol. 3A, 2.5).
pub mod cr4 {
    /// Virtual-8086 mode extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// Time-stamp disable.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u64 = 1 << 3;
    /// Page-size extensions.
    pub const PSE: u64 = 1 << 4;
    /// Physical-address extension.
    pub const PAE: u64 = 1 << 5;
    /// Machine-check enable.
    pub const MCE: u64 = 1 << 6;
    /// Page global enable.
    pub const PGE: u64 = 1 << 7;
    /// FXSAVE and FXRSTOR.
    pub const OSFXSR: u64 = 1 << 9;
    /// Unmasked SIMD exceptions.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// User-mode instruction prevention.
    pub const UMIP: u64 = 1 << 11;
    /// VMX enable.
    pub const VMXE: u64 = 1 << 13;
    /// RDFSBASE and its kin.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE and XGETBV.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisor-mode access prevention.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys for user pages.
    pub const PKE: u64 = 1 << 22;
}

/// Bits of EFER (SDM Vol. 4, table 2-2).
pub mod efer {
    /// SYSCALL enable.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// No-execute enable.
    pub const NXE: u64 = 1 << 11;
}

/// Writes CR2, which VMX does not switch: it is the guest's at all times but in
/// a page fault of the hypervisor's, which is fatal.
///
/// # Safety
/// Only for a page fault that is about to be injected.
pub unsafe fn write_cr2(value: u64) {
    // SAFETY: the caller's contract; CR2 has no effect of its own.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Sets the debug registers that VMX does not switch, and CR2, as they are after reset
/// (SDM Vol. 3A, table 10-1).
///
/// # Safety
/// The hypervisor must not use breakpoints.
pub unsafe fn reset_debug_state() {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("mov dr0, {zero}", "mov dr1, {zero}", "mov dr2, {zero}", "mov dr3, {zero}",
            "mov cr2, {zero}", zero = in(reg) 0u64, options(nomem, nostack, preserves_flags));
        write_dr6(DR6_RESET);
    }
}

/// DR6 after reset.
const DR6_RESET: u64 = 0xFFFF_0FF0;

/// Reads DR6, which VMX does not switch.
pub fn read_dr6() -> u64 {
    let value: u64;
    // SAFETY: reading DR6 has no side effect; DR7.GD is clear in root mode (SDM Vol. 3C, 28.5.1).
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes DR6, which VMX does not switch.
///
/// # Safety
/// Only for a debug exception that is about to be injected.
pub unsafe fn write_dr6(value: u64) {
    // SAFETY: the caller's contract; bits 63:32 are zero.
    unsafe {
        asm!("mov dr6, {}", in(reg) value & 0xFFFF_FFFF, options(nomem, nostack, preserves_flags))
    };
}
