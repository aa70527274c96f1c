//! A guest that misbehaves without end, on all its processors, to see whether others notice.
//! `storm=NAME` on the command line says how. What it does is its own harm; nothing of it may reach another guest.
//!
//! It prints a line when all its processors are at it.
#![no_std]
#![no_main]

mod interrupts;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::{acpi, apic, console, cpu, entry, loops, port, println, smp};
use core::sync::atomic::{AtomicUsize, Ordering};

entry!(main);

/// What a processor does, for ever: name, what that is, whether all processors do it or the first
/// alone, and how.
type Storm = (&'static str, &'static str, Who, fn());

/// Which processors do it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// All.
    All,
    /// The first; the others are what it does it to.
    First,
}
use Who::{All, First};

const STORMS: [Storm; 16] = [
    ("cli", "spinning with interrupts off", All, || {
        loop {
            core::hint::spin_loop();
        }
    }),
    ("cli-hlt", "sleeping with interrupts off", All, || cpu::halt_for_ever()),
    ("self-ipi", "interrupting itself", All, interrupts::to_itself),
    ("ipi", "sending IPIs of every vector to all", All, interrupts::to_all),
    (
        "icr",
        "sending whatever an ICR can say, to every physical ID there may be",
        All,
        interrupts::any_icr,
    ),
    ("timer", "a timer of the least period", All, interrupts::least_period),
    ("timer-vectors", "a timer of every vector", All, interrupts::timer_of_every_vector),
    ("nmi", "sending NMIs to all", All, interrupts::nmis),
    ("init", "stopping and starting its other processors", First, interrupts::inits),
    ("console", "writing to the console", All, console_flood),
    ("exits", "CPUID, absent ports, absent memory, MSRs", All, exits),
    ("devices", "writing all registers of its devices", All, devices),
    ("db", "#DB whose delivery raises #DB", First, loops::debug),
    ("ac", "#AC again and again", First, loops::alignment),
    ("pf", "#PF again and again", All, loops::page_fault),
    ("triple", "a triple fault", First, || cpu::triple_fault()),
];

/// Position of the storm in the list, for the other processors.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

fn main(boot: &BootParams) -> ! {
    let wanted = boot.option("storm").unwrap_or("");
    let Some(chosen) = STORMS.iter().position(|(name, ..)| *name == wanted) else {
        println!("storm={wanted}: no such storm; there are:");
        for (name, what, ..) in STORMS {
            println!("  {name}: {what}");
        }
        bulkhead_guests::power::power_off()
    };
    CHOSEN.store(chosen, Ordering::SeqCst);
    apic::enable();
    let processors = acpi::processors(boot).count().min(smp::MOST);
    if let Err(number) = smp::start_all(processors) {
        panic!("processor {number} does not come up");
    }
    let (name, what, who, act) = STORMS[chosen];
    println!("storm {name} on {processors} processors: {what}");
    console::flush();
    if who == All {
        (1..processors)
            .for_each(|number| smp::begin(number, || STORMS[CHOSEN.load(Ordering::SeqCst)].3()));
    }
    act();
    panic!("storm {name} has ended");
}

/// Fills the console as fast as it takes bytes, and faster on every other line.
fn console_flood() {
    let mut heedless = false;
    loop {
        for byte in b' '..b'~' {
            if !heedless {
                console::wait_until_ready();
            }
            port::write(console::DATA, byte);
        }
        console::wait_until_ready();
        port::write(console::DATA, b'\n');
        heedless = !heedless;
    }
}

fn exits() {
    const POST_CODE_PORT: u16 = 0x80;
    /// Where PCs have the HPET, and here nothing.
    const NOWHERE: u64 = 0xFED0_0000;
    const NO_CALL: u64 = u64::MAX;
    loop {
        cpu::cpuid(0, 0);
        port::write(POST_CODE_PORT, 0u8);
        // SAFETY: no memory is there that anybody uses.
        unsafe {
            (NOWHERE as *mut u32).write_volatile(0);
            (NOWHERE as *const u32).read_volatile();
        }
        cpu::rdmsr(apic::register::ID);
        cpu::vmcall(NO_CALL);
    }
}

/// Writes to every port and register of the devices that a guest has, but for those that end it.
fn devices() {
    use bulkhead_guests::ioapic;
    const CMOS_INDEX: u16 = 0x70;
    const CMOS_DATA: u16 = 0x71;
    const UART_REGISTERS: u16 = 8;
    let mut value = 0u8;
    loop {
        value = value.wrapping_mul(5).wrapping_add(7);
        for register in 0..UART_REGISTERS {
            port::write(console::COM1 + register, value);
            port::read::<u8>(console::COM1 + register);
        }
        for register in 0..=u8::MAX {
            ioapic::write(register, u32::from(value) * 0x0101_0101);
            ioapic::read(register);
        }
        for register in 0..0x80u8 {
            port::write(CMOS_INDEX, register);
            port::read::<u8>(CMOS_DATA);
            port::write(CMOS_INDEX, register);
            port::write(CMOS_DATA, value);
        }
    }
}
