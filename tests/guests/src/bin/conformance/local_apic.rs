//! The local APIC's registers.

use bulkhead_guests::apic::{LVT_MASKED, icr, register};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{rdmsr, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts;
use bulkhead_guests::interrupts::vector::GENERAL_PROTECTION;
use bulkhead_guests::suite::{Outcome, Test, faults, same};

pub const TESTS: &[Test] = &[
    Test {
        title: "the APIC ID is 0, and so is the logical one's bit",
        what: "RDMSR 0x802 and 0x80D",
        run: ids,
    },
    Test {
        title: "read-only APIC registers are #GP when written, EOI when read",
        what: "WRMSR of ID, LDR, version, current count; RDMSR of EOI and SELF_IPI",
        run: directions,
    },
    Test {
        title: "LVT timer and error take a vector and nothing else",
        what: "delivery modes SMI, NMI, INIT, ExtINT, reserved bits",
        run: lvt_refused,
    },
    Test {
        title: "LVT entries read back",
        what: "LINT1 as NMI, timer and error with a vector",
        run: lvt_kept,
    },
    Test {
        title: "an interrupt command may not be an SMI",
        what: "ICR with SMI, ExtINT and reserved delivery is #GP",
        run: icr_refused,
    },
    Test {
        title: "the interrupt command register reads back",
        what: "ICR after an IPI to a processor that is not there",
        run: icr_kept,
    },
];

const VECTOR: u64 = 0x40;

fn write(register: u32, value: u64) {
    // SAFETY: leads to interrupts at most; none that has no handler is left enabled.
    unsafe { wrmsr(register, value) };
}

fn ids(_: &BootParams) -> Outcome {
    same("ID", rdmsr(register::ID), 0)?;
    same("LDR", rdmsr(register::LDR), 1)
}

fn directions(_: &BootParams) -> Outcome {
    const VERSION: u32 = 0x803;
    const PPR: u32 = 0x80A;
    const FIRST_IN_SERVICE: u32 = 0x810;
    for msr in
        [register::ID, VERSION, PPR, register::LDR, FIRST_IN_SERVICE, register::TIMER_CURRENT]
    {
        faults(format_args!("WRMSR {msr:#x}"), GENERAL_PROTECTION, || write(msr, 0))?;
    }
    for msr in [register::EOI, register::SELF_IPI] {
        faults(format_args!("RDMSR {msr:#x}"), GENERAL_PROTECTION, || {
            rdmsr(msr);
        })?;
    }
    Ok(())
}

fn lvt_refused(_: &BootParams) -> Outcome {
    const UPPER: u64 = 1 << 32;
    const INIT: u64 = 0b101 << 8;
    const DELIVERY: u64 = 0b111 << 8;
    for refused in [icr::SMI, icr::NMI, INIT, icr::EXT_INT, UPPER] {
        let value = LVT_MASKED | refused | VECTOR;
        faults(format_args!("LVT error = {value:#x}"), GENERAL_PROTECTION, || {
            write(register::LVT_ERROR, value);
        })?;
        // The hardware's own register: where an emulator does not fault, it drops what is reserved.
        let _ = expect_fault(|| write(register::LVT_TIMER, value));
        same("delivery mode of the timer", rdmsr(register::LVT_TIMER) & (UPPER | DELIVERY), 0)?;
    }
    faults("LINT1's upper half", GENERAL_PROTECTION, || write(register::LVT_LINT1, UPPER))
}

fn lvt_kept(_: &BootParams) -> Outcome {
    for (msr, value) in [
        (register::LVT_LINT1, icr::NMI),
        (register::LVT_TIMER, LVT_MASKED | VECTOR),
        (register::LVT_ERROR, LVT_MASKED | VECTOR),
    ] {
        let before = rdmsr(msr);
        write(msr, value);
        let read = rdmsr(msr);
        write(msr, before);
        same(format_args!("{msr:#x}"), read, value)?;
    }
    Ok(())
}

fn icr_refused(_: &BootParams) -> Outcome {
    const RESERVED: u64 = 0b011 << 8;
    for mode in [icr::SMI, RESERVED, icr::EXT_INT] {
        for target in [icr::SELF, icr::ALL, icr::to(0), icr::to(1), icr::to(icr::BROADCAST)] {
            let command = target | mode | icr::ASSERT | VECTOR;
            faults(format_args!("ICR = {command:#x}"), GENERAL_PROTECTION, || {
                write(register::ICR, command);
            })?;
        }
    }
    Ok(())
}

fn icr_kept(_: &BootParams) -> Outcome {
    const NOBODY: u32 = 0x1234;
    let command = icr::to(NOBODY) | icr::ASSERT | VECTOR;
    let before = interrupts::count_all();
    write(register::ICR, command);
    same("ICR", rdmsr(register::ICR), command)?;
    same("interrupts that came", interrupts::count_all() - before, 0)
}
