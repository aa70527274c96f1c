//! Debug exceptions, which the hypervisor sees first.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, rflags};
use bulkhead_guests::ensure;
use bulkhead_guests::interrupts::{self, Frame, vector};
use bulkhead_guests::suite::{Outcome, Test, same};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "single step stops behind each instruction, those that exit among them",
        what: "TF over NOP, CPUID, IN, VMCALL, NOP: #DB each time, DR6.BS",
        run: single_step,
    },
    Test {
        title: "INT1 is #DB behind the instruction",
        what: "opcode F1: RIP, and DR6 as before",
        run: int1,
    },
    Test {
        title: "an instruction breakpoint is #DB before the instruction",
        what: "DR0 at a NOP and at a CPUID: RIP, DR6.B0",
        run: instruction_breakpoint,
    },
    Test {
        title: "a data breakpoint is #DB behind the write",
        what: "DR0 at a variable: once, DR6.B0",
        run: data_breakpoint,
    },
    Test {
        title: "general detect is #DB before MOV DR",
        what: "DR7.GD, then MOV from DR0: DR6.BD, and GD is clear",
        run: general_detect,
    },
];

/// DR6: breakpoint 0, debug register access, single step (SDM Vol. 3B, 18.2.3).
const B0: u64 = 1 << 0;
const BD: u64 = 1 << 13;
const BS: u64 = 1 << 14;
/// The causes that DR6 can show, of those used here; it is clear without them.
const CAUSES: u64 = 0xF | BD | BS;
const DR6_CLEAR: u64 = 0xFFFF_0FF0;
/// DR7: breakpoint 0 on, general detect, the bit that is always set; and for breakpoint 0: data
/// writes, of four bytes (SDM Vol. 3B, 18.2.4).
const L0: u64 = 1 << 0;
const GD: u64 = 1 << 13;
const DR7_CLEAR: u64 = 1 << 10;
const WRITES: u64 = 0b01 << 16;
const FOUR_BYTES: u64 = 0b11 << 18;

/// Exceptions that are noted.
const MOST: usize = 8;
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(0);
static PLACES: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
static REASONS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// Notes an exception; the last that is expected ends single stepping.
fn note(frame: &mut Frame) {
    let index = COUNT.fetch_add(1, Ordering::SeqCst);
    if let (Some(place), Some(reason)) = (PLACES.get(index), REASONS.get(index)) {
        place.store(frame.rip, Ordering::SeqCst);
        reason.store(cpu::read_dr6(), Ordering::SeqCst);
    }
    // SAFETY: clears what is sticky.
    unsafe { cpu::write_dr6(DR6_CLEAR) };
    // An instruction breakpoint would come again at once.
    frame.rflags |= rflags::RF;
    if index + 1 >= LIMIT.load(Ordering::SeqCst) {
        frame.rflags &= !rflags::TF;
    }
}

/// Runs `act` with debug exceptions noted, of which `expected` should come, and compares them
/// with what `act` returns: their places.
fn noted<const N: usize>(reason: u64, act: impl FnOnce() -> [u64; N]) -> Outcome {
    COUNT.store(0, Ordering::SeqCst);
    LIMIT.store(N, Ordering::SeqCst);
    interrupts::handle(vector::DEBUG, note);
    // SAFETY: clears what is sticky.
    unsafe { cpu::write_dr6(DR6_CLEAR) };
    let expected = act();
    // SAFETY: no breakpoint is left.
    unsafe { cpu::write_dr7(DR7_CLEAR) };
    interrupts::ignore(vector::DEBUG);
    let came = COUNT.load(Ordering::SeqCst);
    ensure!(came == N, "{came} came, not {N}");
    for (index, expected) in expected.into_iter().enumerate() {
        let place = PLACES[index].load(Ordering::SeqCst);
        let causes = REASONS[index].load(Ordering::SeqCst) & CAUSES;
        same(format_args!("RIP of number {index}"), place, expected)?;
        same(format_args!("DR6 of number {index}"), causes, reason)?;
    }
    Ok(())
}

fn single_step(_: &BootParams) -> Outcome {
    const ABSENT_PORT: u16 = 0x1230;
    noted(BS, || {
        let mut places = [0u64; 5];
        // SAFETY: notes addresses, then runs harmless instructions; RBX is kept.
        unsafe {
            asm!(
                "lea rax, [rip + 21f]", "mov [r8], rax",
                "lea rax, [rip + 22f]", "mov [r8 + 8], rax",
                "lea rax, [rip + 23f]", "mov [r8 + 16], rax",
                "lea rax, [rip + 24f]", "mov [r8 + 24], rax",
                "lea rax, [rip + 25f]", "mov [r8 + 32], rax",
                "mov r9, rbx", "xor eax, eax", "xor ecx, ecx",
                "pushfq", "or qword ptr [rsp], {tf}", "popfq",
                "nop",
                "21: cpuid",
                "22: in al, dx",
                "23: vmcall",
                "24: nop",
                "25: mov rbx, r9",
                tf = const rflags::TF,
                in("r8") &raw mut places, out("r9") _,
                out("rax") _, out("rcx") _, inout("rdx") u64::from(ABSENT_PORT) => _,
            );
        }
        places
    })
}

fn int1(_: &BootParams) -> Outcome {
    noted(0, || {
        let place;
        // SAFETY: the handler returns behind it.
        unsafe { asm!("lea {}, [rip + 20f]", ".byte 0xf1", "20:", out(reg) place) };
        [place]
    })
}

fn instruction_breakpoint(_: &BootParams) -> Outcome {
    noted(B0, || {
        let place;
        // SAFETY: a breakpoint at an instruction below.
        unsafe {
            asm!("lea {place}, [rip + 20f]", "mov dr0, {place}", "mov dr7, {control}", "20: nop",
                place = out(reg) place, control = in(reg) DR7_CLEAR | L0);
        }
        [place]
    })?;
    noted(B0, || {
        let place;
        // SAFETY: as above; RBX is kept.
        unsafe {
            asm!("mov r9, rbx", "lea {place}, [rip + 20f]", "mov dr0, {place}",
                "mov dr7, {control}", "20: cpuid", "mov rbx, r9",
                place = out(reg) place, control = in(reg) DR7_CLEAR | L0,
                inout("eax") 0 => _, out("ecx") _, out("edx") _, out("r9") _);
        }
        [place]
    })
}

fn data_breakpoint(_: &BootParams) -> Outcome {
    let mut variable = 0u32;
    noted(B0, || {
        let at = &raw mut variable;
        let place;
        // SAFETY: a breakpoint at the variable, which is then written.
        unsafe {
            cpu::write_dr0(at as u64);
            asm!("lea {place}, [rip + 20f]", "mov dr7, {control}", "mov dword ptr [{at}], 1",
                "20: nop", at = in(reg) at, place = out(reg) place,
                control = in(reg) DR7_CLEAR | L0 | WRITES | FOUR_BYTES);
        }
        [place]
    })?;
    same("the variable", variable.into(), 1)
}

fn general_detect(_: &BootParams) -> Outcome {
    noted(BD, || {
        let place;
        // SAFETY: the handler returns to the second MOV, which then is let through.
        unsafe {
            asm!("lea {place}, [rip + 20f]", "mov dr7, {control}", "20: mov {control}, dr0",
                place = out(reg) place, control = inout(reg) DR7_CLEAR | GD => _);
        }
        [place]
    })?;
    same("DR7.GD", cpu::read_dr7() & GD, 0)
}
