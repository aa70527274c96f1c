//! The service core's loop: consoles, and guests that stop.

use super::guest::{Guest, Life};
use super::log as console;
use super::panic;
use super::plan::Placed;
use crate::arch::power::SoftOff;
use crate::arch::{apic, cpu, interrupts};
use alloc::vec::Vec;
use log::info;

/// Console bytes moved for one guest before the next has its turn.
const CONSOLE_CHUNK: usize = 256;
/// Bytes of input that wait for a guest to take them.
const INPUT_BUFFER: usize = 256;

/// What the service core serves.
pub struct Service {
    guests: Vec<Guest>,
    input: heapless::Deque<u8, INPUT_BUFFER>,
}

impl Service {
    /// Starts all guests.
    pub fn new(placed: Vec<Placed>) -> Self {
        let guests = placed.into_iter().map(Guest::start).collect();
        Self { guests, input: heapless::Deque::new() }
    }

    /// Serves until every guest has stopped; returns how many powered off, and how many faulted.
    pub fn run(&mut self) -> (usize, usize) {
        loop {
            let mut busy = false;
            for guest in &mut self.guests {
                busy |= drain_console(guest);
            }
            busy |= self.pass_input();
            for guest in &mut self.guests {
                if guest.has_ended() {
                    // What it wrote last comes before what is said of it.
                    while drain_console(guest) {}
                    guest.conclude();
                }
            }
            if !self.guests.iter().any(|guest| guest.life().is_active()) {
                for guest in &mut self.guests {
                    while drain_console(guest) {}
                }
                let faulted = self.guests.iter().filter(|guest| guest.life() == Life::Faulted);
                let faulted = faulted.count();
                return (self.guests.len() - faulted, faulted);
            }
            if !busy {
                // SAFETY: the handlers for the doorbell, the timer and the serial port take no lock.
                unsafe { cpu::wait_for_interrupt() };
            }
        }
    }

    /// Moves what was typed to the first guest that runs.
    fn pass_input(&mut self) -> bool {
        let mut bytes = [0; INPUT_BUFFER];
        let room = self.input.capacity() - self.input.len();
        let taken = console::take_input(&mut bytes[..room]);
        for &byte in &bytes[..taken] {
            // There is room: no more was asked for.
            let _ = self.input.push_back(byte);
        }
        let Some(guest) = self.guests.iter().find(|guest| guest.life() == Life::Running) else {
            self.input.clear();
            return false;
        };
        let mut passed = false;
        while let Some(&byte) = self.input.front() {
            let Some(mut platform) = guest.platform() else { break };
            let (accepted, message) = platform.console_input(core::slice::from_ref(&byte));
            if let Some(message) = message {
                guest.shared().deliver(&message);
            }
            drop(platform);
            if accepted == 0 {
                break;
            }
            passed = true;
            self.input.pop_front();
        }
        passed
    }
}

/// Moves a guest's console output to the serial port. Says whether there was any.
fn drain_console(guest: &Guest) -> bool {
    let mut chunk = [0; CONSOLE_CHUNK];
    let Some(mut platform) = guest.platform() else { return false };
    let (len, message) = platform.console_output(&mut chunk);
    if let Some(message) = message {
        guest.shared().deliver(&message);
    }
    drop(platform);
    console::console_bytes(&mut chunk[..len]);
    len > 0
}

/// Says how it ended, and switches the machine off.
pub fn finish(powered_off: usize, faulted: usize, soft_off: Option<SoftOff>) -> ! {
    panic::wait_for_reports();
    let strays = interrupts::unexpected();
    if strays > 0 {
        info!("interrupts that nobody expected: {strays}");
    }
    apic::quiesce();
    console::line(format_args!(
        "bulkhead: all guests stopped: {powered_off} powered off, {faulted} faulted"
    ));
    console::flush();
    if let Some(soft_off) = soft_off {
        soft_off.now();
    }
    console::line(format_args!("bulkhead: the machine can be switched off"));
    cpu::park()
}
