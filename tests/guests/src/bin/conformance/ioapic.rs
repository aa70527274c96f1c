//! The IOAPIC, and the console's interrupt through it.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::console::{self, COM1};
use bulkhead_guests::interrupts::{self, count};
use bulkhead_guests::ioapic::{
    CONSOLE_PIN, MASKED, WINDOW, entry, read, register, route, select, write,
};
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, port};

pub const TESTS: &[Test] = &[
    Test {
        title: "the IOAPIC has 24 pins, all masked at first",
        what: "ID, version, redirection entries",
        run: registers,
    },
    Test {
        title: "a redirection entry keeps what is written",
        what: "both halves of an entry, and the ID; status bits stay 0",
        run: kept,
    },
    Test {
        title: "an IOAPIC register that is not there reads all ones",
        what: "index 0x40, and a byte of the window",
        run: absent,
    },
    Test {
        title: "the console's transmitter interrupts through pin 4",
        what: "IER.THRE with OUT2: one interrupt, IIR says why, and none after it was read",
        run: transmitter,
    },
    Test {
        title: "an interrupt at a masked pin comes when it is unmasked",
        what: "the same with the pin masked, then unmasked",
        run: unmasked,
    },
    Test {
        title: "an IOAPIC entry may not ask for an NMI or an SMI",
        what: "the same with such delivery modes: nothing comes",
        run: refused,
    },
];

const PINS: u8 = 24;

/// The vector used here, and delivery modes that are refused.
const VECTOR: u8 = 0x44;
const SMI: u32 = 0b010 << 8;
const NMI: u32 = 0b100 << 8;

const INTERRUPT_ENABLE: u16 = COM1 + 1;
const IDENTIFICATION: u16 = COM1 + 2;
const MODEM_CONTROL: u16 = COM1 + 4;
/// Interrupt enable: transmitter empty.
const THRE: u8 = 1 << 1;
/// Identification: what is pending; and nothing.
const PENDING: u8 = 0xF;
const PENDING_THRE: u64 = 0b0010;
const PENDING_NOTHING: u64 = 0b0001;
/// Modem control: DTR, RTS, and OUT2, which lets the interrupt out.
const CONNECTED: u8 = 0b1011;

/// Ticks for what should come, and for what should not.
const PATIENCE: u64 = 100_000_000;
const A_WHILE: u64 = 300_000;

fn registers(_: &BootParams) -> Outcome {
    const VERSION_MASK: u32 = 0xFF;
    const LAST_PIN_SHIFT: u32 = 16;
    same("ID", read(register::ID).into(), 0)?;
    same("version", (read(register::VERSION) & VERSION_MASK).into(), 0x11)?;
    same("last pin", (read(register::VERSION) >> LAST_PIN_SHIFT & 0xFF).into(), (PINS - 1).into())?;
    for pin in 0..PINS {
        let masked = u64::from(read(entry(pin)) & MASKED);
        same(format_args!("mask of pin {pin}"), masked, MASKED.into())?;
    }
    Ok(())
}

fn kept(_: &BootParams) -> Outcome {
    const UNUSED_PIN: u8 = 11;
    const STATUS: u32 = 1 << 12 | 1 << 14;
    const LOW: u32 = MASKED | 0x77;
    const HIGH: u32 = 0x5A00_0000;
    write(entry(UNUSED_PIN), LOW | STATUS);
    write(entry(UNUSED_PIN) + 1, HIGH);
    let (low, high) = (read(entry(UNUSED_PIN)), read(entry(UNUSED_PIN) + 1));
    write(entry(UNUSED_PIN), MASKED);
    write(entry(UNUSED_PIN) + 1, 0);
    same("low half", low.into(), LOW.into())?;
    same("high half", high.into(), HIGH.into())?;
    write(register::ID, 0x0700_0000);
    let id = read(register::ID);
    write(register::ID, 0);
    same("ID", id.into(), 0x0700_0000)
}

fn absent(_: &BootParams) -> Outcome {
    const NO_REGISTER: u8 = 0x40;
    same("register 0x40", read(NO_REGISTER).into(), u32::MAX.into())?;
    select(register::VERSION);
    // SAFETY: the device's page.
    let byte = unsafe { (WINDOW as *const u8).read_volatile() };
    same("a byte of the version", byte.into(), u8::MAX.into())
}

/// Routes the console's pin to this processor and enables its transmitter's interrupt, which is
/// due at once; undoes both after `act`.
fn with_console(low: u32, act: impl FnOnce() -> Outcome) -> Outcome {
    route(CONSOLE_PIN, 0, low);
    console::wait_until_ready();
    port::write(MODEM_CONTROL, CONNECTED);
    port::write(INTERRUPT_ENABLE, THRE);
    let outcome = act();
    port::write(INTERRUPT_ENABLE, 0u8);
    port::read::<u8>(IDENTIFICATION);
    write(entry(CONSOLE_PIN), MASKED);
    outcome
}

fn identify() -> u64 {
    u64::from(port::read::<u8>(IDENTIFICATION) & PENDING)
}

fn transmitter(_: &BootParams) -> Outcome {
    let before = count(VECTOR);
    with_console(VECTOR.into(), || {
        let came = interrupts::wait_for(PATIENCE, || count(VECTOR) > before);
        ensure!(came, "nothing came");
        same("IIR", identify(), PENDING_THRE)?;
        same("IIR after it was read", identify(), PENDING_NOTHING)?;
        interrupts::let_in_for(A_WHILE);
        same("the count", count(VECTOR) - before, 1)
    })
}

fn unmasked(_: &BootParams) -> Outcome {
    let before = count(VECTOR);
    with_console(MASKED | u32::from(VECTOR), || {
        interrupts::let_in_for(A_WHILE);
        same("the count while masked", count(VECTOR) - before, 0)?;
        write(entry(CONSOLE_PIN), VECTOR.into());
        let came = interrupts::wait_for(PATIENCE, || count(VECTOR) > before);
        ensure!(came, "nothing came");
        interrupts::let_in_for(A_WHILE);
        same("the count", count(VECTOR) - before, 1)
    })
}

fn refused(_: &BootParams) -> Outcome {
    use bulkhead_guests::interrupts::vector;
    for mode in [SMI, NMI] {
        let before = interrupts::count_all() + count(vector::NMI);
        with_console(mode | u32::from(VECTOR), || {
            interrupts::let_in_for(A_WHILE);
            let came = interrupts::count_all() + count(vector::NMI) - before;
            same(format_args!("the count with mode {mode:#x}"), came, 0)
        })?;
    }
    Ok(())
}
