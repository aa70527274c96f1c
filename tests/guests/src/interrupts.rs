//! Exceptions and interrupts: the table, what comes before Rust, and who handles what.
//!
//! A stable compiler has no interrupt calling convention: 256 stubs note their vector and
//! meet in one path, which saves all registers and calls `dispatch`.

use crate::apic;
use crate::cpu::{self, TablePointer};
use crate::{fault, smp};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Exceptions by vector (SDM Vol. 3A, table 6-1).
pub mod vector {
    /// #DB.
    pub const DEBUG: u8 = 1;
    /// NMI.
    pub const NMI: u8 = 2;
    /// #BP.
    pub const BREAKPOINT: u8 = 3;
    /// #UD.
    pub const INVALID_OPCODE: u8 = 6;
    /// #GP.
    pub const GENERAL_PROTECTION: u8 = 13;
    /// #PF.
    pub const PAGE_FAULT: u8 = 14;
    /// #AC.
    pub const ALIGNMENT_CHECK: u8 = 17;
    /// The first that is not an exception.
    pub const FIRST_INTERRUPT: u8 = 32;
}

/// How many vectors there are.
const VECTORS: usize = 256;
/// Bytes between two stubs.
const STUB_SIZE: usize = 16;
/// The code segment that the guest was entered with.
pub const CODE_SELECTOR: u16 = 0x10;
/// The data segment that the guest was entered with.
pub const DATA_SELECTOR: u16 = 0x18;
/// A gate's type: present, 64-bit interrupt gate, ring 0 (SDM Vol. 3A, 6.14.1).
const INTERRUPT_GATE: u64 = 0x8E;

// Where the processor pushes no error code, the stub pushes a zero (SDM Vol. 3A, table 6-1).
// The opcodes are spelt out, so that every stub has the same length.
global_asm!(
    r#"
    .pushsection .text.guest_interrupts, "ax", @progbits
    .balign {stub_size}
    guest_interrupt_stubs:
    .set vector, 0
    .rept {vectors}
        .balign {stub_size}
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        .byte 0x6a, 0
        .endif
        .byte 0x68
        .long vector
        jmp guest_interrupt_common
        .set vector, vector + 1
    .endr
    guest_interrupt_common:
        push rax
        push rcx
        push rdx
        push rbx
        push rbp
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        call {dispatch}
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rdi
        pop rsi
        pop rbp
        pop rbx
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
    .popsection
    "#,
    stub_size = const STUB_SIZE,
    vectors = const VECTORS,
    dispatch = sym dispatch,
);

unsafe extern "C" {
    static guest_interrupt_stubs: u8;
}

/// What was interrupted: changes are in force when the handler returns.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// r15 to r8, rdi, rsi, rbp, rbx, rdx, rcx, rax.
    pub registers: [u64; 15],
    vector: u64,
    /// The exception's error code, or 0.
    pub error_code: u64,
    /// The instruction to go on at.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl Frame {
    /// Position of RAX in [`Frame::registers`].
    pub const RAX: usize = 14;

    /// What came.
    pub fn vector(&self) -> u8 {
        self.vector as u8
    }
}

/// A gate of the interrupt descriptor table.
type Gate = [u64; 2];

struct Table(UnsafeCell<[Gate; VECTORS]>);

// SAFETY: written once, by `load`, before anything reads it and before there is a second processor.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));
static HANDLERS: [AtomicUsize; VECTORS] = [const { AtomicUsize::new(0) }; VECTORS];
/// By processor and vector.
static COUNTS: [[AtomicU64; VECTORS]; smp::MOST] =
    [const { [const { AtomicU64::new(0) }; VECTORS] }; smp::MOST];

/// Puts the table in force.
///
/// # Safety
/// To be called once, before interrupts are let in.
pub unsafe fn load() {
    let gates = TABLE.0.get();
    for index in 0..VECTORS {
        let stub = &raw const guest_interrupt_stubs as u64 + (index * STUB_SIZE) as u64;
        let low = stub & 0xFFFF | u64::from(CODE_SELECTOR) << 16;
        let gate = [low | INTERRUPT_GATE << 40 | (stub >> 16 & 0xFFFF) << 48, stub >> 32];
        // SAFETY: the caller's contract; the index is inside the table.
        unsafe { (*gates)[index] = gate };
    }
    use_table();
}

/// Puts the table in force on one more processor.
pub(crate) fn use_table() {
    // SAFETY: `load` was called first of all: every gate leads to its stub, and the table is a static.
    unsafe { cpu::load_interrupt_table(&TablePointer::to(TABLE.0.get())) };
}

/// Has a vector's handler run on the first interrupt stack of the task in force (SDM Vol. 3A, 6.14.5), on
/// all processors.
///
/// # Safety
/// Wherever the vector comes, there is such a task and stack.
pub unsafe fn use_interrupt_stack(vector: u8) {
    const FIRST_STACK: u64 = 1 << 32;
    let gates = TABLE.0.get();
    // SAFETY: the index is inside the table, and the caller's contract.
    unsafe { (*gates)[usize::from(vector)][0] |= FIRST_STACK };
}

/// Calls `handler` for a vector, in place of what was called before.
pub fn handle(vector: u8, handler: fn(&mut Frame)) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::SeqCst);
}

/// Takes a vector's handler away.
pub fn ignore(vector: u8) {
    HANDLERS[usize::from(vector)].store(0, Ordering::SeqCst);
}

/// How often a vector came to this processor.
pub fn count(vector: u8) -> u64 {
    count_of(smp::number(), vector)
}

/// How often a vector came to a processor.
pub fn count_of(processor: usize, vector: u8) -> u64 {
    COUNTS[processor][usize::from(vector)].load(Ordering::SeqCst)
}

/// How often any interrupt came to this processor, exceptions not among them.
pub fn count_all() -> u64 {
    count_all_of(smp::number())
}

/// How often any interrupt came to a processor, exceptions not among them.
pub fn count_all_of(processor: usize) -> u64 {
    let interrupts = &COUNTS[processor][usize::from(vector::FIRST_INTERRUPT)..];
    interrupts.iter().map(|count| count.load(Ordering::SeqCst)).sum()
}

/// Lets interrupts in until `done`, at most for `ticks` of the TSC; says whether it came to that.
pub fn wait_for(ticks: u64, mut done: impl FnMut() -> bool) -> bool {
    let start = cpu::rdtsc();
    cpu::enable_interrupts();
    let came = loop {
        if done() {
            break true;
        }
        if cpu::rdtsc().wrapping_sub(start) > ticks {
            break false;
        }
        core::hint::spin_loop();
    };
    cpu::disable_interrupts();
    came
}

/// Lets interrupts in for `ticks` of the TSC.
pub fn let_in_for(ticks: u64) {
    wait_for(ticks, || false);
}

extern "C" fn dispatch(frame: &mut Frame) {
    let vector = frame.vector();
    COUNTS[smp::number()][usize::from(vector)].fetch_add(1, Ordering::SeqCst);
    let handler = HANDLERS[usize::from(vector)].load(Ordering::SeqCst);
    if handler != 0 {
        // SAFETY: only `handle` stores here, and only a function of this type.
        let handler: fn(&mut Frame) = unsafe { core::mem::transmute(handler) };
        handler(frame);
    } else if vector < vector::FIRST_INTERRUPT && !fault::recover(frame) {
        panic!("unexpected {}, rsp {:#x}", fault::Fault::of(frame), frame.rsp);
    }
    if vector >= vector::FIRST_INTERRUPT && vector != apic::SPURIOUS_VECTOR {
        apic::end_of_handler();
    }
}
