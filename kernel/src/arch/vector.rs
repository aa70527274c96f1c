//! Vector state: x87, SSE, AVX and what else XCR0 names. Root mode never uses
//! it, so that a guest's stays in the registers; it is wiped between guests.

use super::cpu::{self, cr4};
use core::arch::asm;

/// XCR0: x87 state, always set.
pub const XCR0_X87: u64 = 1 << 0;

/// Bytes of an XSAVE area's legacy region and header (SDM Vol. 1, 13.4).
const LEGACY_AND_HEADER: usize = 576;

/// An XSAVE area whose header says that every component is in its initial
/// configuration, so that none of its extended part is ever read.
#[repr(C, align(64))]
struct InitialArea([u8; LEGACY_AND_HEADER]);

/// MXCSR's place in the legacy region.
const MXCSR: usize = 24;

static INITIAL: InitialArea = {
    let mut area = [0; LEGACY_AND_HEADER];
    // MXCSR after reset is 0x1F80: XRSTOR loads it even when SSE is in its initial state.
    area[MXCSR] = 0x80;
    area[MXCSR + 1] = 0x1F;
    InitialArea(area)
};

/// All XCR0 bits of this processor: what guests may be given is among them, so that
/// nothing of theirs is left unwiped.
fn supported() -> u64 {
    let leaf = cpu::cpuid(0xD, 0);
    u64::from(leaf.edx) << 32 | u64::from(leaf.eax)
}

/// Sets XCR0.
///
/// # Safety
/// CR4.OSXSAVE must be set and the value be valid (SDM Vol. 1, 13.3).
pub unsafe fn write_xcr0(value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack, preserves_flags));
    }
}

/// Wipes all vector state and leaves XCR0 as after reset, x87 alone.
///
/// # Safety
/// CR4.OSXSAVE and CR4.OSFXSR must be set, and no one may count on the registers' contents.
pub unsafe fn reset() {
    debug_assert!(cpu::read_cr4() & cr4::OSXSAVE != 0);
    // SAFETY: XRSTOR from an area with an all-zero header sets each component that XCR0 enables
    // to its initial configuration (SDM Vol. 1, 13.8.1).
    unsafe {
        write_xcr0(supported());
        asm!("fninit", "xrstor64 [{}]", in(reg) &INITIAL, in("eax") u32::MAX, in("edx") u32::MAX,
            options(nostack));
        write_xcr0(XCR0_X87);
    }
}
