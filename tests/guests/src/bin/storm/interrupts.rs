//! Storms of interrupts.

use bulkhead_guests::apic::{self, icr, register};
use bulkhead_guests::cpu::{self, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::{self, vector};
use bulkhead_guests::smp::{self, MOST};
use bulkhead_guests::trampoline::{START_PAGE, prepare_counter};

/// Vectors of fixed interrupts; those below are an error to an APIC.
const FIRST_VECTOR: u64 = 16;
const LAST_VECTOR: u64 = 0xFF;

/// Interrupts itself, in the handler too: the next is pending when it returns.
pub fn to_itself() {
    const VECTOR: u8 = 0x40;
    interrupts::handle(VECTOR, |_| apic::interrupt_self(VECTOR));
    apic::interrupt_self(VECTOR);
    cpu::enable_interrupts();
    loop {
        apic::interrupt_self(VECTOR + 1);
    }
}

/// Exceptions that nothing raised are taken for interrupts, and all others ignored.
fn take_all() {
    for vector in 0..vector::FIRST_INTERRUPT {
        if vector != vector::GENERAL_PROTECTION {
            interrupts::handle(vector, |_| {});
        }
    }
}

pub fn to_all() {
    take_all();
    cpu::enable_interrupts();
    loop {
        for vector in FIRST_VECTOR..=LAST_VECTOR {
            apic::command(icr::ALL | icr::ASSERT | vector);
            apic::command(icr::OTHERS | icr::ASSERT | vector);
            apic::command(icr::to(icr::BROADCAST) | icr::ASSERT | vector);
        }
    }
}

/// Every delivery mode and shorthand, level and trigger mode, to IDs and sets that other guests' cores may
/// have. INIT and start-up IPIs to its own processors are left out, as the storm would stop.
pub fn any_icr() {
    const MODE: u64 = 0b111 << 8;
    const DESTINATIONS: [u32; 14] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 0xFF, 0xFFFF, 0x1_00FF, 0xFFFF_0000, u32::MAX];
    take_all();
    let own = smp::number();
    cpu::enable_interrupts();
    loop {
        for low in 0..1u64 << 12 {
            // Delivery mode, destination mode, level and trigger, shorthand; and some vectors.
            let command = (low & 0xF) << 8
                | (low >> 4 & 0b11) << 14
                | (low >> 6 & 0b11) << 18
                | [0x00, 0x0F, 0x10, 0x31, 0xEF, 0xFF][low as usize % 6];
            for destination in DESTINATIONS {
                let all = icr::to(destination) | command;
                let starts_or_stops = matches!(command & MODE, icr::INIT | icr::STARTUP);
                let beyond = command >> 18 == 0
                    && command & icr::LOGICAL == 0
                    && (MOST as u32..u32::MAX).contains(&destination);
                if starts_or_stops && !beyond {
                    continue;
                }
                // What is reserved is #GP, after which interrupts are off.
                expect_fault(|| apic::command(all));
                cpu::enable_interrupts();
            }
        }
        assert!(smp::number() == own, "another processor");
    }
}

pub fn least_period() {
    const VECTOR: u8 = 0x40;
    apic::start_periodic(VECTOR, 1);
    cpu::enable_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

pub fn timer_of_every_vector() {
    const PERIOD: u32 = 100;
    take_all();
    loop {
        for vector in 0..=u8::MAX {
            apic::start_periodic(vector, PERIOD);
            interrupts::let_in_for(u64::from(PERIOD) * 4);
            // SAFETY: an error entry with a vector that has a handler.
            unsafe { wrmsr(register::LVT_ERROR, vector.into()) };
        }
    }
}

pub fn nmis() {
    interrupts::handle(vector::NMI, |_| {});
    loop {
        apic::command(icr::OTHERS | icr::NMI | icr::ASSERT);
        for number in 0..MOST as u32 {
            apic::command(icr::to(number) | icr::NMI | icr::ASSERT);
        }
    }
}

/// Sends INIT and start-up IPIs in every rhythm, to pages with code and to pages without.
pub fn inits() {
    /// Code that does nothing for long: zeros are an addition to memory.
    const EMPTY_PAGE: u8 = 0x50;
    // SAFETY: the other processors run what is elsewhere, or are stopped at once.
    unsafe { prepare_counter() };
    loop {
        for wait in [0, 10, 100, 1_000, 10_000] {
            for page in [START_PAGE + 1, EMPTY_PAGE, 0xFF] {
                smp::send_init(icr::OTHERS);
                smp::delay(wait);
                smp::send_startup(icr::OTHERS, page);
                smp::send_startup(icr::OTHERS, page);
                smp::delay(wait);
                apic::command(icr::OTHERS | icr::NMI | icr::ASSERT);
            }
        }
    }
}
