//! The service core's loop: consoles, and guests that stop.

use super::cores::State;
use super::log as console;
use super::panic;
use super::plan::Placed;
use crate::arch::power::SoftOff;
use crate::arch::{apic, cpu, interrupts};
use crate::guest::run::Finished;
use crate::guest::statistics::Grouped;
use crate::guest::stop::{Fault, Stop};
use crate::vmx::exit::ExitReason;
use alloc::vec::Vec;
use log::{error, info};

/// Console bytes moved for one guest before the next has its turn.
const CONSOLE_CHUNK: usize = 256;
/// Bytes of input that wait for a guest to take them.
const INPUT_BUFFER: usize = 256;

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    PoweredOff,
    Faulted,
}

struct Guest {
    placed: Placed,
    life: Life,
    /// Restarts in the current period, and the second in which that began.
    restarts: u32,
    period: u64,
}

/// A guest that restarts more often than so many times in so many seconds is stopped: the log of
/// it would take the service core from the others.
const MOST_RESTARTS: u32 = 10;
const RESTART_PERIOD: u64 = 60;

impl Guest {
    /// Whether a guest that has ended may start again.
    fn again(&mut self) -> Life {
        let now = self.placed.seconds();
        if now.saturating_sub(self.period) >= RESTART_PERIOD {
            (self.period, self.restarts) = (now, 0);
        }
        self.restarts += 1;
        if self.restarts <= MOST_RESTARTS {
            return Life::Running;
        }
        let name = &self.placed.name;
        error!("guest {name}: stopped: {MOST_RESTARTS} restarts within {RESTART_PERIOD} s");
        Life::Faulted
    }
}

/// What the service core serves.
pub struct Service {
    guests: Vec<Guest>,
    input: heapless::Deque<u8, INPUT_BUFFER>,
}

impl Service {
    /// Starts all guests.
    pub fn new(placed: Vec<Placed>) -> Self {
        let guests = placed
            .into_iter()
            .map(|mut placed| {
                let life = start(&mut placed);
                let period = placed.seconds();
                Guest { placed, life, restarts: 0, period }
            })
            .collect();
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
                if guest.life == Life::Running {
                    check(guest);
                }
            }
            if self.guests.iter().all(|guest| guest.life != Life::Running) {
                for guest in &mut self.guests {
                    while drain_console(guest) {}
                }
                let count = |life| self.guests.iter().filter(|guest| guest.life == life).count();
                return (count(Life::PoweredOff), count(Life::Faulted));
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
        let Some(guest) = self.guests.iter().find(|guest| guest.life == Life::Running) else {
            self.input.clear();
            return false;
        };
        let mut passed = false;
        while let Some(&byte) = self.input.front() {
            let Some(mut platform) = guest.placed.platform() else { break };
            let (accepted, message) = platform.console_input(core::slice::from_ref(&byte));
            if let Some(message) = message {
                guest.placed.shared.deliver(&message);
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

fn start(placed: &mut Placed) -> Life {
    info!("guest {}: starting on core {}", placed.name, placed.cores[0].index);
    match placed.start() {
        Ok(()) => Life::Running,
        Err(error) => {
            error!("guest {}: not started: {error}", placed.name);
            Life::Faulted
        }
    }
}

/// Moves a guest's console output to the serial port. Says whether there was any.
fn drain_console(guest: &mut Guest) -> bool {
    let mut chunk = [0; CONSOLE_CHUNK];
    let shared = &guest.placed.shared;
    let Some(mut platform) = guest.placed.platform() else { return false };
    let (len, message) = platform.console_output(&mut chunk);
    if let Some(message) = message {
        shared.deliver(&message);
    }
    drop(platform);
    console::console_bytes(&mut chunk[..len]);
    len > 0
}

/// Looks whether a guest has stopped, and goes on from there.
fn check(guest: &mut Guest) {
    let Some(finished) = guest.placed.cores[0].take_finished() else {
        if guest.placed.cores[0].state() == State::Dead {
            error!("guest {}: stopped: the hypervisor failed on its core", guest.placed.name);
            guest.life = Life::Faulted;
        }
        return;
    };
    // What it wrote last comes before what is said of it.
    while drain_console(guest) {}
    let name = guest.placed.name.clone();
    let life = match &finished.result {
        Ok(Stop::PowerOff) => {
            info!("guest {name}: powered off");
            Life::PoweredOff
        }
        Ok(Stop::Reset) if guest.placed.restart => {
            info!("guest {name}: reset");
            guest.again()
        }
        Ok(Stop::Reset) => {
            info!("guest {name}: asked for a reset; its restart policy is never: stopped");
            Life::PoweredOff
        }
        Ok(Stop::Fault(fault, report)) => {
            error!("guest {name}: stopped: {fault}");
            report.lines(|line| error!("guest {name}: {line}"));
            // On a processor a triple fault is a reset.
            if *fault == Fault::TripleFault && guest.placed.restart {
                guest.again()
            } else {
                Life::Faulted
            }
        }
        Err(error) => {
            error!("guest {name}: not started: {error}");
            Life::Faulted
        }
    };
    summarise(&guest.placed, &finished);
    guest.placed.give_back(finished.frames);
    guest.life = if life == Life::Running { start(&mut guest.placed) } else { life };
}

/// Prints what the guest cost: exits by reason, and the ticks spent in each.
fn summarise(placed: &Placed, finished: &Finished) {
    let name = &placed.name;
    let statistics = &finished.statistics;
    info!(
        "guest {name}: ran {} ticks, of which {} in {} exits",
        Grouped(finished.ticks),
        Grouped(statistics.ticks()),
        Grouped(statistics.exits())
    );
    for (reason, exits, ticks) in statistics.rows() {
        info!(
            "guest {name}:   {:>12} {:<28} {:>14} ticks, {:>7} each",
            Grouped(exits),
            ExitReason::from(reason).name(),
            Grouped(ticks),
            Grouped(ticks / exits.max(1))
        );
    }
    let Some(platform) = placed.platform() else { return };
    let absent = platform.absent();
    info!(
        "guest {name}: absent devices: {} port accesses, {} memory accesses; console bytes lost: {}; \
         interrupts refused: {}; NMIs: {}",
        absent.port_accesses,
        absent.memory_accesses,
        platform.console_dropped(),
        platform.interrupts_refused(),
        finished.nmis
    );
}

/// Says how it ended, and switches the machine off.
pub fn finish(powered_off: usize, faulted: usize, soft_off: Option<SoftOff>) -> ! {
    panic::wait_for_reports();
    let (nmis, strays) = interrupts::unexpected();
    if nmis + strays > 0 {
        info!("unexpected interrupts: {nmis} NMIs in root mode, {strays} others");
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
