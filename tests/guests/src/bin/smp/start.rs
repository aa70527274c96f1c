//! Starting processors: INIT and start-up IPIs, and the state that a processor begins in.

use crate::{A_WHILE, SPINNING, count, occupy, others, release, rounds};
use bulkhead_guests::apic::{self, icr};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{cpuid, cr0};
use bulkhead_guests::smp::{send_init, send_startup, starts};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::trampoline::{COUNTER_PAGE, Found, START_PAGE, counted, prepare_counter};
use bulkhead_guests::{ensure, fail, smp};

pub const TESTS: &[Test] = &[
    Test {
        title: "a processor waits until it is started",
        what: "INIT without a start-up IPI: nothing runs at the page",
        run: waits,
    },
    Test {
        title: "INIT and a start-up IPI start every processor once",
        what: "one after the other; a second start-up IPI, as 9.4.4 has it",
        run: each_once,
    },
    Test {
        title: "a processor begins in real mode at the page it was told",
        what: "CS, IP, CR0, flags, EFER",
        run: real_mode,
    },
    Test {
        title: "a processor begins with its registers as after INIT",
        what: "SDM Vol. 3A, table 10-1: general and segment registers, CR2 to CR4, DRs, GDTR, IDTR",
        run: registers,
    },
    Test {
        title: "a processor that had used its registers begins the same way",
        what: "the same when it comes from long mode, with CR2 and debug registers in use",
        run: registers_again,
    },
    Test {
        title: "a start-up IPI starts a processor at another page",
        what: "a page with code that counts itself",
        run: other_page,
    },
    Test {
        title: "INIT and start-up IPIs reach all but oneself",
        what: "the shorthand: every other processor counts itself once",
        run: all_others,
    },
    Test {
        title: "a start-up IPI to a running processor does nothing",
        what: "to one that counts rounds: it goes on, and nothing starts",
        run: startup_ignored,
    },
    Test {
        title: "an INIT level de-assert does nothing",
        what: "ICR with INIT, level 0 and trigger mode 1 (SDM Vol. 3A, 11.6.1)",
        run: deassert_ignored,
    },
    Test {
        title: "INIT and start-up IPIs to processors that are not there do nothing",
        what: "IDs n, n+1, 254 and a million: the others go on, and nothing starts",
        run: nobody,
    },
];

fn waits(boot: &BootParams) -> Outcome {
    for number in 1..count(boot) {
        let before = starts(number);
        smp::prepare(number, apic::enable);
        smp::stop(number);
        smp::delay(A_WHILE);
        same(format_args!("starts of processor {number}"), starts(number) - before, 0)?;
    }
    Ok(())
}

fn each_once(boot: &BootParams) -> Outcome {
    let before: [u64; smp::MOST] = core::array::from_fn(starts);
    for number in 1..count(boot) {
        ensure!(smp::start(number, apic::enable).is_some(), "processor {number} does not come up");
        send_startup(icr::to(number as u32), START_PAGE);
        smp::delay(A_WHILE);
    }
    for (number, before) in before.into_iter().enumerate().take(count(boot)).skip(1) {
        let came_up = starts(number) - before;
        same(format_args!("starts of processor {number}"), came_up, 1)?;
    }
    Ok(())
}

/// Starts a processor and gives what it found.
fn found(number: usize) -> Result<Found, bulkhead_guests::suite::Shortfall> {
    match smp::start(number, apic::enable) {
        Some(found) => Ok(found),
        None => fail!("processor {number} does not come up"),
    }
}

fn real_mode(boot: &BootParams) -> Outcome {
    /// The one flag that is always 1.
    const FLAGS: u64 = 1 << 1;
    const ET: u64 = 1 << 4;
    for number in 1..count(boot) {
        let found = found(number)?;
        same("CS", found.selectors[0].into(), u64::from(START_PAGE) << 8)?;
        same("IP", found.ip.into(), 0)?;
        // INIT leaves CD and NW as they are.
        same("CR0", u64::from(found.control[0]) & !(cr0::CD | cr0::NW), ET)?;
        same("EFLAGS", found.flags.into(), FLAGS)?;
        same("EFER", found.efer.into(), 0)?;
    }
    Ok(())
}

/// Fails unless what a processor found is what the manual says.
fn as_after_init(found: &Found) -> Outcome {
    const DR6: u32 = 0xFFFF_0FF0;
    const DR7: u32 = 0x400;
    const LIMIT: u32 = 0xFFFF;
    // Family, model, stepping. Table 10-1 leaves the bits above the family open.
    let version = cpuid(1, 0).eax;
    const FAMILY_MODEL_STEPPING: u32 = 0xFFF;
    for (index, name) in
        ["EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP", "ESP"].into_iter().enumerate()
    {
        let (value, expected) = if index == Found::EDX {
            (found.general[index] & FAMILY_MODEL_STEPPING, version & FAMILY_MODEL_STEPPING)
        } else {
            (found.general[index], 0)
        };
        same(name, value.into(), expected.into())?;
    }
    for (index, name) in ["SS", "DS", "ES", "FS", "GS"].into_iter().enumerate() {
        same(name, found.selectors[index + 1].into(), 0)?;
    }
    for (index, name) in ["CR2", "CR3", "CR4"].into_iter().enumerate() {
        same(name, found.control[index + 1].into(), 0)?;
    }
    let expected = [0, 0, 0, 0, DR6, DR7];
    for (index, name) in ["DR0", "DR1", "DR2", "DR3", "DR6", "DR7"].into_iter().enumerate() {
        same(name, found.debug[index].into(), expected[index].into())?;
    }
    for (name, table) in [("GDTR", found.global_table), ("IDTR", found.interrupt_table)] {
        same(format_args!("{name}'s limit"), table[0].into(), LIMIT.into())?;
        same(format_args!("{name}'s base"), table[1].into(), 0)?;
    }
    Ok(())
}

fn registers(boot: &BootParams) -> Outcome {
    (1..count(boot)).try_for_each(|number| as_after_init(&found(number)?))
}

fn registers_again(boot: &BootParams) -> Outcome {
    use bulkhead_guests::cpu;
    fn use_registers() {
        const SOMETHING: u64 = 0x1234_5000;
        // SAFETY: no breakpoint is enabled, and CR2 is for page faults, of which there are none.
        unsafe {
            cpu::write_cr2(SOMETHING);
            cpu::write_dr0(SOMETHING);
            cpu::write_dr1(SOMETHING);
            cpu::write_dr2(SOMETHING);
            cpu::write_dr3(SOMETHING);
            cpu::write_cr4(cpu::read_cr4() | cpu::cr4::OSFXSR);
        }
    }
    for number in others(boot)? {
        ensure!(smp::run(number, use_registers), "processor {number} does not do it");
        as_after_init(&found(number)?)?;
    }
    Ok(())
}

fn other_page(boot: &BootParams) -> Outcome {
    for number in 1..count(boot) {
        let before = starts(number);
        // SAFETY: no processor is about to start.
        unsafe { prepare_counter() };
        smp::stop(number);
        send_startup(icr::to(number as u32), COUNTER_PAGE);
        smp::delay(A_WHILE);
        same("the count at the page", counted().into(), 1)?;
        same("starts at the other page", starts(number), before)?;
    }
    (1..count(boot)).try_for_each(|number| found(number).map(|_| ()))
}

fn all_others(boot: &BootParams) -> Outcome {
    // SAFETY: no processor is about to start.
    unsafe { prepare_counter() };
    send_init(icr::OTHERS);
    smp::delay(A_WHILE);
    send_startup(icr::OTHERS, COUNTER_PAGE);
    smp::delay(A_WHILE);
    let reached = u64::from(counted());
    (1..count(boot)).try_for_each(|number| found(number).map(|_| ()))?;
    same("the count", reached, count(boot) as u64 - 1)
}

/// Fails unless a processor goes on with what it does while `act` is done, and nothing starts.
fn undisturbed(boot: &BootParams, number: usize, act: impl FnOnce()) -> Outcome {
    others(boot)?;
    // SAFETY: no processor is about to start.
    unsafe { prepare_counter() };
    let before = starts(number);
    occupy(number, SPINNING);
    act();
    smp::delay(A_WHILE);
    let first = rounds();
    smp::delay(A_WHILE);
    let second = rounds();
    release();
    ensure!(second > first, "processor {number} stands still");
    ensure!(smp::ends(number, smp::PATIENCE), "processor {number} does not end what it did");
    same("processors that started", counted().into(), 0)?;
    same("starts", starts(number), before)
}

fn startup_ignored(boot: &BootParams) -> Outcome {
    (1..count(boot)).try_for_each(|number| {
        undisturbed(boot, number, || send_startup(icr::to(number as u32), COUNTER_PAGE))
    })
}

fn deassert_ignored(boot: &BootParams) -> Outcome {
    const LEVEL_TRIGGERED: u64 = 1 << 15;
    (1..count(boot)).try_for_each(|number| {
        undisturbed(boot, number, || {
            apic::command(icr::to(number as u32) | icr::INIT | LEVEL_TRIGGERED);
            send_startup(icr::to(number as u32), COUNTER_PAGE);
        })
    })
}

fn nobody(boot: &BootParams) -> Outcome {
    let count = count(boot) as u32;
    undisturbed(boot, 1, || {
        for id in [count, count + 1, 254, 1_000_000] {
            send_init(icr::to(id));
            send_startup(icr::to(id), COUNTER_PAGE);
        }
    })
}
