//! Interrupt descriptor table and what happens on an interrupt in root mode.
//!
//! Guest cores run root mode with interrupts off, so that only NMIs and
//! exceptions arrive there; the service core takes interrupts while it sleeps.
//! A stable compiler has no interrupt calling convention, so 256 small stubs
//! meet in one common path.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::InterruptDescriptorTable;

/// Bytes between two stubs.
const STUB_SIZE: usize = 16;
/// First vector that is not an exception.
pub const FIRST_EXTERNAL: u8 = 32;
/// Vector of the non-maskable interrupt.
const NMI: u8 = 2;
/// Vector of the double fault.
const DOUBLE_FAULT: u8 = 8;
/// Vector of the general-protection fault.
#[cfg(feature = "testing")]
pub(super) const GENERAL_PROTECTION: u8 = 13;
/// Vector of the page fault.
pub(super) const PAGE_FAULT: u8 = 14;
/// Bytes below a stack that are not mapped.
const GUARD_PAGE: u64 = 4096;
/// Vector of the machine check.
const MACHINE_CHECK: u8 = 18;

// Stubs: those vectors for which the processor pushes no error code push a zero
// (SDM Vol. 3A, table 6-1), then all push their number. The opcodes are spelt
// out so that each stub has the same length whatever the number.
global_asm!(
    r#"
    .pushsection .text.interrupt_stubs, "ax", @progbits
    .balign 16
    .global bulkhead_interrupt_stubs
    bulkhead_interrupt_stubs:
    .set vector, 0
    .rept 256
        .balign 16
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        .else
        .byte 0x6a, 0
        .endif
        .byte 0x68
        .long vector
        jmp bulkhead_interrupt_common
        .set vector, vector + 1
    .endr
    bulkhead_interrupt_common:
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
    dispatch = sym dispatch,
);

unsafe extern "C" {
    static bulkhead_interrupt_stubs: u8;
}

/// What the common path and the processor left on the stack.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// RAX's place in a frame: it was the first to be pushed.
#[cfg(feature = "testing")]
const RAX: usize = 14;

static TABLE: Once<InterruptDescriptorTable> = Once::new();
static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
static STRAYS: AtomicU64 = AtomicU64::new(0);

/// Which interrupt-stack-table entry each of the vectors that need one uses.
pub mod ist {
    /// NMI: may arrive on any stack at any time.
    pub const NMI: u16 = 0;
    /// Double fault: the stack may be what failed.
    pub const DOUBLE_FAULT: u16 = 1;
    /// Machine check: as an NMI.
    pub const MACHINE_CHECK: u16 = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// Loads the table on this core, whose TSS must be loaded already.
pub fn load() {
    let table = TABLE.call_once(|| {
        let mut table = InterruptDescriptorTable::new();
        let stub = |vector: u8| {
            let base = &raw const bulkhead_interrupt_stubs as u64;
            VirtAddr::new(base + u64::from(vector) * STUB_SIZE as u64)
        };
        // SAFETY: each address is that of the stub for its vector, which keeps all registers
        // and matches the vector's error-code convention; the stack indices are in the TSS.
        unsafe {
            table.divide_error.set_handler_addr(stub(0));
            table.debug.set_handler_addr(stub(1));
            table.non_maskable_interrupt.set_handler_addr(stub(NMI)).set_stack_index(ist::NMI);
            table.breakpoint.set_handler_addr(stub(3));
            table.overflow.set_handler_addr(stub(4));
            table.bound_range_exceeded.set_handler_addr(stub(5));
            table.invalid_opcode.set_handler_addr(stub(6));
            table.device_not_available.set_handler_addr(stub(7));
            table
                .double_fault
                .set_handler_addr(stub(DOUBLE_FAULT))
                .set_stack_index(ist::DOUBLE_FAULT);
            table.invalid_tss.set_handler_addr(stub(10));
            table.segment_not_present.set_handler_addr(stub(11));
            table.stack_segment_fault.set_handler_addr(stub(12));
            table.general_protection_fault.set_handler_addr(stub(13));
            table.page_fault.set_handler_addr(stub(PAGE_FAULT));
            table.x87_floating_point.set_handler_addr(stub(16));
            table.alignment_check.set_handler_addr(stub(17));
            table
                .machine_check
                .set_handler_addr(stub(MACHINE_CHECK))
                .set_stack_index(ist::MACHINE_CHECK);
            table.simd_floating_point.set_handler_addr(stub(19));
            table.virtualization.set_handler_addr(stub(20));
            table.cp_protection_exception.set_handler_addr(stub(21));
            for vector in FIRST_EXTERNAL..=u8::MAX {
                table[vector].set_handler_addr(stub(vector));
            }
        }
        table
    });
    table.load();
}

/// Linear address of the table, for the host state of a VMCS.
pub fn table_address() -> u64 {
    TABLE.get().map_or(0, |table| table as *const _ as u64)
}

// An interrupt whose vector is an exception's: ended, and that is all. The processor pushes no error
// code for it, whatever it does for the exception.
global_asm!(
    r#"
    .pushsection .text.interrupt_stubs, "ax", @progbits
    .balign 16
    .global bulkhead_drain_stub
    bulkhead_drain_stub:
        push rax
        push rcx
        push rdx
        mov ecx, {eoi}
        xor eax, eax
        xor edx, edx
        wrmsr
        pop rdx
        pop rcx
        pop rax
        iretq
    .popsection
    "#,
    eoi = const super::apic::register::EOI,
);

unsafe extern "C" {
    static bulkhead_drain_stub: u8;
}

/// The table as the processor reads it: two words a gate (SDM Vol. 3A, figure 6-8).
#[repr(C, align(16))]
struct Gates([[u64; 2]; 256]);

/// As [`TABLE`], but vectors 16 to 31 are interrupts.
static DRAIN_TABLE: Once<Gates> = Once::new();
/// First vector that an APIC delivers.
const FIRST_APIC_VECTOR: usize = 16;

impl Gates {
    fn for_drain(table: &InterruptDescriptorTable) -> Self {
        // SAFETY: both are 256 gates of 16 bytes, by the processor's definition.
        let mut gates = Self(unsafe { *(table as *const _ as *const [[u64; 2]; 256]) });
        let stub = &raw const bulkhead_drain_stub as u64;
        // Selector and attributes are as for any interrupt; the address is in three pieces.
        const KEEP: u64 = 0x0000_FFFF_FFFF_0000;
        let [low, _] = gates.0[usize::from(FIRST_EXTERNAL)];
        let gate = [low & KEEP | stub & 0xFFFF | (stub >> 16 & 0xFFFF) << 48, stub >> 32];
        gates.0[FIRST_APIC_VECTOR..usize::from(FIRST_EXTERNAL)].fill(gate);
        gates
    }
}

/// Takes pending interrupts, those with the vectors of exceptions too.
///
/// # Safety
/// As [`wait_for_interrupt`](super::cpu::wait_for_interrupt). A machine check in these few
/// instructions would be lost.
pub unsafe fn take_all() {
    let Some(table) = TABLE.get() else { return };
    let drain = DRAIN_TABLE.call_once(|| Gates::for_drain(table));
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Gates>() - 1) as u16,
        base: VirtAddr::from_ptr(drain),
    };
    // SAFETY: the table is static, and each of its gates leads to a stub.
    unsafe {
        lidt(&pointer);
        super::cpu::take_interrupts();
    }
    table.load();
}

/// Calls `handler` for interrupts with `vector`, with interrupts off.
pub fn set_handler(vector: u8, handler: fn()) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Release);
}

/// Interrupts that nobody expected.
pub fn unexpected() -> u64 {
    STRAYS.load(Ordering::Relaxed)
}

extern "C" fn dispatch(frame: &mut Frame) {
    let vector = frame.vector as u8;
    match vector {
        NMI => frame.rip = super::nmi::on_nmi(frame.rip),
        vector if vector < FIRST_EXTERNAL => {
            #[cfg(feature = "testing")]
            if let Some(on) =
                super::testing::probe::resume(vector, frame.error_code, frame.rip, frame.rsp)
            {
                (frame.rip, frame.rsp, frame.registers[RAX]) = (on.rip, on.rsp, on.rax);
                return;
            }
            exception(vector, frame)
        }
        super::apic::SPURIOUS_VECTOR => {}
        vector => {
            let handler = HANDLERS[usize::from(vector)].load(Ordering::Acquire);
            if handler == 0 {
                STRAYS.fetch_add(1, Ordering::Relaxed);
            } else {
                // SAFETY: only `set_handler` stores here, and only a `fn()`.
                let handler: fn() = unsafe { core::mem::transmute(handler) };
                handler();
            }
            super::apic::end_of_interrupt();
        }
    }
}

fn exception(vector: u8, frame: &Frame) -> ! {
    const NAMES: [&str; 22] = [
        "divide error",
        "debug exception",
        "NMI",
        "breakpoint",
        "overflow",
        "bound range exceeded",
        "invalid opcode",
        "device not available",
        "double fault",
        "coprocessor segment overrun",
        "invalid TSS",
        "segment not present",
        "stack fault",
        "general protection fault",
        "page fault",
        "reserved",
        "x87 error",
        "alignment check",
        "machine check",
        "SIMD error",
        "virtualization exception",
        "control protection exception",
    ];
    let name = NAMES.get(usize::from(vector)).copied().unwrap_or("exception");
    // A page fault for want of a stack becomes a double fault.
    let has_address = matches!(vector, PAGE_FAULT | DOUBLE_FAULT);
    let cr2 = if has_address { super::cpu::read_cr2() } else { 0 };
    let below = |bottom: u64| bottom.saturating_sub(GUARD_PAGE)..bottom;
    let is_full = super::local::stack().is_some_and(|stack| below(stack.bottom).contains(&cr2));
    let stack = if is_full { ": the stack is full" } else { "" };
    panic!(
        "{name} (vector {vector}) in the hypervisor{stack}: error code {:#x}, rip {:#x}, rsp {:#x}, \
         rflags {:#x}, cr2 {cr2:#x}",
        frame.error_code, frame.rip, frame.rsp, frame.rflags
    );
}
