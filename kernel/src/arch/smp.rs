//! Starting the other processors by INIT-SIPI-SIPI (SDM Vol. 3A, 9.4.4).
//!
//! A processor begins in real mode at a page below 1 MiB. The code there goes
//! to protected mode, to long mode with a page table that maps that page one to
//! one, and from there to the hypervisor. It finds all it needs in a block at its end,
//! through RBX, so that it runs at whatever page was free.

use super::address::{FRAME_SIZE, HostPhysical, HostVirtual};
use super::apic::{self, ApicId};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

global_asm!(
    r#"
    .pushsection .rodata.trampoline, "a", @progbits
    .balign 16
    .global bulkhead_trampoline
    bulkhead_trampoline:
    .code16
        cli
        cld
        xorl %ebx, %ebx
        movw %cs, %bx
        movw %bx, %ds
        shll $4, %ebx
        lgdtl bulkhead_trampoline_gdtr - bulkhead_trampoline
        movl %cr0, %eax
        orl ${pe}, %eax
        movl %eax, %cr0
        ljmpl *(bulkhead_trampoline_far32 - bulkhead_trampoline)
    .code32
    bulkhead_trampoline_32:
        movw $0x10, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl %cr4, %eax
        orl ${pae}, %eax
        movl %eax, %cr4
        movl bulkhead_trampoline_cr3 - bulkhead_trampoline(%ebx), %eax
        movl %eax, %cr3
        movl ${efer_msr}, %ecx
        rdmsr
        orl ${efer}, %eax
        wrmsr
        movl %cr0, %eax
        orl ${pg_wp}, %eax
        movl %eax, %cr0
        ljmpl *(bulkhead_trampoline_far64 - bulkhead_trampoline)(%ebx)
    .code64
    bulkhead_trampoline_64:
        movq bulkhead_trampoline_stack - bulkhead_trampoline(%rbx), %rsp
        movq bulkhead_trampoline_argument - bulkhead_trampoline(%rbx), %rdi
        movq bulkhead_trampoline_entry - bulkhead_trampoline(%rbx), %rax
        xorl %ebp, %ebp
        pushq $0
        jmpq *%rax
    .balign 16
    // Accessed bits are set: the page is mapped read-only once paging is on.
    bulkhead_trampoline_gdt:
        .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
        .quad 0x00af9b000000ffff
    bulkhead_trampoline_gdtr:
        .word 31
        .long 0
    .balign 8
    bulkhead_trampoline_far32:
        .long 0
        .word 0x08
    .balign 8
    bulkhead_trampoline_far64:
        .long 0
        .word 0x18
    .balign 8
    bulkhead_trampoline_cr3:
        .quad 0
    bulkhead_trampoline_stack:
        .quad 0
    bulkhead_trampoline_argument:
        .quad 0
    bulkhead_trampoline_entry:
        .quad 0
    .global bulkhead_trampoline_end
    bulkhead_trampoline_end:
    .popsection
    "#,
    pe = const super::cpu::cr0::PE,
    pae = const super::cpu::cr4::PAE,
    efer_msr = const super::msr::Msr::EFER.number(),
    efer = const super::cpu::efer::LME | super::cpu::efer::NXE,
    pg_wp = const super::cpu::cr0::PG | super::cpu::cr0::WP,
    options(att_syntax),
);

unsafe extern "C" {
    static bulkhead_trampoline: u8;
    static bulkhead_trampoline_32: u8;
    static bulkhead_trampoline_64: u8;
    static bulkhead_trampoline_gdt: u8;
    static bulkhead_trampoline_gdtr: u8;
    static bulkhead_trampoline_far32: u8;
    static bulkhead_trampoline_far64: u8;
    static bulkhead_trampoline_cr3: u8;
    static bulkhead_trampoline_stack: u8;
    static bulkhead_trampoline_argument: u8;
    static bulkhead_trampoline_entry: u8;
    static bulkhead_trampoline_end: u8;
}

/// A processor did not come up in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer(pub ApicId);

/// The start-up page, installed.
pub struct Trampoline {
    physical: HostPhysical,
    mapped: HostVirtual,
}

/// APIC ID of the core that was the last to leave the shared block, plus one.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Microseconds after INIT (SDM Vol. 3A, 9.4.4.1), and between two looks at whether the core has answered.
const AFTER_INIT: u64 = 10_000;
const BETWEEN_LOOKS: u64 = 200;
/// Looks after each start-up IPI: 200 ms.
const LOOKS: u32 = 1_000;

impl Trampoline {
    /// Copies the code to a frame below 1 MiB.
    ///
    /// # Safety
    /// The frame at `physical` is the caller's, below 1 MiB, mapped writable at `mapped`; `cr3` is
    /// below 4 GiB and maps the frame one to one besides all that [`start`](Self::start) is given.
    pub unsafe fn install(physical: HostPhysical, mapped: HostVirtual, cr3: HostPhysical) -> Self {
        let start = &raw const bulkhead_trampoline;
        let len = &raw const bulkhead_trampoline_end as usize - start as usize;
        assert!(len as u64 <= FRAME_SIZE, "the trampoline fits a frame");
        // SAFETY: the caller's contract.
        unsafe { super::copy::copy(mapped.as_u64() as *mut u8, start, len) };
        let this = Self { physical, mapped };
        let base = physical.as_u64() as u32;
        this.patch(
            &raw const bulkhead_trampoline_gdtr,
            2,
            base + Self::offset(&raw const bulkhead_trampoline_gdt),
        );
        this.patch(
            &raw const bulkhead_trampoline_far32,
            0,
            base + Self::offset(&raw const bulkhead_trampoline_32),
        );
        this.patch(
            &raw const bulkhead_trampoline_far64,
            0,
            base + Self::offset(&raw const bulkhead_trampoline_64),
        );
        this.patch(&raw const bulkhead_trampoline_cr3, 0, cr3.as_u64());
        this
    }

    fn offset(symbol: *const u8) -> u32 {
        (symbol as usize - &raw const bulkhead_trampoline as usize) as u32
    }

    fn patch<T>(&self, symbol: *const u8, skip: u64, value: T) {
        let at = self.mapped.as_u64() + u64::from(Self::offset(symbol)) + skip;
        // SAFETY: inside the frame, which `install` was promised.
        unsafe { (at as *mut T).write_unaligned(value) };
    }

    /// Starts one processor at `entry(argument)` on `stack_top`, and waits until it calls
    /// [`announce`]. `delay` waits for so many microseconds.
    ///
    /// # Safety
    /// The processor must be waiting for INIT-SIPI or free to be reset; the stack is its own from now on.
    pub unsafe fn start(
        &self,
        target: ApicId,
        stack_top: HostVirtual,
        entry: extern "C" fn(u64) -> !,
        argument: u64,
        delay: impl Fn(u64),
    ) -> Result<(), NoAnswer> {
        self.patch(&raw const bulkhead_trampoline_stack, 0, stack_top.as_u64());
        self.patch(&raw const bulkhead_trampoline_argument, 0, argument);
        self.patch(&raw const bulkhead_trampoline_entry, 0, entry as usize as u64);
        STARTED.store(0, Ordering::SeqCst);
        let page = (self.physical.as_u64() / FRAME_SIZE) as u8;
        // SAFETY: the caller's contract; the code is in place.
        unsafe { apic::send_init(target) };
        delay(AFTER_INIT);
        for _ in 0..2 {
            // SAFETY: as above.
            unsafe { apic::send_startup(target, page) };
            for _ in 0..LOOKS {
                if STARTED.load(Ordering::SeqCst) == target.0 + 1 {
                    return Ok(());
                }
                delay(BETWEEN_LOOKS);
            }
        }
        // One that comes late must not find the next core's block.
        // SAFETY: as above.
        unsafe { apic::send_init(target) };
        delay(AFTER_INIT);
        Err(NoAnswer(target))
    }
}

/// Called by a started core once it needs the shared block no longer.
pub fn announce(core: ApicId) {
    STARTED.store(core.0 + 1, Ordering::SeqCst);
}
