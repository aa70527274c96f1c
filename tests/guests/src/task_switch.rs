//! A task switch by hardware, which VMX does not know: it exits whatever the controls say (SDM
//! Vol. 3C, 26.4.2), and is nothing that a guest of Bulkhead's may do.
//!
//! It needs 32-bit protected mode, so the guest leaves long mode first.

use crate::cpu::{self, TablePointer, cr0};
use core::arch::global_asm;
use core::cell::UnsafeCell;

/// Selectors in the table below: 32-bit code, flat data, the task that is left and the other.
const CODE_32: u16 = 0x08;
const CODE_64: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;
const OTHER_TASK: u16 = 0x28;

type Segments = [u64; 6];

/// A 32-bit task-state segment, empty (SDM Vol. 3A, 8.2.1).
#[repr(C, align(16))]
struct Task([u8; 104]);

struct World {
    segments: Segments,
    task: Task,
    other_task: Task,
}

struct Shared(UnsafeCell<World>);

// SAFETY: there is one processor, and `switch` is called once.
unsafe impl Sync for Shared {}

static WORLD: Shared = Shared(UnsafeCell::new(World {
    segments: [0, 0x00CF_9B00_0000_FFFF, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0, 0],
    task: Task([0; 104]),
    other_task: Task([0; 104]),
}));

const _: () = assert!(CODE_64 == crate::interrupts::CODE_SELECTOR);

global_asm!(
    r#"
    .pushsection .text.guest_task_switch, "ax", @progbits
    guest_task_switch:
        push {code_32}
        lea rax, [rip + 2f]
        push rax
        retfq
    .code32
    2:
        mov eax, cr0
        and eax, {paging_off}
        mov cr0, eax
        mov eax, {data}
        mov ds, eax
        mov ss, eax
        mov eax, {task}
        ltr ax
        // JMP FAR: the offset does not count when it is to a task.
        .byte 0xea
        .long 0
        .word {other_task}
        ud2
    .code64
    .popsection
    "#,
    code_32 = const CODE_32,
    paging_off = const !(cr0::PG as u32),
    data = const DATA,
    task = const TASK,
    other_task = const OTHER_TASK,
);

unsafe extern "C" {
    fn guest_task_switch() -> !;
}

/// Switches tasks; what comes after cannot be come back from.
pub fn switch() {
    let world = WORLD.0.get();
    // SAFETY: the world is a static, and nothing else accesses it; the guest ends here.
    unsafe {
        (*world).segments[usize::from(TASK) / 8] = descriptor(&raw const (*world).task as u64);
        (*world).segments[usize::from(OTHER_TASK) / 8] =
            descriptor(&raw const (*world).other_task as u64);
        cpu::load_global_table(&TablePointer::to(&raw const (*world).segments));
        guest_task_switch()
    }
}

/// An available 32-bit TSS, present (SDM Vol. 3A, 8.2.2).
fn descriptor(base: u64) -> u64 {
    const AVAILABLE: u64 = 0x89 << 40;
    const LIMIT: u64 = size_of::<Task>() as u64 - 1;
    LIMIT | (base & 0xFF_FFFF) << 16 | AVAILABLE | (base >> 24 & 0xFF) << 56
}
