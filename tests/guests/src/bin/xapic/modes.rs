//! The modes of the APIC, and the ways between them (SDM Vol. 3A, 11.12.5).

use crate::{MASKED, SVR_ENABLE, turn_on};
use bulkhead_guests::apic::{self, SPURIOUS_VECTOR, base, icr, register};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, rdmsr, wrmsr};
use bulkhead_guests::interrupts;
use bulkhead_guests::interrupts::vector::GENERAL_PROTECTION;
use bulkhead_guests::suite::{Outcome, Test, faults, same, works};
use bulkhead_guests::xapic::{self, PAGE, STRIDE, read, write};

pub const TESTS: &[Test] = &[
    Test {
        title: "the APIC is in xAPIC mode at first",
        what: "RDMSR 0x1B: the page, EN, the boot processor",
        run: first_mode,
    },
    Test {
        title: "the registers are as after reset",
        what: "ID, TPR, LDR, DFR, SVR, ICR, LVT, the timer's, ISR, TMR, IRR",
        run: first_registers,
    },
    Test {
        title: "the MSRs of x2APIC mode are #GP in xAPIC mode",
        what: "RDMSR and WRMSR of 0x800 to 0x8FF",
        run: no_msrs,
    },
    Test {
        title: "reserved bits, another address and another BSP flag are #GP in every mode",
        what: "WRMSR 0x1B with each bit but EN and EXTD changed",
        run: reserved,
    },
    Test {
        title: "every transition is legal or #GP, as the manual's figure says",
        what: "WRMSR 0x1B: from each mode to each, and to EXTD without EN",
        run: transitions,
    },
    Test {
        title: "registers survive going to x2APIC mode, but for LDR and ICR's upper half",
        what: "written through the page, read as MSRs",
        run: preserved,
    },
    Test {
        title: "the page is not there in x2APIC mode",
        what: "reads give all ones, writes change nothing",
        run: no_page,
    },
    Test {
        title: "a disabled APIC has no registers, no timer and no bit in CPUID",
        what: "page and MSRs; a timer that ran; CPUID 1 EDX",
        run: disabled,
    },
    Test {
        title: "disabling loses what is pending, and all registers",
        what: "an IPI that waits, an error, SVR, TPR, LDR, DFR, ICR, LINT1; seen after enabling again",
        run: lost,
    },
];

const DISABLED: u64 = PAGE | base::BSP;
const XAPIC: u64 = DISABLED | base::EN;
const X2APIC: u64 = XAPIC | base::EXTD;
const INVALID: u64 = DISABLED | base::EXTD;

const VECTOR: u8 = 0x45;
/// Ticks for what should not come: more than it would take.
const A_WHILE: u64 = 300_000;

fn set(value: u64) {
    // SAFETY: whoever ends an interrupt knows the mode, and interrupts are off while it changes.
    unsafe { wrmsr(register::BASE, value) };
}

/// From any mode to xAPIC mode, with all registers as after reset.
fn start_over() {
    set(DISABLED);
    set(XAPIC);
}

fn first_mode(_: &BootParams) -> Outcome {
    same("APIC base", rdmsr(register::BASE), XAPIC)
}

fn first_registers(_: &BootParams) -> Outcome {
    const VERSION_MASK: u64 = 0xF0;
    same("ID", read(xapic::ID), 0)?;
    same("version", read(xapic::VERSION) & VERSION_MASK, 0x10)?;
    same("SVR", read(xapic::SVR), SPURIOUS_VECTOR.into())?;
    same("DFR", read(xapic::DFR), u32::MAX.into())?;
    for zero in [
        xapic::TPR,
        xapic::APR,
        xapic::PPR,
        xapic::EOI,
        xapic::RRD,
        xapic::LDR,
        xapic::ESR,
        xapic::ICR,
        xapic::ICR_HIGH,
        xapic::TIMER_INITIAL,
        xapic::TIMER_CURRENT,
        xapic::TIMER_DIVIDE,
    ] {
        same(format_args!("what is at {zero:#x}"), read(zero), 0)?;
    }
    for group in [xapic::ISR, xapic::TMR, xapic::IRR] {
        for word in 0..8 {
            let at = group + word * STRIDE;
            same(format_args!("what is at {at:#x}"), read(at), 0)?;
        }
    }
    for entry in [
        xapic::LVT_CMCI,
        xapic::LVT_TIMER,
        xapic::LVT_THERMAL,
        xapic::LVT_PERFORMANCE,
        xapic::LVT_LINT0,
        xapic::LVT_LINT1,
        xapic::LVT_ERROR,
    ] {
        same(format_args!("the entry at {entry:#x}"), read(entry), MASKED.into())?;
    }
    Ok(())
}

fn all_msrs_fault() -> Outcome {
    const FIRST: u32 = 0x800;
    const LAST: u32 = 0x8FF;
    for msr in FIRST..=LAST {
        faults(format_args!("RDMSR {msr:#x}"), GENERAL_PROTECTION, || {
            rdmsr(msr);
        })?;
        faults(format_args!("WRMSR {msr:#x}"), GENERAL_PROTECTION, || {
            // SAFETY: refused; otherwise it leads to interrupts at most, which are off.
            unsafe { wrmsr(msr, 0) };
        })?;
    }
    Ok(())
}

fn no_msrs(_: &BootParams) -> Outcome {
    all_msrs_fault()
}

fn reserved(_: &BootParams) -> Outcome {
    for mode in [XAPIC, X2APIC, DISABLED] {
        set(mode);
        for bit in 0..u64::BITS {
            if (base::EN | base::EXTD) >> bit & 1 != 0 {
                continue;
            }
            let value = mode ^ 1 << bit;
            faults(format_args!("APIC base {value:#x}"), GENERAL_PROTECTION, || set(value))?;
            same("APIC base afterwards", rdmsr(register::BASE), mode)?;
        }
    }
    set(XAPIC);
    Ok(())
}

fn transitions(_: &BootParams) -> Outcome {
    // For each mode the way there, then what may follow.
    let modes: [(u64, &[u64], &[u64]); 3] = [
        (DISABLED, &[DISABLED], &[DISABLED, XAPIC]),
        (XAPIC, &[DISABLED, XAPIC], &[DISABLED, XAPIC, X2APIC]),
        (X2APIC, &[DISABLED, XAPIC, X2APIC], &[DISABLED, X2APIC]),
    ];
    for (from, way, legal) in modes {
        for to in [DISABLED, XAPIC, X2APIC, INVALID] {
            for &step in way {
                set(step);
            }
            same("APIC base", rdmsr(register::BASE), from)?;
            let what = format_args!("from {from:#x} to {to:#x}");
            if legal.contains(&to) {
                works(what, || set(to))?;
                same(what, rdmsr(register::BASE), to)?;
            } else {
                faults(what, GENERAL_PROTECTION, || set(to))?;
                same(what, rdmsr(register::BASE), from)?;
            }
        }
    }
    start_over();
    Ok(())
}

fn preserved(_: &BootParams) -> Outcome {
    const TPR: u32 = 0x35;
    const DIVIDER: u32 = 0b1010;
    let svr = SVR_ENABLE | u32::from(SPURIOUS_VECTOR);
    let command = (icr::ASSERT | u64::from(VECTOR)) as u32;
    start_over();
    write(xapic::SVR, svr);
    write(xapic::TPR, TPR);
    write(xapic::LDR, 0x4000_0000);
    write(xapic::TIMER_DIVIDE, DIVIDER);
    write(xapic::LVT_TIMER, MASKED | u32::from(VECTOR));
    write(xapic::LVT_LINT1, icr::NMI as u32);
    // To nobody.
    xapic::command(0x77, command);
    set(X2APIC);
    let registers = [
        ("SVR", register::SVR, svr.into()),
        ("TPR", register::TPR, TPR.into()),
        ("LDR", register::LDR, 1),
        ("the divider", register::TIMER_DIVIDE, DIVIDER.into()),
        ("LVT timer", register::LVT_TIMER, u64::from(MASKED) | u64::from(VECTOR)),
        ("LVT LINT1", register::LVT_LINT1, icr::NMI),
        ("ICR", register::ICR, command.into()),
    ];
    let found = registers.map(|(_, msr, _)| rdmsr(msr));
    start_over();
    registers.into_iter().zip(found).try_for_each(|((what, _, value), found)| {
        same(format_args!("{what} in x2APIC mode"), found, value)
    })
}

fn page_is_absent() -> Outcome {
    for offset in (0..0x1000).step_by(STRIDE as usize) {
        same(format_args!("what is at {offset:#x}"), read(offset), u32::MAX.into())?;
        write(offset, 0);
    }
    Ok(())
}

fn no_page(_: &BootParams) -> Outcome {
    start_over();
    write(xapic::TPR, 0x20);
    set(X2APIC);
    let svr = rdmsr(register::SVR);
    let absent = page_is_absent();
    let [tpr, after] = [register::TPR, register::SVR].map(rdmsr);
    start_over();
    absent?;
    same("TPR", tpr, 0x20)?;
    same("SVR", after, svr)
}

fn disabled(_: &BootParams) -> Outcome {
    const COUNT: u32 = 100_000;
    const APIC: u64 = 1 << 9;
    let shown = || u64::from(cpu::cpuid(1, 0).edx) & APIC;
    start_over();
    turn_on();
    same("CPUID's APIC bit", shown(), APIC)?;
    write(xapic::LVT_TIMER, VECTOR.into());
    write(xapic::TIMER_INITIAL, COUNT);
    let before = interrupts::count_all();
    set(DISABLED);
    let bit = shown();
    let registers = page_is_absent().and_then(|()| all_msrs_fault());
    interrupts::let_in_for(u64::from(COUNT) * 10);
    start_over();
    registers?;
    same("CPUID's APIC bit", bit, 0)?;
    same("CPUID's APIC bit afterwards", shown(), APIC)?;
    same("the count of interrupts", interrupts::count_all() - before, 0)
}

fn lost(boot: &BootParams) -> Outcome {
    for from in [XAPIC, X2APIC] {
        start_over();
        turn_on();
        write(xapic::LDR, 0x0100_0000);
        write(xapic::DFR, 0);
        write(xapic::LVT_LINT1, icr::NMI as u32);
        let before = interrupts::count_all();
        // An illegal vector.
        xapic::command(0, icr::ASSERT as u32);
        // Interrupts are off: it waits.
        xapic::command(0, (icr::ASSERT | u64::from(VECTOR)) as u32);
        write(xapic::TPR, 0x30);
        set(from);
        set(DISABLED);
        set(XAPIC);
        first_registers(boot)?;
        turn_on();
        interrupts::let_in_for(A_WHILE);
        same("the count of interrupts", interrupts::count_all() - before, 0)?;
    }
    // And it works.
    let before = interrupts::count(VECTOR);
    xapic::command(0, (icr::ASSERT | u64::from(VECTOR)) as u32);
    interrupts::let_in_for(A_WHILE);
    same("the count of an IPI", interrupts::count(VECTOR) - before, 1)?;
    // In x2APIC mode, too.
    apic::enter_x2apic_mode();
    apic::interrupt_self(VECTOR);
    interrupts::let_in_for(A_WHILE);
    apic::stay_in_xapic_mode();
    start_over();
    same("the count of one in x2APIC mode", interrupts::count(VECTOR) - before, 2)
}
