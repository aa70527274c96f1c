//! Instructions of random bytes, in ring 0.
//!
//! They run in an address space of their own, in which all memory can be read and executed and 2 MiB alone can be written, with
//! registers that point there. Each exception ends them, on a stack and by a table of their own. They are single-stepped, which
//! bounds how many there are; each step lets interrupts in again, so that the timer ends what steps cannot, HLT among it.
//!
//! Left out are bytes that could take away what the guest stands on: MOV to control and debug registers, WRMSR, and loads of
//! GDT, IDT, LDT and task register. Other operations do these. Memory outside RAM is not mapped, as most instructions that access
//! it end a guest.

use super::{Place, Random};
use bulkhead_guests::cpu::{self, TablePointer};
use bulkhead_guests::interrupts::{CODE_SELECTOR, DATA_SELECTOR};
use bulkhead_guests::{apic, task};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The memory that can be written, a page of 2 MiB that the guest uses for nothing else.
const ROOM: u64 = 10 << 20;
const LARGE_PAGE: u64 = 2 << 20;
/// RAM that can be read: what the tests' guests have at least.
const RAM: u64 = 16 << 20;
/// In it: where the bytes are, what registers point at, the stack, what counts the steps, and the stack of exceptions.
const CODE: u64 = ROOM + (1 << 20);
const DATA: u64 = ROOM + (1 << 19);
const STACK: u64 = ROOM + (3 << 19);
const STEPS_LEFT: u64 = ROOM + LARGE_PAGE - 4096;
const INTERRUPT_STACK: u64 = ROOM + LARGE_PAGE;
/// Most instructions, and the ticks after which they end in any case.
const STEPS: u32 = 32;
const TICKS: u32 = 100_000;
/// Bytes that are made: more than so many steps take, unless they jump.
const LENGTH: usize = 256;
const TIMER_VECTOR: u8 = 0x50;
/// Of a page-table entry: present; writable; a page of 2 MiB.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;

#[repr(C, align(4096))]
struct Tables([[u64; 512]; 3]);

/// Gates, each of which uses the first interrupt stack.
#[repr(C, align(16))]
struct Gates([[u64; 2]; 256]);

struct World {
    tables: Tables,
    gates: Gates,
}

struct Shared(UnsafeCell<World>);

// SAFETY: there is one processor, and nothing here is in use twice at a time.
unsafe impl Sync for Shared {}

static WORLD: Shared =
    Shared(UnsafeCell::new(World { tables: Tables([[0; 512]; 3]), gates: Gates([[0; 2]; 256]) }));
static READY: AtomicBool = AtomicBool::new(false);

/// How many instructions there were in all, as far as they have not written over the count.
pub static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);

/// What the code below is told.
#[repr(C)]
struct Orders {
    /// Of the space that the bytes run in.
    cr3: u64,
    gates: TablePointer,
    _unused: [u8; 6],
    /// RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8 to R15.
    registers: [u64; 15],
}

global_asm!(
    r#"
    .pushsection .bss.guest_bytes, "aw", @nobits
    .balign 16
    guest_bytes_kept:
        .skip 32
    .popsection
    .pushsection .text.guest_bytes, "ax", @progbits
    guest_bytes_run:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        sidt [rip + guest_bytes_kept + 16]
        mov [rip + guest_bytes_kept], rsp
        mov rax, cr3
        mov [rip + guest_bytes_kept + 8], rax
        lidt [rdi + 8]
        mov rax, [rdi]
        mov cr3, rax
        mov esp, {interrupt_stack}
        push {data}
        push {stack}
        push 0x302
        push {code}
        push {bytes}
        mov rax, [rdi + 24]
        mov rcx, [rdi + 32]
        mov rdx, [rdi + 40]
        mov rbx, [rdi + 48]
        mov rbp, [rdi + 56]
        mov rsi, [rdi + 64]
        mov r8, [rdi + 80]
        mov r9, [rdi + 88]
        mov r10, [rdi + 96]
        mov r11, [rdi + 104]
        mov r12, [rdi + 112]
        mov r13, [rdi + 120]
        mov r14, [rdi + 128]
        mov r15, [rdi + 136]
        mov rdi, [rdi + 72]
        iretq
    .balign 16
    guest_bytes_step:
        dec dword ptr [{steps_left}]
        jz guest_bytes_end
        or dword ptr [rsp + 16], 0x300
        iretq
    .balign 16
    guest_bytes_end:
        mov rax, [rip + guest_bytes_kept + 8]
        mov cr3, rax
        mov rsp, [rip + guest_bytes_kept]
        mov eax, {data}
        mov ss, eax
        mov ds, eax
        mov es, eax
        lidt [rip + guest_bytes_kept + 16]
        cld
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret
    .popsection
    "#,
    interrupt_stack = const INTERRUPT_STACK,
    stack = const STACK,
    bytes = const CODE,
    steps_left = const STEPS_LEFT,
    data = const DATA_SELECTOR,
    code = const CODE_SELECTOR,
);

unsafe extern "C" {
    fn guest_bytes_run(orders: *const Orders);
    static guest_bytes_step: u8;
    static guest_bytes_end: u8;
}

/// Makes tables and task.
fn prepare() {
    /// A gate's type: present, 64-bit interrupt gate, ring 0; and the first interrupt stack.
    const GATE: u64 = 0x8E01 << 32;
    const DEBUG: usize = 1;
    let world = WORLD.0.get();
    // SAFETY: see `Shared`; the room is RAM that the guest uses for nothing else.
    unsafe {
        let [top, pointers, directory] = &mut (*world).tables.0;
        top[0] = &raw const *pointers as u64 | PRESENT | WRITABLE;
        pointers[0] = &raw const *directory as u64 | PRESENT | WRITABLE;
        for (entry, at) in directory.iter_mut().zip((0..RAM).step_by(LARGE_PAGE as usize)) {
            *entry = at | LARGE | PRESENT | if at == ROOM { WRITABLE } else { 0 };
        }
        for (vector, gate) in (*world).gates.0.iter_mut().enumerate() {
            let to = if vector == DEBUG {
                &raw const guest_bytes_step
            } else {
                &raw const guest_bytes_end
            };
            let to = to as u64;
            let selector = u64::from(CODE_SELECTOR) << 16;
            *gate = [to & 0xFFFF | selector | GATE | (to >> 16 & 0xFFFF) << 48, to >> 32];
        }
        task::load(INTERRUPT_STACK, INTERRUPT_STACK);
    }
}

/// Whether two bytes could begin what is left out.
const fn is_left_out(bytes: [u8; 3]) -> bool {
    match bytes {
        // MOV to CR, MOV to DR, WRMSR.
        [0x0F, 0x22 | 0x23 | 0x30, _] => true,
        // LLDT and LTR; LGDT and LIDT.
        [0x0F, 0x00 | 0x01, operands] => matches!(operands >> 3 & 0b111, 2 | 3),
        _ => false,
    }
}

/// Lets the timer's interrupt through, whatever other operations have made of the local APIC: without it HLT is the
/// guest's end.
fn listen() {
    apic::enable();
    for _ in 0..=u8::MAX {
        if !apic::any_vector(apic::register::ISR) {
            break;
        }
        apic::end_of_interrupt();
    }
}

/// Random bytes, with random registers of which most point at memory.
pub fn run(random: &mut Random, _: &Place) {
    if !READY.swap(true, Ordering::SeqCst) {
        prepare();
    }
    let mut code = [0u8; LENGTH];
    for part in code.chunks_exact_mut(8) {
        part.copy_from_slice(&random.any().to_le_bytes());
    }
    for index in 0..LENGTH - 2 {
        if is_left_out([code[index], code[index + 1], code[index + 2]]) {
            code[index] = 0x90;
        }
    }
    let registers = core::array::from_fn(|_| match random.below(4) {
        0 => random.below(0x100),
        _ => DATA + random.below(1 << 16),
    });
    let world = WORLD.0.get();
    // SAFETY: see `Shared`.
    let (tables, gates) = unsafe { (&raw const (*world).tables, &raw const (*world).gates) };
    let orders =
        Orders { cr3: tables as u64, gates: TablePointer::to(gates), _unused: [0; 6], registers };
    // SAFETY: the room is RAM that the guest uses for nothing else, and nothing else of the guest's can be written by
    // what runs there; it ends by the number of its steps, by an exception or by the timer.
    unsafe {
        core::ptr::copy_nonoverlapping(code.as_ptr(), CODE as *mut u8, LENGTH);
        (STEPS_LEFT as *mut u32).write_volatile(STEPS);
        cpu::write_cr0(cpu::read_cr0() | cpu::cr0::WP);
        listen();
        apic::start_one_shot(TIMER_VECTOR, TICKS);
        guest_bytes_run(&raw const orders);
    }
    apic::stop_timer();
    apic::end_of_interrupt();
    // SAFETY: the room is there.
    let left = unsafe { (STEPS_LEFT as *const u32).read_volatile() };
    INSTRUCTIONS.fetch_add(STEPS.saturating_sub(left).into(), Ordering::SeqCst);
}
