//! What a guest can learn of the hypervisor and of its neighbour.

use crate::msr::readable;
use crate::place::{NOWHERE, Place, load};
use crate::{Followed, followed, runs};
use bulkhead_guests::apic::register;
use bulkhead_guests::cpu::{self, Cpuid, TablePointer, rdmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::memory::{first_nonzero, image, unloaded};
use bulkhead_guests::suite::{Outcome, same};
use bulkhead_guests::{console, ensure, fail, port};
use core::arch::asm;
use core::ops::Range;
use core::slice;

runs! { "covert":
    searches_cpuid,
    searches_msrs,
    searches_acpi_tables,
    searches_memory,
    asks_for_tables,
    looks_for_messages,
    looks_into_registers,
}

/// Fails if there is the neighbour's name in bytes.
fn nameless(what: &str, bytes: &[u8], place: &Place) -> Outcome {
    let name = place.name.as_bytes();
    ensure!(!name.is_empty(), "it was not told the neighbour's name");
    ensure!(!bytes.windows(name.len()).any(|part| part == name), "{what} has its name");
    Ok(())
}

/// Fails if there is the neighbour's name in bytes, or an address of the others' at any of them.
fn harmless(what: &str, bytes: &[u8], place: &Place) -> Outcome {
    nameless(what, bytes, place)?;
    for (at, word) in bytes.windows(8).enumerate() {
        let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        ensure!(!place.betrays(word), "{what} has {word:#x} at {at:#x}");
    }
    Ok(())
}

fn searches_cpuid(place: &Place) -> Followed {
    const RANGES: [Range<u32>; 3] = [0..0x30, 0x4000_0000..0x4000_0210, 0x8000_0000..0x8000_0020];
    let mut count = 0;
    for leaf in RANGES.into_iter().flatten() {
        for subleaf in 0..32 {
            let Cpuid { eax, ebx, ecx, edx } = cpu::cpuid(leaf, subleaf);
            let mut bytes = [0; 24];
            // Texts are in EBX, EDX, ECX, or in the order of the names.
            for (place, register) in bytes.chunks_exact_mut(4).zip([eax, ebx, ecx, edx, ecx, 0]) {
                place.copy_from_slice(&register.to_le_bytes());
            }
            nameless("CPUID", &bytes, place)?;
            // An address is in one register, or in two.
            let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
            let pairs = [pair(edx, eax), pair(ecx, ebx), pair(ebx, eax), pair(edx, ecx)];
            let numbers = [eax, ebx, ecx, edx].map(u64::from).into_iter().chain(pairs);
            for number in numbers {
                ensure!(!place.betrays(number), "leaf {leaf:#x} has {number:#x}");
            }
            count += 1;
        }
    }
    followed!("nothing of the others in {count} answers")
}

fn searches_msrs(place: &Place) -> Followed {
    /// Counters, which may be any number.
    const TSC: u32 = 0x10;
    let mut count = 0;
    for msr in readable().filter(|msr| ![TSC, register::TIMER_CURRENT].contains(msr)) {
        harmless("an MSR", &rdmsr(msr).to_le_bytes(), place)?;
        count += 1;
    }
    followed!("nothing of the others in {count} registers")
}

fn searches_acpi_tables(place: &Place) -> Followed {
    // Not the page tables, which are the guest's own and have every address below 4 GiB.
    const RANGES: [Range<u64>; 3] = [0..0x8000, 0x2_0000..0x2_0800, 0xE_0000..0x10_0000];
    for Range { start, end } in RANGES {
        // At 0 there is RAM too, but a reference may not be null.
        let start = start.max(8);
        // SAFETY: RAM, which nobody writes while it is looked at.
        let bytes = unsafe { slice::from_raw_parts(start as *const u8, (end - start) as usize) };
        harmless("what the loader left", bytes, place)?;
    }
    followed!("nothing of the others")
}

fn searches_memory(place: &Place) -> Followed {
    let mut bytes = 0;
    for range in unloaded(&place.boot, u64::MAX >> 1) {
        bytes += range.end - range.start;
        if let Some((word, at)) = first_nonzero(range) {
            fail!("{word:#x} at {at:#x}");
        }
    }
    followed!("{} KiB of zeros", bytes >> 10)
}

fn asks_for_tables(place: &Place) -> Followed {
    let mut table = TablePointer { limit: 0, base: 0 };
    let (ldt, task, status): (u64, u64, u64);
    // SAFETY: SIDT stores to the variable, the others to registers.
    unsafe {
        asm!("sidt [{}]", in(reg) &raw mut table, options(nostack, preserves_flags));
        asm!("sldt {0:e}", "str {1:e}", "smsw {2}", out(reg) ldt, out(reg) task, out(reg) status);
    }
    let (interrupts, global) = ({ table.base }, { cpu::global_table().base });
    ensure!(image().contains(&interrupts), "the IDT is at {interrupts:#x}");
    ensure!(global < place.ram_end, "the GDT is at {global:#x}");
    same("LDTR", ldt, 0)?;
    ensure!(task < 0x30, "TR is {task:#x}");
    same("what SMSW says", status & 0xFFFF, cpu::read_cr0() & 0xFFFF)?;
    for base in [0xC000_0100, 0xC000_0101, 0xC000_0102] {
        same("a base", rdmsr(base), 0)?;
    }
    followed!("its own: IDT at {interrupts:#x}, GDT at {global:#x}, TR {task:#x}")
}

fn looks_for_messages(place: &Place) -> Followed {
    for at in [place.hypervisor_start(), place.neighbour.start, NOWHERE] {
        load(at, 8);
    }
    for msr in [0x3A, 0x480, 0x12345] {
        ensure!(expect_fault(|| _ = rdmsr(msr)).is_some(), "MSR {msr:#x} is there");
    }
    cpu::vmcall(0);
    let status = port::read::<u8>(console::LINE_STATUS);
    ensure!(status & console::RECEIVED == 0, "something was said to it");
    followed!("nothing was said to it")
}

/// Runs an instruction that exits, with a value in each register that is not its operand: whether all are there.
macro_rules! keeps {
    ($place:expr, $text:literal, $rax:expr, $rcx:expr, $rdx:expr) => {{
        let (mut rsi, mut rdi): (u64, u64) = ($place + 8, $place + 9);
        let (mut r8, mut r9, mut r10, mut r11): (u64, u64, u64, u64) =
            ($place, $place + 1, $place + 2, $place + 3);
        let (mut r12, mut r13, mut r14, mut r15): (u64, u64, u64, u64) =
            ($place + 4, $place + 5, $place + 6, $place + 7);
        // SAFETY: the instructions change RAX, RBX, RCX and RDX at most; RBX is put back.
        unsafe {
            asm!("push rbx", $text, "pop rbx", inout("rax") $rax => _, inout("rcx") $rcx => _,
                inout("rdx") $rdx => _, inout("rsi") rsi, inout("rdi") rdi, inout("r8") r8,
                inout("r9") r9, inout("r10") r10, inout("r11") r11, inout("r12") r12,
                inout("r13") r13, inout("r14") r14, inout("r15") r15);
        }
        let all = [r8, r9, r10, r11, r12, r13, r14, r15, rsi, rdi];
        for (register, expected) in all.into_iter().zip($place..) {
            same(format_args!("a register after {}", $text), register, expected)?;
        }
    }};
}

fn looks_into_registers(_: &Place) -> Followed {
    const FIRST: u64 = 0x1111_2222_3333_0000;
    const ABSENT: u64 = 0x1230;
    let breakpoints = [0x1111_0000, 0x2222_0000, 0x3333_0000, 0x4444_0000];
    // SAFETY: none of them is on.
    unsafe {
        cpu::write_dr0(breakpoints[0]);
        cpu::write_dr1(breakpoints[1]);
        cpu::write_dr2(breakpoints[2]);
        cpu::write_dr3(breakpoints[3]);
    }
    keeps!(FIRST, "cpuid", 0u64, 0u64, 0u64);
    keeps!(FIRST, "vmcall", 0u64, 0u64, 0u64);
    keeps!(FIRST, "in al, dx", 0u64, 0u64, ABSENT);
    keeps!(FIRST, "out dx, eax", 0u64, 0u64, ABSENT);
    keeps!(FIRST, "rdmsr", 0u64, u64::from(register::BASE), 0u64);
    keeps!(FIRST, "wbinvd", 0u64, 0u64, 0u64);
    keeps!(FIRST, "mov rax, [rcx]", 0u64, NOWHERE, 0u64);
    keeps!(FIRST, "mov [rcx], rax", 0u64, NOWHERE, 0u64);
    keeps!(FIRST, "mov rax, cr4", 0u64, 0u64, 0u64);
    let now = [cpu::read_dr0(), cpu::read_dr1(), cpu::read_dr2(), cpu::read_dr3()];
    for (read, expected) in now.into_iter().zip(breakpoints) {
        same("a breakpoint", read, expected)?;
    }
    followed!("ten registers and four breakpoints are as before, after nine exits")
}
