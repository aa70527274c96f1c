//! Exceptions without end. Those that raise themselves while they are delivered would, unless they are
//! intercepted, keep the processor for ever inside one instruction (CVE-2015-8104 for #DB, CVE-2015-5307
//! for #AC).

use crate::cpu::{self, cr0, rflags};
use crate::interrupts::{self, vector};
use crate::task::{self, USER_CODE, USER_DATA};
use core::arch::{asm, naked_asm};

const STACK_SIZE: usize = 16 << 10;

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// For ring 0, for interrupts, and for user code.
static mut STACKS: [Stack; 3] = [const { Stack([0; STACK_SIZE]) }; 3];

/// The upper end of a stack.
fn top(index: usize) -> u64 {
    &raw const STACKS as u64 + ((index + 1) * STACK_SIZE) as u64
}

/// Gives the first processor a task, and with it stacks.
fn load_task() {
    // SAFETY: one processor does this, once, and the stacks are for nothing else.
    unsafe { task::load(top(0), top(1)) };
}

/// A breakpoint on the frame that the delivery of #DB itself writes, always in the same place, as the
/// handler has a stack of its own.
pub fn debug() {
    /// DR7: breakpoint 0 is on, for writes of eight bytes.
    const DR7: u64 = 0x400 | 1 << 0 | 0b01 << 16 | 0b10 << 18;
    /// From the stack's end to the word with the interrupted RSP.
    const RSP_IN_FRAME: u64 = 16;
    load_task();
    // SAFETY: the task that is in force has the stack.
    unsafe { interrupts::use_interrupt_stack(vector::DEBUG) };
    interrupts::handle(vector::DEBUG, |frame| frame.rflags |= rflags::TF);
    // SAFETY: leads to #DB, which is handled.
    unsafe {
        cpu::write_dr0(top(1) - RSP_IN_FRAME);
        cpu::write_dr7(DR7);
    }
    loop {
        // SAFETY: INT1, which is #DB.
        unsafe { asm!(".byte 0xf1") };
    }
}

/// User code whose misaligned access is #AC, and whose handler returns to it.
pub fn alignment() {
    /// Entries that lead to the first 16 MiB.
    const LARGE_PAGES: usize = 8;
    /// Of a page-table entry: user code may use it.
    const USER: u64 = 1 << 2;
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    load_task();
    interrupts::handle(vector::ALIGNMENT_CHECK, |_| {});
    // SAFETY: the loader's tables, mapped one to one; user code is `misaligned` alone. Nothing
    // of the kernel's is checked for alignment.
    unsafe {
        let mut table = cpu::read_cr3() as *mut u64;
        for _ in 0..2 {
            *table |= USER;
            table = (*table & ADDRESS) as *mut u64;
        }
        for page in 0..LARGE_PAGES {
            *table.add(page) |= USER;
        }
        cpu::write_cr3(cpu::read_cr3());
        cpu::write_cr0(cpu::read_cr0() | cr0::AM);
        asm!(
            "push {data}", "push {stack}", "push {flags}", "push {code}", "push {entry}", "iretq",
            data = in(reg) USER_DATA, stack = in(reg) top(2),
            flags = in(reg) rflags::AC | 1 << 1,
            code = in(reg) USER_CODE, entry = in(reg) misaligned as *const () as u64,
            options(noreturn)
        );
    }
}

/// # Safety
/// For user mode.
#[unsafe(naked)]
unsafe extern "C" fn misaligned() -> ! {
    naked_asm!("2:", "mov eax, [rsp - 63]", "jmp 2b")
}

/// #PF at an address that no table maps; its handler returns to the access.
pub fn page_fault() {
    const UNMAPPED: u64 = 1 << 40;
    interrupts::handle(vector::PAGE_FAULT, |_| {});
    // SAFETY: faults.
    unsafe { asm!("mov al, [{}]", in(reg) UNMAPPED, out("al") _) };
}
