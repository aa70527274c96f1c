//! Instructions that a guest has not, and those that do less than on bare hardware.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, cpuid};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::vector::{GENERAL_PROTECTION, INVALID_OPCODE};
use bulkhead_guests::suite::{Outcome, Test, faults, same};
use bulkhead_guests::{ensure, fail};
use core::arch::asm;
use core::hint::black_box;

pub const TESTS: &[Test] = &[
    Test { title: "VMX instructions are #UD", what: "all of them but VMCALL", run: vmx },
    Test {
        title: "an unknown hypercall is answered, not a fault",
        what: "VMCALL with several numbers gives -1000",
        run: vmcall,
    },
    Test {
        title: "instructions of hidden features are #UD",
        what: "GETSEC, MONITOR, MWAIT, ENCLS, RSM",
        run: hidden,
    },
    Test {
        title: "performance counters are #GP",
        what: "RDPMC of fixed and general counters",
        run: rdpmc,
    },
    Test {
        title: "a fault that is injected is at the instruction",
        what: "RIP after VMXON and after RDMSR of no register",
        run: fault_address,
    },
    Test {
        title: "flushing the caches loses nothing",
        what: "INVD and WBINVD after a write to memory",
        run: flush,
    },
    Test {
        title: "CPUID keeps the upper halves clear and the other registers as they are",
        what: "CPUID with all registers filled",
        run: registers,
    },
];

/// KVM's "no such hypercall".
const NO_SUCH_CALL: i64 = -1000;

/// Runs an instruction with RAX pointing at eight bytes, and RCX and RDX zero.
macro_rules! instruction {
    ($text:literal) => {
        ($text, || {
            let mut operand = 0u64;
            // SAFETY: the instruction faults; if it does not, it reads or writes the eight bytes
            // at most, and the test fails.
            unsafe {
                asm!($text, inout("rax") &raw mut operand => _, inout("rcx") 0u64 => _,
                    inout("rdx") 0u64 => _);
            }
        })
    };
}

type Instruction = (&'static str, fn());

fn vmx(_: &BootParams) -> Outcome {
    let list: [Instruction; 13] = [
        instruction!("vmxon [rax]"),
        instruction!("vmxoff"),
        instruction!("vmclear [rax]"),
        instruction!("vmptrld [rax]"),
        instruction!("vmptrst [rax]"),
        instruction!("vmread rdx, rcx"),
        instruction!("vmwrite rcx, rdx"),
        instruction!("vmread [rax], rcx"),
        instruction!("vmlaunch"),
        instruction!("vmresume"),
        instruction!("invept rcx, [rax]"),
        instruction!("invvpid rcx, [rax]"),
        instruction!("vmfunc"),
    ];
    list.into_iter().try_for_each(|(name, run)| faults(name, INVALID_OPCODE, run))
}

fn vmcall(_: &BootParams) -> Outcome {
    for number in [0, 1, 11, u64::MAX] {
        let answer = cpu::vmcall(number);
        ensure!(answer == NO_SUCH_CALL, "call {number:#x} gives {answer}");
    }
    Ok(())
}

fn hidden(_: &BootParams) -> Outcome {
    let list: [Instruction; 5] = [
        instruction!("getsec"),
        instruction!("monitor"),
        instruction!("mwait"),
        instruction!(".byte 0x0f, 0x01, 0xcf // encls"),
        instruction!("rsm"),
    ];
    list.into_iter().try_for_each(|(name, run)| faults(name, INVALID_OPCODE, run))
}

fn rdpmc(_: &BootParams) -> Outcome {
    const FIXED: u32 = 1 << 30;
    for counter in [0, 1, FIXED, u32::MAX] {
        faults(format_args!("RDPMC {counter:#x}"), GENERAL_PROTECTION, || {
            // SAFETY: reads a counter.
            unsafe { asm!("rdpmc", in("ecx") counter, out("eax") _, out("edx") _) };
        })?;
    }
    Ok(())
}

fn fault_address(_: &BootParams) -> Outcome {
    const NO_MSR: u32 = 0x12345;
    let mut place = 0u64;
    let operand = 0u64;
    let fault = expect_fault(|| {
        // SAFETY: faults, or reads the operand.
        unsafe {
            asm!("lea {at}, [rip + 20f]", "mov [{place}], {at}", "20: vmxon [{operand}]",
                at = out(reg) _, place = in(reg) &raw mut place, operand = in(reg) &raw const operand);
        }
    });
    let Some(fault) = fault else { fail!("VMXON did not fault") };
    same("RIP of VMXON's #UD", fault.rip, black_box(place))?;
    let fault = expect_fault(|| {
        // SAFETY: faults, or reads a register.
        unsafe {
            asm!("lea {at}, [rip + 20f]", "mov [{place}], {at}", "20: rdmsr",
                at = out(reg) _, place = in(reg) &raw mut place,
                in("ecx") NO_MSR, out("eax") _, out("edx") _);
        }
    });
    let Some(fault) = fault else { fail!("RDMSR did not fault") };
    same("RIP of RDMSR's #GP", fault.rip, black_box(place))
}

fn flush(_: &BootParams) -> Outcome {
    const VALUE: u64 = 0xB01C_4EAD;
    let mut memory = [0u64; 64];
    for place in &mut memory {
        // SAFETY: a variable of this function's.
        unsafe { core::ptr::write_volatile(place, VALUE) };
    }
    // SAFETY: RAM is coherent without them; INVD would lose the writes above on bare hardware,
    // and in a guest must not.
    unsafe { asm!("invd", "wbinvd") };
    for place in &memory {
        // SAFETY: a variable of this function's.
        same("memory", unsafe { core::ptr::read_volatile(place) }, VALUE)?;
    }
    Ok(())
}

fn registers(_: &BootParams) -> Outcome {
    const LEAF: u32 = 0x4000_0000;
    const UPPER: u64 = 0xDEAD_BEEF << u32::BITS;
    /// In r8 to r15, rsi and rdi: a value of its own in each.
    const FIRST: u64 = 0x1111_0000;
    let expected = cpuid(LEAF, 0);
    let (rax, rbx, rcx, rdx): (u64, u64, u64, u64);
    let (r8, r9, r10, r11): (u64, u64, u64, u64);
    let (r12, r13, r14, r15): (u64, u64, u64, u64);
    let (rsi, rdi): (u64, u64);
    // SAFETY: CPUID changes four registers; RBX is put back from the stack, which is balanced.
    unsafe {
        asm!(
            "push rbx", "cpuid", "mov rsi, rbx", "pop rbx",
            inout("rax") UPPER | u64::from(LEAF) => rax, inout("rcx") UPPER => rcx,
            inout("rdx") UPPER => rdx, out("rsi") rbx, inout("rdi") FIRST + 9 => rdi,
            inout("r8") FIRST => r8, inout("r9") FIRST + 1 => r9, inout("r10") FIRST + 2 => r10,
            inout("r11") FIRST + 3 => r11, inout("r12") FIRST + 4 => r12,
            inout("r13") FIRST + 5 => r13, inout("r14") FIRST + 6 => r14,
            inout("r15") FIRST + 7 => r15,
        );
        asm!("push rbx", "cpuid", "pop rbx", inout("eax") LEAF => _, out("ecx") _, out("edx") _,
            inout("rsi") FIRST + 8 => rsi);
    }
    same("RAX", rax, expected.eax.into())?;
    same("RBX", rbx, expected.ebx.into())?;
    same("RCX", rcx, expected.ecx.into())?;
    same("RDX", rdx, expected.edx.into())?;
    let others = [r8, r9, r10, r11, r12, r13, r14, r15, rsi, rdi];
    (FIRST..).zip(others).try_for_each(|(value, register)| same("a register", register, value))
}
