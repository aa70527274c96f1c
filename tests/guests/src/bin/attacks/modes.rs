//! Modes of the processor.

use crate::place::Place;
use crate::{Followed, followed, runs};
use bulkhead_guests::cpu::{self, TablePointer, cr0};
use bulkhead_guests::interrupts::{CODE_SELECTOR, DATA_SELECTOR};
use bulkhead_guests::suite::same;
use bulkhead_guests::{fail, task_switch};
use core::arch::global_asm;
use core::cell::UnsafeCell;

runs! { "modes":
    enters_16_bit_protected_mode,
    enters_real_mode,
    switches_tasks,
    faults_three_times,
}

/// Null, 32-bit code, 64-bit code and data as the loader has them, 16-bit code, whose base is set when it is used.
type Segments = [u64; 5];
const CODE_32: u16 = 0x08;
const CODE_16: u16 = 0x20;
const SEGMENTS: Segments =
    [0, 0x00CF_9B00_0000_FFFF, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x0000_9B00_0000_FFFF];

/// What the code below found in 16-bit mode.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    /// CPUID 0x40000100, EBX: the beginning of the hypervisor's name.
    name: u32,
    /// What VMCALL answered.
    answer: u32,
    /// A byte of a port that nothing answers, zero-extended.
    port: u32,
    /// Four bytes where no memory is.
    memory: u32,
    /// CR0.
    cr0: u32,
}

struct Shared(UnsafeCell<Segments>);

// SAFETY: there is one processor, and `visit` alone uses it.
unsafe impl Sync for Shared {}

static TABLE: Shared = Shared(UnsafeCell::new(SEGMENTS));

// From long mode by compatibility mode to 16-bit code, with data segments of 4 GiB, and back. In real mode too
// the code segment keeps the base that it was loaded with.
global_asm!(
    r#"
    .pushsection .bss.guest_modes, "aw", @nobits
    .balign 8
    guest_modes_stack:
        .skip 8
    .popsection
    .pushsection .text.guest_modes, "ax", @progbits
    guest_visit_16:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        mov [rip + guest_modes_stack], rsp
        mov ebp, edi
        push {code_32}
        lea rax, [rip + 2f]
        push rax
        retfq
    .code32
    2:
        mov eax, {data}
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, cr0
        and eax, {paging_off}
        mov cr0, eax
        .byte 0xea
        .long 0
        .word {code_16}
    .code16
    .balign 16
    guest_modes_16:
        test ebp, ebp
        jz 3f
        mov eax, cr0
        and eax, {protection_off}
        mov cr0, eax
    3:
        mov eax, cr0
        mov [esi + 16], eax
        mov eax, 0x40000100
        xor ecx, ecx
        cpuid
        mov [esi], ebx
        mov eax, 1
        vmcall
        mov [esi + 4], eax
        mov dx, 0x1230
        xor eax, eax
        in al, dx
        mov [esi + 8], eax
        mov edi, 0xd0000000
        mov eax, [edi]
        mov [esi + 12], eax
        mov eax, cr0
        or eax, 1
        mov cr0, eax
        .byte 0x66, 0xea
        .long 4f
        .word {code_32}
    .code32
    4:
        mov eax, {data}
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov eax, cr0
        or eax, {paging}
        mov cr0, eax
        .byte 0xea
        .long 5f
        .word {code_64}
    .code64
    5:
        mov rsp, [rip + guest_modes_stack]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret
    .popsection
    "#,
    code_16 = const CODE_16,
    code_32 = const CODE_32,
    code_64 = const CODE_SELECTOR,
    data = const DATA_SELECTOR,
    paging = const cr0::PG as u32 as i32,
    paging_off = const !(cr0::PG as u32),
    protection_off = const !(cr0::PE as u32) as i32,
);

unsafe extern "C" {
    fn guest_visit_16(real: u64, found: *mut Found);
    static guest_modes_16: u8;
}

/// Runs the code above, in real mode or in protected mode.
fn visit(real: bool) -> Found {
    let mut found = Found::default();
    let table = TABLE.0.get();
    // The guest is below 16 MiB: the base has 24 bits in the middle of the descriptor.
    let base = &raw const guest_modes_16 as u64 & 0xFF_FFFF;
    // SAFETY: interrupts are off; the selectors that are in use mean what they meant, and so they may stay.
    unsafe {
        (*table)[usize::from(CODE_16) / 8] = SEGMENTS[usize::from(CODE_16) / 8] | base << 16;
        cpu::load_global_table(&TablePointer::to(table));
        guest_visit_16(real.into(), &raw mut found);
    }
    found
}

fn look(real: bool) -> Followed {
    const NAME: u64 = u32::from_le_bytes(*b"Bulk") as u64;
    const NO_SUCH_CALL: u64 = -1000i32 as u32 as u64;
    let before = cpu::read_cr0();
    let Found { name, answer, port, memory, cr0 } = visit(real);
    same("PE", u64::from(cr0) & (cr0::PE | cr0::PG), if real { 0 } else { cr0::PE })?;
    same("the hypervisor's name", name.into(), NAME)?;
    same("VMCALL's answer", answer.into(), NO_SUCH_CALL)?;
    same("what the port gives", port.into(), 0xFF)?;
    same("what the memory gives", memory.into(), u32::MAX.into())?;
    same("CR0 afterwards", cpu::read_cr0(), before)?;
    followed!("the same as in long mode, and it came back")
}

fn enters_16_bit_protected_mode(_: &Place) -> Followed {
    look(false)
}

fn enters_real_mode(_: &Place) -> Followed {
    look(true)
}

fn switches_tasks(_: &Place) -> Followed {
    task_switch::switch();
    fail!("the guest goes on")
}

fn faults_three_times(_: &Place) -> Followed {
    cpu::triple_fault()
}
