//! The service core's loop: consoles, and guests that stop.

use super::commands::{self, Command, MAX_COMMAND, Order};
use super::consoles::{self, Consoles, Typed, answer, refuse};
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
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use log::{error, info};

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    PoweredOff,
    Faulted,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::PoweredOff => "powered off",
            Self::Faulted => "faulted",
        })
    }
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
    /// Whether its core has stopped running it, for whatever reason.
    fn ended(&self) -> bool {
        self.placed.core.state() != State::Running
    }

    /// Whether something that it wrote is not sent yet.
    fn has_output(&self) -> bool {
        consoles::has_output(&self.placed)
    }

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
    consoles: Consoles,
}

impl Service {
    /// Starts all guests. `serial_interrupts` says whether the serial port interrupts.
    pub fn new(placed: Vec<Placed>, serial_interrupts: bool) -> Self {
        let consoles = Consoles::new(placed.len(), serial_interrupts);
        let guests: Vec<_> = placed
            .into_iter()
            .map(|mut placed| {
                let life = start(&mut placed);
                let period = placed.seconds();
                Guest { placed, life, restarts: 0, period }
            })
            .collect();
        let mut service = Self { guests, consoles };
        // The first may not have started.
        service.attach_next(true);
        service
    }

    /// Serves until every guest has stopped; returns how many powered off, and how many faulted.
    pub fn run(&mut self) -> (usize, usize) {
        loop {
            let placed = |index: usize| &self.guests[index].placed;
            let mut busy = self.consoles.transmit(placed);
            self.consoles.report_losses(placed);
            busy |= self.pass_input();
            let attached_ran = self.attached_runs();
            for guest in &mut self.guests {
                // What it wrote last comes before what is said of its end.
                if guest.life == Life::Running && guest.ended() && !guest.has_output() {
                    check(guest);
                    busy = true;
                }
            }
            self.attach_next(attached_ran);
            if self.guests.iter().all(|guest| guest.life != Life::Running) {
                let count = |life| self.guests.iter().filter(|guest| guest.life == life).count();
                return (count(Life::PoweredOff), count(Life::Faulted));
            }
            if !busy && !self.consoles.interrupt_pending() {
                // SAFETY: the handlers for the doorbell, the timer and the serial port take no lock.
                unsafe { cpu::wait_for_interrupt() };
            }
        }
    }

    /// Moves what was typed to the guest that is attached, and obeys commands.
    fn pass_input(&mut self) -> bool {
        let (any, typed) = self.consoles.receive(|index| &self.guests[index].placed);
        match typed {
            None => {}
            Some(Typed::Line(line)) => self.obey(&line),
            Some(Typed::TooLong) => {
                refuse(format_args!("a command has at most {MAX_COMMAND} bytes"));
            }
        }
        any
    }

    /// Does what an operator asks for, or says why not.
    fn obey(&mut self, line: &[u8]) {
        match commands::parse(line) {
            Ok(Command::Help) => consoles::help(),
            Ok(Command::List) => self.list(),
            Ok(Command::Attach(name)) => {
                let Some(index) = self.named(name) else { return };
                self.consoles.attach(index);
                match self.guests[index].life {
                    Life::Running => answer(format_args!("input goes to guest {name}")),
                    life => answer(format_args!("input goes to guest {name}, which is {life}")),
                }
            }
            Ok(Command::Order(order, name)) => {
                if let Some(index) = self.named(name) {
                    self.order(order, index);
                }
            }
            Err(why) => refuse(format_args!("{why}")),
        }
    }

    /// Carries out an order, and answers it in one line.
    fn order(&mut self, order: Order, index: usize) {
        let name = &self.guests[index].placed.name;
        refuse(format_args!("{} {name}: not possible yet", order.word()));
    }

    /// The guest of this name. If there is none, says which there are.
    fn named(&self, name: &str) -> Option<usize> {
        let found = self.guests.iter().position(|guest| guest.placed.name == name);
        if found.is_none() {
            let names = consoles::list(self.guests.iter().map(|guest| &guest.placed.name));
            let name = name.escape_debug();
            refuse(format_args!("no guest is called \"{name}\"; the guests are: {names}"));
        }
        found
    }

    fn list(&self) {
        let guests = self.guests.iter().enumerate().map(|(index, guest)| {
            let attached = if index == self.consoles.attached() { ", attached" } else { "" };
            format!("{} ({}{attached})", guest.placed.name, guest.life)
        });
        answer(format_args!("guests: {}", consoles::list(guests)));
    }

    fn attached_runs(&self) -> bool {
        self.guests[self.consoles.attached()].life == Life::Running
    }

    /// If the attached guest ran and has stopped, what is typed goes to the next one that runs.
    fn attach_next(&mut self, attached_ran: bool) {
        if !attached_ran || self.attached_runs() {
            return;
        }
        let attached = self.consoles.attached();
        let mut others = (attached + 1..self.guests.len()).chain(0..attached);
        let Some(next) = others.find(|&index| self.guests[index].life == Life::Running) else {
            return;
        };
        let [from, to] = [attached, next].map(|index| &self.guests[index].placed.name);
        info!("input goes to guest {to}: guest {from} has stopped");
        self.consoles.attach(next);
    }
}

fn start(placed: &mut Placed) -> Life {
    info!("guest {}: starting on core {}", placed.name, placed.core.index);
    match placed.start() {
        Ok(()) => Life::Running,
        Err(error) => {
            error!("guest {}: not started: {error}", placed.name);
            Life::Faulted
        }
    }
}

/// Looks whether a guest has stopped, and goes on from there.
fn check(guest: &mut Guest) {
    let Some(finished) = guest.placed.core.take_finished() else {
        if guest.placed.core.state() == State::Dead {
            error!("guest {}: stopped: the hypervisor failed on its core", guest.placed.name);
            guest.life = Life::Faulted;
        }
        return;
    };
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
