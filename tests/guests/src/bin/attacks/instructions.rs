//! Instructions that a guest has not, and registers with bits that it has not.

use crate::map;
use crate::place::{NOWHERE, Place};
use crate::{Followed, followed, runs};
use bulkhead_guests::cpu::{self, cr0, cr4};
use bulkhead_guests::interrupts::vector::{GENERAL_PROTECTION, INVALID_OPCODE};
use bulkhead_guests::suite::{Shortfall, faults, same};
use bulkhead_guests::{ensure, skip};
use core::arch::asm;

runs! { "instructions":
    enters_vmx_operation,
    uses_vmx_structures,
    invalidates_translations_of_others,
    switches_its_ept_by_vmfunc,
    calls_the_hypervisor_with_every_number,
    calls_the_hypervisor_with_wild_arguments,
    calls_the_hypervisor_as_others_do,
    uses_smx,
    uses_sgx,
    leaves_system_management_mode,
    uses_svm,
    waits_for_memory,
    uses_what_is_hidden,
    flushes_the_caches,
    counts_events,
    sets_bad_states_in_xcr0,
    sets_reserved_bits_of_cr0,
    sets_reserved_bits_of_cr3,
    sets_bits_of_cr4_that_it_has_not,
    sets_reserved_bits_of_cr8,
    sets_reserved_bits_of_dr6_and_dr7,
    uses_control_registers_that_there_are_not,
}

/// KVM's "no such hypercall".
const NO_SUCH_CALL: i64 = -1000;

/// What an instruction is given in RAX, RCX and RDX.
type Operands = [u64; 3];
/// An instruction and its name.
type Instruction = (&'static str, fn(Operands));

/// An instruction with operands in RAX, RCX and RDX; RBX and RDI are zero, RSI points at memory.
macro_rules! instruction {
    ($text:literal) => {
        {
            fn run([rax, rcx, rdx]: Operands) {
                let mut memory = [0u64; 16];
                // SAFETY: the instruction faults; if it does not, it reads or writes the memory at most, and the
                // attack is reported.
                unsafe {
                    asm!("push rbx", "xor ebx, ebx", $text, "pop rbx", inout("rax") rax => _,
                        inout("rcx") rcx => _, inout("rdx") rdx => _, inout("rdi") 0u64 => _,
                        in("rsi") &raw mut memory);
                }
            }
            let instruction: Instruction = ($text, run);
            instruction
        }
    };
}

/// Fails unless each instruction is #UD with these in RAX.
fn undefined(list: &[Instruction], rax: core::ops::Range<u64>) -> Followed {
    let mut count = 0;
    for &(name, run) in list {
        for rax in rax.clone() {
            let what = format_args!("{name} with RAX {rax:#x}");
            faults(what, INVALID_OPCODE, || run([rax, 0, 0]))?;
            count += 1;
        }
    }
    followed!("#UD, {count} times")
}

fn enters_vmx_operation(_: &Place) -> Followed {
    let list = [
        instruction!("vmxon [rsi]"),
        instruction!("vmxoff"),
        instruction!("vmlaunch"),
        instruction!("vmresume"),
    ];
    undefined(&list, 0..1)
}

fn uses_vmx_structures(_: &Place) -> Followed {
    let list = [
        instruction!("vmclear [rsi]"),
        instruction!("vmptrld [rsi]"),
        instruction!("vmptrst [rsi]"),
        instruction!("vmread rdx, rax"),
        instruction!("vmread [rsi], rax"),
        instruction!("vmwrite rax, rdx"),
        instruction!("vmwrite rax, [rsi]"),
    ];
    undefined(&list, 0..1)
}

fn invalidates_translations_of_others(_: &Place) -> Followed {
    undefined(&[instruction!("invept rax, [rsi]"), instruction!("invvpid rax, [rsi]")], 0..8)
}

fn switches_its_ept_by_vmfunc(_: &Place) -> Followed {
    undefined(&[instruction!("vmfunc")], 0..64)
}

fn calls_the_hypervisor_with_every_number(_: &Place) -> Followed {
    let mut count = 0;
    for number in (0..1 << 16).chain((16..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
        let answer = cpu::vmcall(number);
        ensure!(answer == NO_SUCH_CALL, "call {number:#x} gives {answer}");
        count += 1;
    }
    followed!("-1000, {count} times")
}

fn calls_the_hypervisor_with_wild_arguments(place: &Place) -> Followed {
    let arguments = [
        place.hypervisor_start(),
        place.neighbour.start,
        place.image,
        NOWHERE,
        place.ram_end - 1,
        1 << 63,
        u64::MAX,
    ];
    for argument in arguments {
        for number in 0..16i64 {
            let answer: i64;
            let (mut rcx, mut rdx, mut rsi, mut rdi) = (argument, argument, argument, argument);
            let (mut r8, mut r9, mut r10, mut r11) = (argument, argument, argument, argument);
            // SAFETY: there are no hypercalls: nothing is done with the arguments.
            unsafe {
                asm!("vmcall", inout("rax") number => answer, inout("rcx") rcx, inout("rdx") rdx,
                    inout("rsi") rsi, inout("rdi") rdi, inout("r8") r8, inout("r9") r9,
                    inout("r10") r10, inout("r11") r11);
            }
            ensure!(answer == NO_SUCH_CALL, "call {number} with {argument:#x} gives {answer}");
            for register in [rcx, rdx, rsi, rdi, r8, r9, r10, r11] {
                same(format_args!("a register after call {number}"), register, argument)?;
            }
        }
    }
    followed!("-1000, and no register has changed")
}

fn calls_the_hypervisor_as_others_do(_: &Place) -> Followed {
    let list = [
        instruction!("vmmcall"),
        instruction!(".byte 0x66, 0x0f, 0x01, 0xcc // tdcall"),
        instruction!(".byte 0x66, 0x0f, 0x01, 0xcf // seamcall"),
    ];
    undefined(&list, 0..4)
}

fn uses_smx(_: &Place) -> Followed {
    undefined(&[instruction!("getsec")], 0..9)
}

fn uses_sgx(_: &Place) -> Followed {
    let list = [
        instruction!(".byte 0x0f, 0x01, 0xcf // encls"),
        instruction!(".byte 0x0f, 0x01, 0xd7 // enclu"),
        instruction!(".byte 0x0f, 0x01, 0xc0 // enclv"),
    ];
    undefined(&list, 0..16)
}

fn leaves_system_management_mode(_: &Place) -> Followed {
    undefined(&[instruction!("rsm")], 0..1)
}

fn uses_svm(_: &Place) -> Followed {
    let list = [
        instruction!(".byte 0x0f, 0x01, 0xd8 // vmrun"),
        instruction!(".byte 0x0f, 0x01, 0xda // vmload"),
        instruction!(".byte 0x0f, 0x01, 0xdb // vmsave"),
        instruction!(".byte 0x0f, 0x01, 0xdc // stgi"),
        instruction!(".byte 0x0f, 0x01, 0xdd // clgi"),
        instruction!(".byte 0x0f, 0x01, 0xde // skinit"),
        instruction!(".byte 0x0f, 0x01, 0xdf // invlpga"),
    ];
    undefined(&list, 0..1)
}

fn waits_for_memory(_: &Place) -> Followed {
    let list = [
        instruction!("monitor"),
        instruction!("mwait"),
        instruction!(".byte 0xf3, 0x0f, 0xae, 0xf0 // umonitor rax"),
        instruction!(".byte 0xf2, 0x0f, 0xae, 0xf0 // umwait eax"),
        instruction!(".byte 0x66, 0x0f, 0xae, 0xf0 // tpause eax"),
    ];
    undefined(&list, 0..1)
}

fn uses_what_is_hidden(_: &Place) -> Followed {
    let list = [
        instruction!(".byte 0x0f, 0x01, 0xc5 // pconfig"),
        instruction!(".byte 0xf3, 0x0f, 0x38, 0xdc, 0xc1 // loadiwkey xmm0, xmm1"),
        instruction!("xsaves [rsi]"),
        instruction!("xrstors [rsi]"),
        instruction!(".byte 0xf3, 0x0f, 0x38, 0xf8, 0x06 // enqcmds rax, [rsi]"),
        instruction!(".byte 0xf3, 0x0f, 0x01, 0xe8 // setssbsy"),
    ];
    undefined(&list, 0..1)
}

fn flushes_the_caches(_: &Place) -> Followed {
    const VALUE: u64 = 0xB01C_4EAD;
    const TIMES: u64 = 100;
    let mut memory = [0u64; 512];
    for time in 0..TIMES {
        for (place, index) in memory.iter_mut().zip(0u64..) {
            // SAFETY: a variable of this function's.
            unsafe { core::ptr::write_volatile(place, VALUE + time + index) };
        }
        // SAFETY: INVD would lose the writes above on bare hardware, and in a guest must not.
        unsafe { asm!("invd", "wbinvd") };
        for (place, index) in memory.iter().zip(0u64..) {
            // SAFETY: a variable of this function's.
            let read = unsafe { core::ptr::read_volatile(place) };
            same("memory", read, VALUE + time + index)?;
        }
    }
    followed!("all is there, {TIMES} times")
}

fn counts_events(_: &Place) -> Followed {
    const FIXED: u64 = 1 << 30;
    let counters = (0..64).chain(FIXED..FIXED + 8).chain([1 << 31, u64::from(u32::MAX)]);
    let (_, read) = instruction!("rdpmc");
    for counter in counters {
        let what = format_args!("RDPMC {counter:#x}");
        faults(what, GENERAL_PROTECTION, || read([0, counter, 0]))?;
    }
    followed!("#GP at each")
}

fn sets_bad_states_in_xcr0(_: &Place) -> Followed {
    const XSAVE: u32 = 1 << 26;
    const X87: u64 = 1;
    if cpu::cpuid(1, 0).ecx & XSAVE == 0 {
        skip!("the processor has no XSAVE");
    }
    // SAFETY: no code of the guest's uses extended states.
    unsafe { cpu::write_cr4(cpu::read_cr4() | cr4::OSXSAVE) };
    let before = cpu::xgetbv(0);
    let shown = cpu::cpuid(0xD, 0);
    let shown = u64::from(shown.edx) << 32 | u64::from(shown.eax);
    let alone = (1..64).map(|bit| 1 << bit);
    let absent = (0..64).map(|bit| 1 << bit | X87).filter(|value| value & !shown != 0);
    let parts = [0, X87 | 1 << 2, X87 | 1 << 3, X87 | 0b110 | 1 << 5, u64::MAX, shown | 1 << 63];
    let mut count = 0;
    for value in alone.chain(absent).chain(parts) {
        let what = format_args!("XCR0 = {value:#x}");
        faults(what, GENERAL_PROTECTION, || cpu::xsetbv(0, value))?;
        count += 1;
    }
    for register in 1..16 {
        let what = format_args!("XCR{register}");
        faults(what, GENERAL_PROTECTION, || cpu::xsetbv(register, X87))?;
    }
    same("XCR0", cpu::xgetbv(0), before)?;
    followed!("#GP at {count} values and 15 registers")
}

/// Fails unless each value is #GP, and the register is as before.
fn refused(
    name: &str,
    values: impl Iterator<Item = u64>,
    read: fn() -> u64,
    write: unsafe fn(u64),
) -> Result<u64, Shortfall> {
    let before = read();
    let mut count = 0;
    for value in values {
        faults(format_args!("{name} = {value:#x}"), GENERAL_PROTECTION, || {
            // SAFETY: refused; if not, the attack is reported.
            unsafe { write(value) };
        })?;
        same(name, read(), before)?;
        count += 1;
    }
    Ok(count)
}

fn sets_reserved_bits_of_cr0(_: &Place) -> Followed {
    let now = cpu::read_cr0();
    let reserved = (32..64).map(|bit| now | 1 << bit);
    let inconsistent = [now & !cr0::CD | cr0::NW, now & !cr0::PE, now & !cr0::PG];
    let values = reserved.chain(inconsistent);
    let count = refused("CR0", values, cpu::read_cr0, cpu::write_cr0)?;
    followed!("#GP at {count} values")
}

fn sets_reserved_bits_of_cr3(_: &Place) -> Followed {
    /// Bit 63 is no part of the register.
    const LAST: u32 = 62;
    let now = cpu::read_cr3();
    let values = (map::address_bits()..=LAST).map(|bit| now | 1 << bit);
    let count = refused("CR3", values, cpu::read_cr3, cpu::write_cr3)?;
    followed!("#GP at {count} values")
}

fn sets_bits_of_cr4_that_it_has_not(_: &Place) -> Followed {
    /// VME to PGE but MCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP: what a guest may have.
    const ALLOWED: u64 = 0xBF | 0b11 << 9 | 1 << 11 | 0b111 << 16 | 0b11 << 20;
    let now = cpu::read_cr4();
    same("what it has of the others", now & !ALLOWED, 0)?;
    let values = (0..64).map(|bit| 1 << bit).filter(|bit| bit & ALLOWED == 0).map(|bit| now | bit);
    let count = refused("CR4", values, cpu::read_cr4, cpu::write_cr4)?;
    followed!("#GP at {count} bits")
}

fn sets_reserved_bits_of_cr8(_: &Place) -> Followed {
    let values = (4..64).map(|bit| 1 << bit);
    let count = refused("CR8", values, cpu::read_cr8, cpu::write_cr8)?;
    followed!("#GP at {count} values")
}

fn sets_reserved_bits_of_dr6_and_dr7(_: &Place) -> Followed {
    let values = || (32..64).map(|bit| 1 << bit);
    let count = refused("DR6", values(), cpu::read_dr6, cpu::write_dr6)?
        + refused("DR7", values(), cpu::read_dr7, cpu::write_dr7)?;
    followed!("#GP at {count} values")
}

fn uses_control_registers_that_there_are_not(_: &Place) -> Followed {
    let reads: [Instruction; 11] = [
        instruction!(".byte 0x0f, 0x20, 0xc8 // mov rax, cr1"),
        instruction!(".byte 0x0f, 0x20, 0xe8 // mov rax, cr5"),
        instruction!(".byte 0x0f, 0x20, 0xf0 // mov rax, cr6"),
        instruction!(".byte 0x0f, 0x20, 0xf8 // mov rax, cr7"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xc8 // mov rax, cr9"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xd0 // mov rax, cr10"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xd8 // mov rax, cr11"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xe0 // mov rax, cr12"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xe8 // mov rax, cr13"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xf0 // mov rax, cr14"),
        instruction!(".byte 0x44, 0x0f, 0x20, 0xf8 // mov rax, cr15"),
    ];
    let writes: [Instruction; 3] = [
        instruction!(".byte 0x0f, 0x22, 0xc8 // mov cr1, rax"),
        instruction!(".byte 0x0f, 0x22, 0xe8 // mov cr5, rax"),
        instruction!(".byte 0x44, 0x0f, 0x22, 0xf8 // mov cr15, rax"),
    ];
    let all = [reads.as_slice(), writes.as_slice()];
    for (name, run) in all.into_iter().flatten().copied() {
        faults(name, INVALID_OPCODE, || run([0; 3]))?;
    }
    followed!("#UD at each")
}
