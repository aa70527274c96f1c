//! Interrupts of a guest in xAPIC mode: sent, taken and ended through the page.

use crate::{MASKED, turn_on};
use bulkhead_guests::apic::icr;
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::{self, COM1};
use bulkhead_guests::interrupts::{self, count, vector};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::xapic::{self, STRIDE, read, write};
use bulkhead_guests::{cpu, ensure, port};
use core::sync::atomic::{AtomicU64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        title: "the timer fires once, and again and again",
        what: "one-shot and periodic mode, HLT, EOI through the page",
        run: timer,
    },
    Test {
        title: "an IPI to oneself arrives once, by every kind of destination",
        what: "shorthands, ID, broadcast; logical: flat and cluster model",
        run: to_oneself,
    },
    Test {
        title: "an IPI to others arrives nowhere",
        what: "other IDs, other logical IDs of both models, all but oneself",
        run: to_others,
    },
    Test {
        title: "an IPI with lowest priority arrives once",
        what: "delivery mode 1 to all and to a logical ID",
        run: lowest_priority,
    },
    Test {
        title: "SMI, ExtINT and reserved delivery modes send nothing",
        what: "ICR with modes 2, 3 and 7 to oneself and to all",
        run: refused,
    },
    Test { title: "an NMI to oneself arrives", what: "ICR with NMI delivery to ID 0", run: nmi },
    Test {
        title: "an interrupt is in service until EOI is written",
        what: "ISR and PPR in the handler; IRR before it",
        run: in_service,
    },
    Test {
        title: "an interrupt below the task priority waits",
        what: "TPR above, then below its class",
        run: priority,
    },
    Test {
        title: "a device's interrupt finds a logical ID",
        what: "the console's transmitter, its redirection entry with LDR's bit, then another",
        run: device,
    },
];

const VECTOR: u8 = 0x46;
const COUNT: u32 = 200_000;
/// Ticks for what should come: more than it can take.
const PATIENCE: u64 = 100_000_000;
/// Ticks for what should not come: more than it would take.
const A_WHILE: u64 = 300_000;

const LOGICAL: u32 = icr::LOGICAL as u32;
const LOWEST_PRIORITY: u32 = 0b001 << 8;
const FIXED: u32 = icr::ASSERT as u32 | VECTOR as u32;
/// DFR of the cluster model.
const CLUSTER: u32 = 0;

fn timer(_: &BootParams) -> Outcome {
    const TIMES: u64 = 5;
    const PERIODIC: u32 = 1 << 17;
    const DIVIDE_BY_1: u32 = 0b1011;
    turn_on();
    let before = count(VECTOR);
    write(xapic::TIMER_DIVIDE, DIVIDE_BY_1);
    write(xapic::LVT_TIMER, VECTOR.into());
    write(xapic::TIMER_INITIAL, COUNT);
    ensure!(read(xapic::TIMER_CURRENT) > 0, "nothing is left at once");
    while count(VECTOR) == before {
        cpu::halt();
    }
    same("what is left", read(xapic::TIMER_CURRENT), 0)?;
    interrupts::let_in_for(u64::from(COUNT) * 4);
    same("the count", count(VECTOR) - before, 1)?;
    write(xapic::LVT_TIMER, PERIODIC | u32::from(VECTOR));
    write(xapic::TIMER_INITIAL, COUNT);
    for _ in 0..TIMES {
        cpu::halt();
    }
    write(xapic::LVT_TIMER, MASKED);
    write(xapic::TIMER_INITIAL, 0);
    write(xapic::TIMER_DIVIDE, 0);
    same("the count in periodic mode", count(VECTOR) - before - 1, TIMES)
}

/// Whether a command to a destination brings exactly `times` interrupts, all with the vector.
fn brings(times: u64, name: &str, destination: u8, command: u32) -> Outcome {
    let (before, all) = (count(VECTOR), interrupts::count_all() + count(vector::NMI));
    xapic::command(destination, command);
    if times > 0 {
        let came = interrupts::wait_for(PATIENCE, || count(VECTOR) > before);
        ensure!(came, "{name}: nothing came");
    }
    interrupts::let_in_for(A_WHILE);
    same(format_args!("{name}: its count"), count(VECTOR) - before, times)?;
    let came = interrupts::count_all() + count(vector::NMI) - all;
    same(format_args!("{name}: the count of all"), came, times)
}

fn to_oneself(_: &BootParams) -> Outcome {
    turn_on();
    brings(1, "shorthand self", 0x77, FIXED | icr::SELF as u32)?;
    brings(1, "shorthand all", 0x77, FIXED | icr::ALL as u32)?;
    brings(1, "ID 0", 0, FIXED)?;
    brings(1, "broadcast", 0xFF, FIXED)?;
    brings(1, "logical broadcast", 0xFF, FIXED | LOGICAL)?;
    write(xapic::LDR, xapic::to(0b0100));
    brings(1, "flat, its bit alone", 0b0100, FIXED | LOGICAL)?;
    brings(1, "flat, among others", 0b1110, FIXED | LOGICAL)?;
    write(xapic::DFR, CLUSTER);
    write(xapic::LDR, xapic::to(0x32));
    brings(1, "cluster, its bit alone", 0x32, FIXED | LOGICAL)?;
    brings(1, "cluster, among others", 0x3F, FIXED | LOGICAL)?;
    brings(1, "cluster, broadcast", 0xFF, FIXED | LOGICAL)?;
    write(xapic::DFR, u32::MAX);
    write(xapic::LDR, 0);
    Ok(())
}

fn to_others(_: &BootParams) -> Outcome {
    turn_on();
    for id in [1, 2, 63, 64, 0xFE] {
        brings(0, "another ID", id, FIXED)?;
    }
    brings(0, "all but oneself", 0, FIXED | icr::OTHERS as u32)?;
    brings(0, "logical, with LDR 0", 0x7F, FIXED | LOGICAL)?;
    write(xapic::LDR, xapic::to(0b0100));
    brings(0, "flat, other bits", 0b1011, FIXED | LOGICAL)?;
    write(xapic::DFR, CLUSTER);
    write(xapic::LDR, xapic::to(0x32));
    brings(0, "another cluster", 0x22, FIXED | LOGICAL)?;
    brings(0, "its cluster, another member", 0x3D, FIXED | LOGICAL)?;
    write(xapic::DFR, u32::MAX);
    write(xapic::LDR, 0);
    Ok(())
}

fn lowest_priority(_: &BootParams) -> Outcome {
    turn_on();
    write(xapic::LDR, xapic::to(1));
    brings(1, "to a logical ID", 1, FIXED | LOGICAL | LOWEST_PRIORITY)?;
    brings(1, "to all", 0xFF, FIXED | LOGICAL | LOWEST_PRIORITY)?;
    write(xapic::LDR, 0);
    Ok(())
}

fn refused(_: &BootParams) -> Outcome {
    const RESERVED: u32 = 0b011 << 8;
    turn_on();
    for mode in [icr::SMI as u32, RESERVED, icr::EXT_INT as u32] {
        brings(0, "to oneself", 0, FIXED | mode)?;
        brings(0, "to all", 0, FIXED | mode | icr::ALL as u32)?;
    }
    Ok(())
}

fn nmi(_: &BootParams) -> Outcome {
    turn_on();
    interrupts::handle(vector::NMI, |_| {});
    let before = count(vector::NMI);
    xapic::command(0, (icr::NMI | icr::ASSERT) as u32);
    let came = interrupts::wait_for(PATIENCE, || count(vector::NMI) > before);
    ensure!(came, "nothing came");
    interrupts::let_in_for(A_WHILE);
    same("the count", count(vector::NMI) - before, 1)
}

/// The register of a group, and its bit, that are `VECTOR`'s.
const WORD: u64 = STRIDE * (VECTOR as u64 / 32);
const BIT: u64 = 1 << (VECTOR % 32);

fn in_service(_: &BootParams) -> Outcome {
    static IN_HANDLER: AtomicU64 = AtomicU64::new(0);
    static PRIORITY: AtomicU64 = AtomicU64::new(0);
    turn_on();
    let before = count(VECTOR);
    interrupts::handle(VECTOR, |_| {
        IN_HANDLER.store(read(xapic::ISR + WORD), Ordering::SeqCst);
        PRIORITY.store(read(xapic::PPR), Ordering::SeqCst);
    });
    xapic::command(0, FIXED);
    let requested = read(xapic::IRR + WORD);
    let came = interrupts::wait_for(PATIENCE, || count(VECTOR) > before);
    interrupts::ignore(VECTOR);
    ensure!(came, "nothing came");
    same("IRR before", requested, BIT)?;
    same("ISR in the handler", IN_HANDLER.load(Ordering::SeqCst), BIT)?;
    same("PPR in the handler", PRIORITY.load(Ordering::SeqCst), (VECTOR & 0xF0).into())?;
    same("ISR after EOI", read(xapic::ISR + WORD), 0)?;
    same("PPR after EOI", read(xapic::PPR), 0)
}

fn priority(_: &BootParams) -> Outcome {
    turn_on();
    let before = count(VECTOR);
    write(xapic::TPR, u32::from(VECTOR | 0xF));
    xapic::command(0, FIXED);
    interrupts::let_in_for(A_WHILE);
    let early = count(VECTOR) - before;
    write(xapic::TPR, 0);
    interrupts::let_in_for(A_WHILE);
    same("the count above", early, 0)?;
    same("the count below", count(VECTOR) - before, 1)
}

/// Routes the console's pin to a logical destination and enables its transmitter's interrupt,
/// which is due at once; counts what comes.
fn transmitter_interrupts(destination: u8) -> u64 {
    /// The redirection entry of pin 4 in the IOAPIC (82093AA data sheet, 3.2.4).
    const ENTRY: u32 = 0x10 + 2 * 4;
    const SELECT: *mut u32 = 0xFEC0_0000 as *mut u32;
    const WINDOW: *mut u32 = 0xFEC0_0010 as *mut u32;
    /// Interrupt enable: transmitter empty. Modem control: DTR, RTS, and OUT2, which lets the interrupt out.
    const THRE: u8 = 1 << 1;
    const CONNECTED: u8 = 0b1011;
    let set = |half, value| {
        // SAFETY: the device's registers; they lead to interrupts that have handlers.
        unsafe {
            SELECT.write_volatile(ENTRY + half);
            WINDOW.write_volatile(value);
        }
    };
    let before = count(VECTOR);
    set(1, xapic::to(destination));
    set(0, LOGICAL | u32::from(VECTOR));
    console::wait_until_ready();
    port::write(COM1 + 4, CONNECTED);
    port::write(COM1 + 1, THRE);
    interrupts::let_in_for(A_WHILE);
    port::write(COM1 + 1, 0u8);
    port::read::<u8>(COM1 + 2);
    set(0, MASKED);
    count(VECTOR) - before
}

fn device(_: &BootParams) -> Outcome {
    turn_on();
    write(xapic::LDR, xapic::to(0b0010));
    let (own, others) = (transmitter_interrupts(0b0011), transmitter_interrupts(0b1101));
    write(xapic::LDR, 0);
    same("the count for its bit", own, 1)?;
    same("the count for others' bits", others, 0)
}
