//! Interrupts: to others, of kinds that no guest may send, and without end.

use crate::place::{Place, store};
use crate::{Followed, followed, runs};
use bulkhead_guests::apic::{self, LVT_MASKED, icr, register};
use bulkhead_guests::console::COM1;
use bulkhead_guests::cpu::{rdmsr, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::vector::{FIRST_INTERRUPT, GENERAL_PROTECTION, NMI};
use bulkhead_guests::interrupts::{self, count, let_in_for};
use bulkhead_guests::suite::{Outcome, faults, same};
use bulkhead_guests::{cpu, ensure, fail, ioapic, loops, port};
use core::sync::atomic::{AtomicU64, Ordering};

runs! { "interrupts":
    commands_every_delivery_mode,
    commands_every_destination,
    sets_reserved_bits_of_a_command,
    interrupts_its_neighbour,
    sets_every_delivery_mode_in_the_lvt,
    floods_itself,
    floods_itself_from_the_handler,
    floods_itself_with_nmis,
    ends_interrupts_that_there_are_not,
    programs_the_ioapic_wildly,
    writes_interrupt_messages,
    sends_illegal_vectors,
    sets_its_timer_to_the_least_period,
    loops_in_debug_exceptions,
    loops_in_alignment_checks,
    spins_with_interrupts_off,
}

const VECTOR: u8 = 0x41;
/// Ticks for what should not come: more than it would take.
const A_WHILE: u64 = 300_000;
/// As many cores as the tests' machines have, by the IDs that the hardware has for them.
const CORES: u32 = 8;
/// Delivery modes where they are in a command, an entry of the LVT and one of the IOAPIC.
const MODE_SHIFT: u32 = 8;
const RESERVED_MODE: u64 = 0b011 << MODE_SHIFT;

/// All that has come, NMIs too.
fn all() -> u64 {
    interrupts::count_all() + count(NMI)
}

/// Does something of which nothing may come.
fn quiet(what: &str, act: impl FnOnce() -> Outcome) -> Outcome {
    let before = all();
    act()?;
    let_in_for(A_WHILE);
    same(format_args!("the count of interrupts after {what}"), all() - before, 0)
}

/// Fails unless one interrupt comes once.
fn still_comes() -> Outcome {
    let before = all();
    apic::interrupt_self(VECTOR);
    let_in_for(A_WHILE);
    same("the count of interrupts after one was sent", all() - before, 1)
}

fn commands_every_delivery_mode(_: &Place) -> Followed {
    const DESTINATIONS: [u32; 6] = [0, 1, 2, 3, 0xFF, u32::MAX];
    let (mut sent, mut refused) = (0, 0);
    for bits in 0..1u64 << 6 {
        let mode = (bits & 0b111) << MODE_SHIFT;
        let flags = (bits >> 3 & 1) << 11 | (bits >> 4 & 0b11) << 14;
        for shorthand in [0, icr::SELF, icr::ALL, icr::OTHERS] {
            for destination in DESTINATIONS {
                let others = shorthand == icr::OTHERS
                    || shorthand == 0 && flags & icr::LOGICAL == 0 && (1..4).contains(&destination);
                if mode == icr::INIT && !others {
                    continue;
                }
                let command = icr::to(destination) | shorthand | flags | mode | u64::from(VECTOR);
                let fault = expect_fault(|| apic::command(command));
                let may = ![icr::SMI, RESERVED_MODE, icr::EXT_INT].contains(&mode);
                match fault {
                    None if may => sent += 1,
                    Some(fault) if fault.vector == GENERAL_PROTECTION && !may => refused += 1,
                    None => fail!("command {command:#x} is taken"),
                    Some(fault) => fail!("command {command:#x}: {fault}"),
                }
            }
        }
    }
    let_in_for(A_WHILE);
    still_comes()?;
    followed!("{sent} commands are taken, {refused} are #GP")
}

fn commands_every_destination(_: &Place) -> Followed {
    let fixed = |target: u64| target | icr::ASSERT | u64::from(VECTOR);
    let physical = (1..4096).chain((12..32).map(|bit| 1 << bit)).map(icr::to);
    // Its own is the first of the first cluster.
    let clusters =
        (1..16).map(|member| 1u32 << member).chain((1..256).map(|cluster| cluster << 16 | 1));
    let logical = clusters.map(|to| icr::LOGICAL | icr::to(to));
    let mut count = 0;
    quiet("commands to others", || {
        for target in physical.chain(logical).chain([icr::OTHERS]) {
            apic::command(fixed(target));
            count += 1;
        }
        Ok(())
    })?;
    for target in
        [icr::to(0), icr::to(icr::BROADCAST), icr::LOGICAL | icr::to(1), icr::SELF, icr::ALL]
    {
        let before = all();
        apic::command(fixed(target));
        let_in_for(A_WHILE);
        same(format_args!("the count after {target:#x}"), all() - before, 1)?;
    }
    followed!("nothing from {count} others, one from each that is itself")
}

fn sets_reserved_bits_of_a_command(_: &Place) -> Followed {
    quiet("reserved bits", || {
        for bit in [13, 16, 17].into_iter().chain(20..32) {
            let command = icr::to(0) | icr::ASSERT | u64::from(VECTOR) | 1 << bit;
            faults(format_args!("bit {bit}"), GENERAL_PROTECTION, || apic::command(command))?;
        }
        Ok(())
    })?;
    followed!("#GP at each")
}

fn interrupts_its_neighbour(_: &Place) -> Followed {
    quiet("commands to the others' cores", || {
        for core in 1..CORES {
            for what in [0, icr::LOWEST_PRIORITY, icr::NMI, icr::INIT, icr::STARTUP] {
                apic::command(icr::to(core) | icr::ASSERT | what | u64::from(VECTOR));
            }
        }
        Ok(())
    })?;
    followed!("nothing, from {} cores", CORES - 1)
}

fn sets_every_delivery_mode_in_the_lvt(_: &Place) -> Followed {
    /// CMCI, thermal, performance, LINT0 and LINT1: kept, and without effect.
    const KEPT: [u32; 5] = [0x82F, 0x833, 0x834, register::LVT_LINT0, register::LVT_LINT1];
    const MODES: [u64; 4] = [icr::SMI, icr::NMI, icr::INIT, icr::EXT_INT];
    const MODE: u64 = 0b111 << MODE_SHIFT;
    let write = |msr, value| {
        // SAFETY: leads to interrupts at most, all of which have handlers.
        unsafe { wrmsr(msr, value) };
    };
    quiet("modes in the LVT", || {
        for mode in MODES {
            for msr in KEPT {
                write(msr, mode | u64::from(VECTOR));
                same(format_args!("{msr:#x}"), rdmsr(msr), mode | u64::from(VECTOR))?;
            }
            faults("the error entry", GENERAL_PROTECTION, || {
                write(register::LVT_ERROR, mode | u64::from(VECTOR));
            })?;
            // The hardware's own register: where an emulator does not fault, it drops what is reserved.
            let _ = expect_fault(|| write(register::LVT_TIMER, LVT_MASKED | mode));
            same("the timer's mode", rdmsr(register::LVT_TIMER) & MODE, 0)?;
        }
        Ok(())
    })?;
    for msr in KEPT {
        write(msr, LVT_MASKED);
    }
    followed!("five entries keep them without effect, the others refuse")
}

fn floods_itself(_: &Place) -> Followed {
    const ROUNDS: usize = 10;
    // The last is the spurious interrupt's, which would not be ended.
    let vectors = || FIRST_INTERRUPT..apic::SPURIOUS_VECTOR;
    let mut before = [0; 256];
    for vector in vectors() {
        before[usize::from(vector)] = count(vector);
    }
    for _ in 0..ROUNDS {
        vectors().for_each(apic::interrupt_self);
    }
    let_in_for(A_WHILE);
    for vector in vectors() {
        let came = count(vector) - before[usize::from(vector)];
        same(format_args!("the count of vector {vector:#x}"), came, 1)?;
    }
    followed!("each of {} vectors came once", vectors().len())
}

fn floods_itself_from_the_handler(_: &Place) -> Followed {
    const TIMES: u64 = 10_000;
    static LEFT: AtomicU64 = AtomicU64::new(0);
    LEFT.store(TIMES, Ordering::SeqCst);
    let before = count(VECTOR);
    interrupts::handle(VECTOR, |_| {
        if LEFT.load(Ordering::SeqCst) > 0 {
            LEFT.fetch_sub(1, Ordering::SeqCst);
            apic::interrupt_self(VECTOR);
        }
    });
    apic::interrupt_self(VECTOR);
    let came = interrupts::wait_for(1_000_000_000, || count(VECTOR) - before > TIMES);
    interrupts::ignore(VECTOR);
    ensure!(came, "{} came", count(VECTOR) - before);
    let_in_for(A_WHILE);
    same("the count", count(VECTOR) - before, TIMES + 1)?;
    followed!("all {} came", TIMES + 1)
}

fn floods_itself_with_nmis(_: &Place) -> Followed {
    const TIMES: u64 = 1000;
    let before = count(NMI);
    for _ in 0..TIMES {
        apic::command(icr::to(0) | icr::NMI | icr::ASSERT);
    }
    let_in_for(A_WHILE);
    let came = count(NMI) - before;
    ensure!((1..=TIMES).contains(&came), "{came} came");
    followed!("{came} of {TIMES} came")
}

fn ends_interrupts_that_there_are_not(_: &Place) -> Followed {
    const TIMES: u32 = 10_000;
    (0..TIMES).for_each(|_| apic::end_of_interrupt());
    still_comes()?;
    followed!("{TIMES} were ended; one comes once")
}

/// Raises the line of the console's interrupt.
fn pull() {
    const INTERRUPT_ENABLE: u16 = COM1 + 1;
    const IDENTIFICATION: u16 = COM1 + 2;
    const MODEM_CONTROL: u16 = COM1 + 4;
    /// DTR, RTS, and OUT2, which lets the interrupt out.
    const CONNECTED: u8 = 0b1011;
    const TRANSMITTER: u8 = 0b10;
    port::write(MODEM_CONTROL, CONNECTED);
    port::write(INTERRUPT_ENABLE, TRANSMITTER);
    port::write(INTERRUPT_ENABLE, 0u8);
    port::read::<u8>(IDENTIFICATION);
}

fn programs_the_ioapic_wildly(_: &Place) -> Followed {
    const LOGICAL: u32 = 1 << 11;
    const LEVEL: u32 = 1 << 15;
    const SOON: u64 = 30_000;
    /// Fixed and lowest priority.
    const LAST_ALLOWED: u32 = 0b001;
    let (mut arrived, mut refused) = (0, 0);
    for mode in 0..8u32 {
        for destination in [0, 1, 2, 7, 0xFF] {
            for flags in [0, LOGICAL, LEVEL] {
                for vector in [5, VECTOR] {
                    let entry = flags | mode << MODE_SHIFT | u32::from(vector);
                    ioapic::route(ioapic::CONSOLE_PIN, destination, entry);
                    let before = (all(), count(VECTOR));
                    pull();
                    let_in_for(SOON);
                    ioapic::write(ioapic::entry(ioapic::CONSOLE_PIN), ioapic::MASKED);
                    let (came, of_vector) = (all() - before.0, count(VECTOR) - before.1);
                    let may = mode <= LAST_ALLOWED && vector == VECTOR;
                    let to_itself = [0, 0xFF].contains(&destination);
                    let must = may && to_itself && flags & LOGICAL == 0;
                    let to_nobody = flags & LOGICAL == 0 && !to_itself;
                    same("interrupts of other vectors", came - of_vector, 0)?;
                    ensure!(
                        came <= u64::from(may && !to_nobody),
                        "{entry:#x} arrived {came} times"
                    );
                    ensure!(!must || came == 1, "{entry:#x} to {destination} did not arrive");
                    arrived += came;
                    refused += u64::from(came == 0);
                }
            }
        }
    }
    quiet("all ones in every register of the IOAPIC", || {
        for index in 0..=u8::MAX {
            ioapic::write(index, u32::MAX);
        }
        Ok(())
    })?;
    for pin in 0..24 {
        ioapic::write(ioapic::entry(pin), ioapic::MASKED);
    }
    followed!("{arrived} arrived, {refused} did not")
}

fn writes_interrupt_messages(_: &Place) -> Followed {
    const MESSAGES: u64 = 0xFEE0_0000;
    quiet("messages", || {
        for core in (0..u64::from(CORES)).chain([0xFF]) {
            for mode in 0..8 {
                let data = mode << MODE_SHIFT | u64::from(VECTOR);
                // SAFETY: no memory is there, and no register in x2APIC mode.
                unsafe { store(MESSAGES | core << 12, 4, data) };
            }
        }
        Ok(())
    })?;
    followed!("nothing came")
}

fn sends_illegal_vectors(_: &Place) -> Followed {
    /// An illegal vector was sent; one was received.
    const SENT: u64 = 1 << 5;
    const RECEIVED: u64 = 1 << 6;
    let write = |msr, value| {
        // SAFETY: leads to interrupts at most, and these to none.
        unsafe { wrmsr(msr, value) };
    };
    let mut errors = 0;
    quiet("illegal vectors", || {
        for vector in 0..16 {
            apic::command(icr::to(0) | icr::ASSERT | vector);
            apic::start_one_shot(vector as u8, 100);
            let_in_for(1000);
            apic::stop_timer();
        }
        write(register::ESR, 0);
        errors = rdmsr(register::ESR);
        write(register::ESR, 0);
        Ok(())
    })?;
    ensure!(errors & (SENT | RECEIVED) != 0, "ESR is {errors:#x}");
    still_comes()?;
    followed!("none came; ESR is {errors:#x}")
}

fn sets_its_timer_to_the_least_period(_: &Place) -> Followed {
    const TIMES: u64 = 1000;
    /// Divide by 2 to 128, and by 1 (SDM Vol. 3A, figure 11-10).
    const DIVIDERS: [u64; 8] = [0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010, 0b1011];
    static LAST: AtomicU64 = AtomicU64::new(0);
    interrupts::handle(VECTOR, |_| {
        // With such a period nothing but the handler runs.
        if count(VECTOR) >= LAST.load(Ordering::SeqCst) {
            apic::stop_timer();
        }
    });
    for divider in DIVIDERS {
        LAST.store(count(VECTOR) + TIMES, Ordering::SeqCst);
        apic::start_periodic(VECTOR, 1);
        // SAFETY: how often the timer's interrupt comes, which has a handler.
        unsafe { wrmsr(register::TIMER_DIVIDE, divider) };
        let last = LAST.load(Ordering::SeqCst);
        let came = interrupts::wait_for(1_000_000_000, || count(VECTOR) >= last);
        ensure!(came, "the timer stands still with divider {divider:#b}");
    }
    interrupts::ignore(VECTOR);
    let_in_for(A_WHILE);
    quiet("the timer was stopped", || Ok(()))?;
    followed!("{TIMES} came with each divider, and it was stopped")
}

fn loops_in_debug_exceptions(_: &Place) -> Followed {
    loops::debug();
    fail!("they have ended")
}

fn loops_in_alignment_checks(_: &Place) -> Followed {
    loops::alignment();
    fail!("they have ended")
}

fn spins_with_interrupts_off(_: &Place) -> Followed {
    cpu::disable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}
