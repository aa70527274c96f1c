//! Tries what a guest must not be able to do, one attack of the table in `bulkhead_guests::attacks` after the other, as it is
//! told on its console:
//!
//! ```text
//! place hypervisor=START-END,START-END neighbour=START-END image=ADDRESS name=NEIGHBOUR
//! GROUP::ATTACK
//! ```
//!
//! The first line says where in host-physical memory the others are, which a guest cannot know. To each attack it says
//! `attack: GROUP::ATTACK | WHAT FOLLOWED | contained`, or `ESCAPED` at the end where something else followed than must;
//! where the attack ends the guest, the hypervisor says the rest.
#![no_std]
#![no_main]

mod covert;
mod instructions;
mod interrupts;
mod map;
mod memory;
mod mmio;
mod modes;
mod msr;
mod place;
mod ports;
mod reuse;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::footing::Footing;
use bulkhead_guests::interrupts::vector;
use bulkhead_guests::suite::{Reason, Shortfall};
use bulkhead_guests::{apic, console, cpu, entry, port, print, println};
use place::Place;

entry!(main);

/// What followed from an attack: in words, or what fell short.
type Followed = Result<Reason, Shortfall>;
/// An attack's name, and how it is done.
type Run = (&'static str, fn(&Place) -> Followed);

/// Ends an attack: what had to follow has, in words as to `format!`.
macro_rules! followed {
    ($($argument:tt)*) => {
        Ok(bulkhead_guests::suite::Reason::new(::core::format_args!($($argument)*)))
    };
}
use followed;

/// How the attacks of a group are done. That each is in the group's table, in the same order, is checked by the
/// compiler.
macro_rules! runs {
    ($group:literal: $($name:ident),* $(,)?) => {
        /// How they are done.
        pub const RUNS: &[crate::Run] = &[$((stringify!($name), $name)),*];
        const _: () = assert!(
            bulkhead_guests::attacks::names_are(
                bulkhead_guests::attacks::group($group),
                &[$(stringify!($name)),*],
            ),
            "the table has other names, or another order"
        );
    };
}
use runs;

const GROUPS: [(&str, &[Run]); 9] = [
    ("memory", memory::RUNS),
    ("mmio", mmio::RUNS),
    ("instructions", instructions::RUNS),
    ("msr", msr::RUNS),
    ("ports", ports::RUNS),
    ("interrupts", interrupts::RUNS),
    ("modes", modes::RUNS),
    ("covert", covert::RUNS),
    ("reuse", reuse::RUNS),
];

/// Most bytes of a line.
const LONGEST: usize = 512;

fn main(boot: &BootParams) -> ! {
    apic::enable();
    let footing = Footing::now();
    let mut place = Place::new(boot);
    println!("attacks: ready");
    loop {
        let line = line();
        match line.strip_prefix("place ") {
            Some(where_) => {
                place.learn(where_);
                println!("attacks: placed");
            }
            None => attack(&line, &place, &footing),
        }
    }
}

/// The next line that is typed.
fn line() -> heapless::String<LONGEST> {
    let mut line = heapless::String::new();
    loop {
        if port::read::<u8>(console::LINE_STATUS) & console::RECEIVED == 0 {
            continue;
        }
        match port::read::<u8>(console::DATA) {
            b'\r' | b'\n' => return line,
            // What does not fit is no attack's name either.
            byte => drop(line.push(byte.into())),
        }
    }
}

/// Does what it is told, and says what followed.
fn attack(wanted: &str, place: &Place, footing: &Footing) {
    let found = wanted.split_once("::").and_then(|(group, name)| {
        let (_, runs) = GROUPS.iter().find(|(known, _)| *known == group)?;
        runs.iter().find(|(known, _)| *known == name)
    });
    let Some((_, run)) = found else {
        println!("attack: {wanted} | there is no such attack | ESCAPED");
        return;
    };
    print!("attack: {wanted} | ");
    // So that it is known which one ended the guest.
    console::flush();
    bulkhead_guests::interrupts::handle(vector::NMI, |_| {});
    let mut followed = followed!("nothing");
    let fault = expect_fault(|| followed = run(place));
    footing.restore();
    apic::enable();
    if let Some(fault) = fault {
        println!("unexpected {fault} | ESCAPED");
        return;
    }
    // Whatever it did, and with whatever it has left in its own registers.
    if let Some(host) = cpu::host_registers().filter(|host| host.changed != 0) {
        println!("{} of the host's MSRs changed, {:#x} first | ESCAPED", host.changed, host.first);
        return;
    }
    match followed {
        Ok(what) => println!("{what} | contained"),
        Err(Shortfall::Failed(what)) => println!("{what} | ESCAPED"),
        Err(Shortfall::Skipped(what)) => println!("{what} | skipped"),
    }
}
