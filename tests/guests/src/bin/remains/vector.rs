//! x87 and vector registers: all that XCR0 can give a guest here.

use crate::expect;
use bulkhead_guests::cpu::{self, cpuid, cr4};
use core::arch::asm;

/// CPUID leaf of the extended states.
const STATES: u32 = 0xD;
/// Bytes of an XSAVE area's legacy region, and of it with the header (SDM Vol. 1, 13.4).
const LEGACY: usize = 512;
const EXTENDED: usize = 576;
/// Places in the legacy region: x87 control, MXCSR and its mask, what software may have.
const CONTROL: usize = 0;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const REGISTERS: usize = 32;
const FREE: usize = 416;
/// After FNINIT, as the loader leaves it; and after reset (SDM Vol. 1, 10.2.3).
const CONTROL_INITIAL: u64 = 0x37F;
const MXCSR_RESET: u64 = 0x1F80;
/// XCR0 after reset.
const X87: u64 = 1 << 0;

/// Room for AVX-512's state and what may come.
const MOST: usize = 8192;

#[repr(C, align(64))]
struct Area([u8; MOST]);

/// The states that this processor shows.
fn shown() -> u64 {
    let leaf = cpuid(STATES, 0);
    u64::from(leaf.edx) << 32 | u64::from(leaf.eax)
}

/// Makes the instructions usable.
fn prepare() {
    // SAFETY: no code here uses the states.
    unsafe { cpu::write_cr4(cpu::read_cr4() | cr4::OSXSAVE | cr4::OSFXSR) };
}

/// Whether the area has room for all that is shown.
fn fits() -> bool {
    let size = cpuid(STATES, 0).ecx as usize;
    expect("room that the states need too much", size.saturating_sub(MOST) as u64, 0);
    size <= MOST
}

/// Looks whether all are in their initial configurations.
pub fn look() {
    if !fits() {
        return;
    }
    prepare();
    expect("XCR0", cpu::xgetbv(0), X87);
    cpu::xsetbv(0, shown());
    // What XSAVE does not write is in its initial configuration, which is 0.
    let mut area = Area([0; MOST]);
    // SAFETY: the area is aligned, and large enough.
    unsafe {
        asm!("xsave64 [{}]", in(reg) &raw mut area, in("eax") u32::MAX, in("edx") u32::MAX,
            options(nostack));
    }
    let Area(bytes) = &area;
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    };
    expect("the x87 control word", number(CONTROL, 2), CONTROL_INITIAL);
    expect("MXCSR", number(MXCSR, 4), MXCSR_RESET);
    let others = [CONTROL + 2..MXCSR, REGISTERS..FREE, EXTENDED..MOST];
    for range in others {
        if let Some(at) = range.clone().find(|&at| bytes[at] != 0) {
            expect(format_args!("byte {at} of the XSAVE area"), bytes[at].into(), 0);
        }
    }
}

/// Puts something in all of them.
pub fn leave() {
    const BYTE: u8 = 0xC7;
    const ROUND_UP: u64 = 0x5F80;
    const DOUBLE_PRECISION: u64 = 0x27F;
    if !fits() {
        return;
    }
    prepare();
    cpu::xsetbv(0, shown());
    let mut area = Area([BYTE; MOST]);
    let Area(bytes) = &mut area;
    let mut put = |at: usize, value: u64, length: usize| {
        bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    };
    put(CONTROL, DOUBLE_PRECISION, 2);
    put(MXCSR, ROUND_UP, 4);
    put(MXCSR_MASK, 0, 4);
    // The header: all states are there, in the standard format.
    put(LEGACY, shown(), 8);
    bytes[LEGACY + 8..EXTENDED].fill(0);
    // SAFETY: the area is one that XRSTOR takes, and no code here uses the states.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) &raw const area, in("eax") u32::MAX, in("edx") u32::MAX,
            options(nostack));
    }
}
