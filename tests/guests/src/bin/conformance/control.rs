//! Control registers and XCR0.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, cpuid, cr0, cr4};
use bulkhead_guests::interrupts::vector::{GENERAL_PROTECTION, INVALID_OPCODE};
use bulkhead_guests::skip;
use bulkhead_guests::suite::{Outcome, Test, faults, same, works};

pub const TESTS: &[Test] = &[
    Test {
        title: "CR0 takes and shows the cache bits",
        what: "CD, CD with NW, back to none; NW alone is #GP",
        run: cache_bits,
    },
    Test {
        title: "CR0 takes no reserved bits",
        what: "bit 32 and up are #GP; so is paging off in 64-bit code",
        run: cr0_reserved,
    },
    Test {
        title: "CR4 hides VMXE, and setting it is #GP",
        what: "CR4 as read; VMXE, SMXE, a reserved bit set",
        run: vmxe,
    },
    Test {
        title: "CR4 takes the protections that CPUID shows",
        what: "SMEP, UMIP, FSGSBASE set, read back, cleared",
        run: protections,
    },
    Test {
        title: "CR8 is the task priority",
        what: "MOV to CR8, seen in TPR and in CR8",
        run: cr8,
    },
    Test {
        title: "XSETBV takes whole sets of states",
        what: "x87, with SSE, all that CPUID shows; none, SSE alone, AVX without SSE, XCR1 are #GP",
        run: xsetbv,
    },
    Test {
        title: "XSETBV without CR4.OSXSAVE is #UD",
        what: "XSETBV with the bit clear",
        run: xsetbv_off,
    },
];

/// Leaf 1, ECX: XSAVE.
const XSAVE: u32 = 1 << 26;
/// Leaf 7: SMEP and FSGSBASE in EBX, UMIP in ECX.
const EXTENDED: u32 = 7;
const FSGSBASE: u32 = 1 << 0;
const SMEP: u32 = 1 << 7;
const UMIP: u32 = 1 << 2;

fn write_cr0(value: u64) {
    // SAFETY: the tests change cache bits, which do not concern the guest's own code, or what
    // the processor refuses.
    unsafe { cpu::write_cr0(value) };
}

fn write_cr4(value: u64) {
    // SAFETY: the tests change protections which the guest's code does not offend, or what the
    // processor refuses.
    unsafe { cpu::write_cr4(value) };
}

fn cache_bits(_: &BootParams) -> Outcome {
    let before = cpu::read_cr0();
    for bits in [cr0::CD, cr0::CD | cr0::NW, 0] {
        let value = before & !(cr0::CD | cr0::NW) | bits;
        write_cr0(value);
        same("CR0", cpu::read_cr0(), value)?;
    }
    faults("NW without CD", GENERAL_PROTECTION, || write_cr0(before & !cr0::CD | cr0::NW))?;
    same("CR0 afterwards", cpu::read_cr0(), before)
}

fn cr0_reserved(_: &BootParams) -> Outcome {
    let before = cpu::read_cr0();
    for bit in [1 << 32, 1 << 63] {
        faults(format_args!("bit {bit:#x}"), GENERAL_PROTECTION, || write_cr0(before | bit))?;
    }
    faults("paging off", GENERAL_PROTECTION, || write_cr0(before & !cr0::PG))?;
    same("CR0 afterwards", cpu::read_cr0(), before)
}

fn vmxe(_: &BootParams) -> Outcome {
    const RESERVED: u64 = 1 << 40;
    let before = cpu::read_cr4();
    same("VMXE", before & cr4::VMXE, 0)?;
    for bit in [cr4::VMXE, cr4::SMXE, RESERVED] {
        faults(format_args!("bit {bit:#x}"), GENERAL_PROTECTION, || write_cr4(before | bit))?;
    }
    same("CR4 afterwards", cpu::read_cr4(), before)
}

fn protections(_: &BootParams) -> Outcome {
    let leaf = cpuid(EXTENDED, 0);
    let before = cpu::read_cr4();
    for (name, shown, bit) in [
        ("SMEP", leaf.ebx & SMEP != 0, cr4::SMEP),
        ("FSGSBASE", leaf.ebx & FSGSBASE != 0, cr4::FSGSBASE),
        ("UMIP", leaf.ecx & UMIP != 0, cr4::UMIP),
    ] {
        if shown {
            works(name, || write_cr4(before | bit))?;
            same(name, cpu::read_cr4(), before | bit)?;
            write_cr4(before);
        } else {
            faults(name, GENERAL_PROTECTION, || write_cr4(before | bit))?;
        }
    }
    same("CR4 afterwards", cpu::read_cr4(), before)
}

fn cr8(_: &BootParams) -> Outcome {
    use bulkhead_guests::apic::{register, set_task_priority};
    const CLASS: u64 = 5;
    const CLASS_SHIFT: u32 = 4;
    // SAFETY: interrupts are off anyway, and it is set back.
    unsafe { cpu::write_cr8(CLASS) };
    let (cr8, priority) = (cpu::read_cr8(), cpu::rdmsr(register::TPR));
    set_task_priority(0);
    same("CR8", cr8, CLASS)?;
    same("TPR", priority, CLASS << CLASS_SHIFT)?;
    same("CR8 after TPR was cleared", cpu::read_cr8(), 0)
}

fn xsetbv(_: &BootParams) -> Outcome {
    const LEAF: u32 = 0xD;
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    if cpuid(1, 0).ecx & XSAVE == 0 {
        skip!("the processor has no XSAVE");
    }
    let before = cpu::read_cr4();
    write_cr4(before | cr4::OSXSAVE);
    let outcome = try_xcr0(&[X87, X87 | SSE, supported(LEAF)], &[0, SSE, X87 | AVX, 1 << 63 | X87]);
    write_cr4(before);
    outcome
}

/// The states that CPUID shows.
fn supported(leaf: u32) -> u64 {
    let states = cpuid(leaf, 0);
    u64::from(states.edx) << u32::BITS | u64::from(states.eax)
}

fn try_xcr0(good: &[u64], bad: &[u64]) -> Outcome {
    let before = cpu::xgetbv(0);
    for &value in good {
        works(format_args!("XCR0 = {value:#x}"), || cpu::xsetbv(0, value))?;
        same("XCR0", cpu::xgetbv(0), value)?;
    }
    cpu::xsetbv(0, before);
    for &value in bad {
        faults(format_args!("XCR0 = {value:#x}"), GENERAL_PROTECTION, || cpu::xsetbv(0, value))?;
    }
    faults("XCR1", GENERAL_PROTECTION, || cpu::xsetbv(1, before))?;
    same("XCR0 afterwards", cpu::xgetbv(0), before)
}

fn xsetbv_off(_: &BootParams) -> Outcome {
    let before = cpu::read_cr4();
    write_cr4(before & !cr4::OSXSAVE);
    let outcome = faults("XSETBV", INVALID_OPCODE, || cpu::xsetbv(0, 1));
    write_cr4(before);
    outcome
}
