//! What a further processor runs first: code for a page below 1 MiB, which begins in real mode, notes
//! the state it finds, and goes to long mode by the tables of the processor that started it.

use crate::cpu::{self, TablePointer, cr0, cr4, efer};
use core::arch::global_asm;
use core::{mem, ptr};

/// The page that a processor starts at: below 1 MiB, behind all that the loader puts there.
pub const START_PAGE: u8 = 0x30;
/// A page where a processor that starts counts itself and sleeps for good.
pub const COUNTER_PAGE: u8 = 0x31;
const PAGE_SHIFT: u32 = 12;
const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// What a processor found in its registers, from its first instruction on. Numbers are zero-extended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// EAX, EBX, ECX, EDX, ESI, EDI, EBP, ESP.
    pub general: [u32; 8],
    /// CS, SS, DS, ES, FS, GS.
    pub selectors: [u32; 6],
    /// The first instruction's offset in its segment.
    pub ip: u32,
    /// EFLAGS.
    pub flags: u32,
    /// CR0, CR2, CR3, CR4.
    pub control: [u32; 4],
    /// DR0, DR1, DR2, DR3, DR6, DR7.
    pub debug: [u32; 6],
    /// The lower half of `IA32_EFER`.
    pub efer: u32,
    /// Limit and base of the GDT.
    pub global_table: [u32; 2],
    /// Limit and base of the IDT.
    pub interrupt_table: [u32; 2],
}

impl Found {
    /// Positions in [`Found::general`].
    pub const EAX: usize = 0;
    /// As above.
    pub const EDX: usize = 3;
}

/// What the code is told, behind [`Found`].
#[repr(C)]
#[derive(Clone, Copy)]
struct Orders {
    entry: u64,
    stack: u64,
    argument: u64,
    cr3: u32,
    /// Limit, base: 32 bits of it, as the code loads it in real mode.
    global_table: [u8; 6],
    _unused: [u8; 6],
}

// The stack of real mode is at the page's end. Instructions are in AT&T's syntax, whose suffixes
// say what size an operand has whatever the mode.
global_asm!(
    r#"
    .pushsection .rodata.guest_trampoline, "a", @progbits
    .balign 16
    guest_trampoline:
    .code16
        movl %eax, %cs:(guest_found - guest_trampoline)
        movl %ebx, %cs:(guest_found - guest_trampoline + 4)
        movl %ecx, %cs:(guest_found - guest_trampoline + 8)
        movl %edx, %cs:(guest_found - guest_trampoline + 12)
        movl %esi, %cs:(guest_found - guest_trampoline + 16)
        movl %edi, %cs:(guest_found - guest_trampoline + 20)
        movl %ebp, %cs:(guest_found - guest_trampoline + 24)
        movl %esp, %cs:(guest_found - guest_trampoline + 28)
        movw %cs, %cs:(guest_found - guest_trampoline + 32)
        movw %ss, %cs:(guest_found - guest_trampoline + 36)
        movw %ds, %cs:(guest_found - guest_trampoline + 40)
        movw %es, %cs:(guest_found - guest_trampoline + 44)
        movw %fs, %cs:(guest_found - guest_trampoline + 48)
        movw %gs, %cs:(guest_found - guest_trampoline + 52)
        movw %cs, %ax
        movw %ax, %ds
        movw %ax, %ss
        movl ${page_size}, %esp
        pushfl
        popl (guest_found - guest_trampoline + 60)
        cli
        cld
        callw 2f
    2:  popw %ax
        subw $(2b - guest_trampoline), %ax
        movw %ax, (guest_found - guest_trampoline + 56)
        movl %cr0, %eax
        movl %eax, (guest_found - guest_trampoline + 64)
        movl %cr2, %eax
        movl %eax, (guest_found - guest_trampoline + 68)
        movl %cr3, %eax
        movl %eax, (guest_found - guest_trampoline + 72)
        movl %cr4, %eax
        movl %eax, (guest_found - guest_trampoline + 76)
        movl %dr0, %eax
        movl %eax, (guest_found - guest_trampoline + 80)
        movl %dr1, %eax
        movl %eax, (guest_found - guest_trampoline + 84)
        movl %dr2, %eax
        movl %eax, (guest_found - guest_trampoline + 88)
        movl %dr3, %eax
        movl %eax, (guest_found - guest_trampoline + 92)
        movl %dr6, %eax
        movl %eax, (guest_found - guest_trampoline + 96)
        movl %dr7, %eax
        movl %eax, (guest_found - guest_trampoline + 100)
        movl ${efer}, %ecx
        rdmsr
        movl %eax, (guest_found - guest_trampoline + 104)
        // A limit of 16 bits and a base of 32, six bytes, two behind the place for the limit.
        sgdtl (guest_found - guest_trampoline + 110)
        movw (guest_found - guest_trampoline + 110), %ax
        movw %ax, (guest_found - guest_trampoline + 108)
        movw $0, (guest_found - guest_trampoline + 110)
        sidtl (guest_found - guest_trampoline + 118)
        movw (guest_found - guest_trampoline + 118), %ax
        movw %ax, (guest_found - guest_trampoline + 116)
        movw $0, (guest_found - guest_trampoline + 118)

        lgdtl (guest_orders - guest_trampoline + 28)
        movl %cr4, %eax
        orl ${pae}, %eax
        movl %eax, %cr4
        movl (guest_orders - guest_trampoline + 24), %eax
        movl %eax, %cr3
        movl ${efer}, %ecx
        xorl %edx, %edx
        movl ${lme}, %eax
        wrmsr
        // With long mode enabled, protection and paging may be turned on at once.
        movl %cr0, %eax
        andl ${cached}, %eax
        orl ${pe_pg}, %eax
        movl %eax, %cr0
        ljmpl ${code}, ${start} + (3f - guest_trampoline)
    .code64
    3:  movw ${data}, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movq guest_orders+8(%rip), %rsp
        movq guest_orders+16(%rip), %rdi
        movq guest_orders(%rip), %rax
        xorl %ebp, %ebp
        callq *%rax
        ud2
    .balign 8
    guest_found:
        .fill {found_size}
    .balign 8
    guest_orders:
        .fill {orders_size}
    guest_trampoline_end:

    guest_counter:
    .code16
        lock incl %cs:(4f - guest_counter)
    5:  cli
        hlt
        jmp 5b
    .balign 4
    4:  .long 0
    guest_counter_end:
    .code64
    .popsection
    "#,
    page_size = const PAGE_SIZE,
    efer = const efer::MSR,
    lme = const efer::LME,
    pae = const cr4::PAE,
    cached = const (!(cr0::CD | cr0::NW)) as u32,
    pe_pg = const cr0::PE | cr0::PG,
    code = const crate::interrupts::CODE_SELECTOR,
    data = const crate::interrupts::DATA_SELECTOR,
    start = const (START_PAGE as u32) << PAGE_SHIFT,
    found_size = const size_of::<Found>(),
    orders_size = const size_of::<Orders>(),
    options(att_syntax),
);

const _: () = {
    // The numbers in the code.
    assert!(mem::offset_of!(Found, selectors) == 32 && mem::offset_of!(Found, ip) == 56);
    assert!(mem::offset_of!(Found, flags) == 60 && mem::offset_of!(Found, control) == 64);
    assert!(mem::offset_of!(Found, debug) == 80 && mem::offset_of!(Found, efer) == 104);
    assert!(mem::offset_of!(Found, global_table) == 108);
    assert!(mem::offset_of!(Found, interrupt_table) == 116);
    assert!(mem::offset_of!(Orders, stack) == 8 && mem::offset_of!(Orders, argument) == 16);
    assert!(mem::offset_of!(Orders, cr3) == 24 && mem::offset_of!(Orders, global_table) == 28);
};

unsafe extern "C" {
    static guest_trampoline: u8;
    static guest_trampoline_end: u8;
    static guest_found: u8;
    static guest_orders: u8;
    static guest_counter: u8;
    static guest_counter_end: u8;
}

fn page(number: u8) -> u64 {
    u64::from(number) << PAGE_SHIFT
}

/// Where in the page something of the code's is.
fn placed<T>(of: *const u8) -> *mut T {
    (page(START_PAGE) + (of as u64 - &raw const guest_trampoline as u64)) as *mut T
}

/// Copies code to a page.
///
/// # Safety
/// Nobody runs it or uses what is there.
unsafe fn copy(start: *const u8, end: *const u8, to: u8) {
    let length = end as usize - start as usize;
    assert!(length < PAGE_SIZE / 2, "the stack needs room");
    // SAFETY: the caller's contract; the page is RAM that the loader leaves alone.
    unsafe { ptr::copy_nonoverlapping(start, page(to) as *mut u8, length) };
}

/// Puts the code in its page: it is to call `entry(argument)` with `stack` as the stack pointer.
///
/// # Safety
/// No processor is about to start at the page, and `entry` does not return.
pub unsafe fn prepare(entry: extern "C" fn(u64) -> !, argument: u64, stack: u64) {
    let table = cpu::global_table();
    let TablePointer { limit, base } = table;
    let mut global_table = [0; 6];
    global_table[..2].copy_from_slice(&limit.to_le_bytes());
    global_table[2..].copy_from_slice(&(base as u32).to_le_bytes());
    let orders = Orders {
        entry: entry as usize as u64,
        stack,
        argument,
        cr3: cpu::read_cr3() as u32,
        global_table,
        _unused: [0; 6],
    };
    // SAFETY: the caller's contract.
    unsafe {
        copy(&raw const guest_trampoline, &raw const guest_trampoline_end, START_PAGE);
        placed::<Orders>(&raw const guest_orders).write_unaligned(orders);
    }
}

/// What the processor found that started last.
pub fn found() -> Found {
    // SAFETY: it has written its registers there, and goes on elsewhere; they are plain numbers.
    unsafe { placed::<Found>(&raw const guest_found).read_volatile() }
}

/// Puts the code that counts in its page, with the count at zero.
///
/// # Safety
/// No processor is about to start at the page.
pub unsafe fn prepare_counter() {
    // SAFETY: the caller's contract.
    unsafe { copy(&raw const guest_counter, &raw const guest_counter_end, COUNTER_PAGE) };
}

/// How many processors have started at the page that counts.
pub fn counted() -> u32 {
    let length = &raw const guest_counter_end as u64 - &raw const guest_counter as u64;
    let count = page(COUNTER_PAGE) + length - size_of::<u32>() as u64;
    // SAFETY: the count is the last that `prepare_counter` copied.
    unsafe { (count as *const u32).read_volatile() }
}
