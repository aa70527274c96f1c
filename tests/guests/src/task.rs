//! A task-state segment, for stacks of its own.

use crate::cpu::{self, TablePointer};
use core::arch::asm;

/// Segments: the kernel's at the places that the loader gave them, then user data, user code, and the two
/// halves of the task's descriptor.
type Segments = [u64; 8];
const SEGMENTS: Segments = [
    0,
    0,
    0x00AF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00CF_F300_0000_FFFF,
    0x00AF_FB00_0000_FFFF,
    0,
    0,
];
/// Selector of data for user mode.
pub const USER_DATA: u64 = 0x23;
/// Selector of code for user mode.
pub const USER_CODE: u64 = 0x2B;
const TASK: u16 = 0x30;
/// Type of a descriptor: an available 64-bit TSS, present (SDM Vol. 3A, 8.2.3).
const TASK_TYPE: u64 = 0x89;

/// A task-state segment (SDM Vol. 3A, figure 8-11): of its fields, the stack of ring 0 and the first
/// interrupt stack are used.
#[repr(C, packed)]
struct Task {
    reserved: u32,
    ring_0: u64,
    others: [u64; 3],
    interrupt_stack: u64,
    rest: [u8; 60],
}

static mut SEGMENT_TABLE: Segments = SEGMENTS;
static mut STATE: Task =
    Task { reserved: 0, ring_0: 0, others: [0; 3], interrupt_stack: 0, rest: [0; 60] };

/// Gives the first processor a task, whose stack of ring 0 and first interrupt stack end at these addresses.
///
/// # Safety
/// There is such memory, and nothing else uses it; no task was loaded before.
pub unsafe fn load(ring_0: u64, interrupt_stack: u64) {
    let state = &raw mut STATE as u64;
    let limit = size_of::<Task>() as u64 - 1;
    let low = limit | (state & 0xFF_FFFF) << 16 | TASK_TYPE << 40 | (state >> 24 & 0xFF) << 56;
    // SAFETY: the caller's contract; the kernel's segments stay what they are.
    unsafe {
        STATE.ring_0 = ring_0;
        STATE.interrupt_stack = interrupt_stack;
        SEGMENT_TABLE[6] = low;
        SEGMENT_TABLE[7] = state >> 32;
        cpu::load_global_table(&TablePointer::to(&raw const SEGMENT_TABLE));
        asm!("ltr {:x}", in(reg) TASK, options(nostack, preserves_flags));
    }
}
