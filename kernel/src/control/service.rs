//! The service core's loop: consoles, the operator's commands, and guests that stop.

use super::access::Access;
use super::answers::{self, answer, refuse};
use super::audit;
use super::commands::{self, Command, Form, MAX_COMMAND, Manner, Order};
use super::consoles::{self, Consoles, Typed};
use super::cores;
use super::costs;
use super::define::Define;
use super::dump::Dump;
use super::estate::Estate;
use super::guest::{Boot, Guest, define};
use super::inventory;
use super::json;
use super::listing::{Listing, Rest, Step, What};
use super::log as console;
use super::panic;
use super::plan::Definition;
use super::port;
use super::recall::Recall;
use super::session::{Channel, Session, Sessions};
use super::top::Top;
use crate::arch::power::SoftOff;
use crate::arch::{apic, cpu, interrupts};
use crate::guest::examine::Question;
use crate::guest::statistics::Grouped;
use crate::memory::{GuestPhysical, KernelHeap};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use bulkhead_life::Life;
use bulkhead_manifest::Size;
use bulkhead_operators::Operator;
use bulkhead_plan::footprint::KIB;
use core::fmt;
use log::info;

/// What the service core serves.
pub struct Service {
    guests: Vec<Guest>,
    estate: Estate,
    pub(super) consoles: Consoles,
    sessions: Sessions,
    pub(super) access: Access<{ Channel::ALL.len() }>,
    heap: &'static KernelHeap,
    /// Ticks of the TSC in a second.
    tsc_hz: u64,
    /// The operator wants the machine switched off.
    ending: bool,
}

impl Service {
    /// Starts the guests that start at boot. `serial_interrupts` says whether the serial port interrupts.
    pub fn new(
        definitions: Vec<Definition>,
        estate: Estate,
        operators: Vec<Operator>,
        boot: Boot,
        heap: &'static KernelHeap,
        serial_interrupts: bool,
        tsc_hz: u64,
    ) -> Self {
        let consoles = Consoles::new(definitions.len(), serial_interrupts);
        let mut guests: Vec<_> = definitions.into_iter().map(Guest::new).collect();
        guests.iter_mut().for_each(|guest| guest.boot(boot));
        let sessions = Sessions::default();
        let access = Access::new(operators);
        let mut service =
            Self { guests, estate, consoles, sessions, access, heap, tsc_hz, ending: false };
        // The first may not have started.
        service.attach_next(true);
        service
    }

    /// Serves until every guest has stopped, or never as long as one has not been started; returns how many ended
    /// as they should, the operator's stops among them, and how many faulted.
    pub fn run(&mut self) -> (usize, usize) {
        loop {
            let mut busy = self.consoles.transmit(&self.guests);
            self.consoles.report_losses(&self.guests);
            busy |= self.pass_input();
            self.sign_out_idle();
            busy |= self.serve_control();
            if self.sessions[Channel::Console].rest.is_some() {
                busy |= self.go_on(Channel::Console);
            }
            let attached_was_active = self.attached_is_active();
            for guest in &mut self.guests {
                guest.look_after();
                // One that was paused, or put into quarantine, after it had been asked to power itself off.
                let stays = matches!(guest.life(), Life::Paused | Life::Quarantined);
                if self.ending && stays && !guest.shared().is_ending() {
                    let _ = guest.stop(Manner::Now);
                }
                // What it wrote last comes before what is said of its end.
                if guest.has_ended() && !consoles::has_output(guest) {
                    guest.conclude(&mut self.estate);
                    busy = true;
                }
            }
            self.attach_next(attached_was_active);
            if self.is_over() {
                let faulted = self.guests.iter().filter(|guest| guest.life() == Life::Faulted);
                let faulted = faulted.count();
                return (self.guests.len() - faulted, faulted);
            }
            if !busy && !self.consoles.interrupt_pending() && !port::interrupt_pending() {
                // SAFETY: the handlers for the doorbell, the timer and the serial ports take no lock.
                unsafe { cpu::wait_for_interrupt() };
            }
        }
    }

    fn is_over(&self) -> bool {
        let waited_for = |guest: &Guest| {
            let startable = matches!(guest.life(), Life::Undefined | Life::Defined)
                && guest.may_run()
                && !self.ending;
            guest.life().is_alive() || startable
        };
        !self.guests.iter().any(waited_for)
    }

    /// Moves what was typed to the guest that is attached, and obeys commands.
    fn pass_input(&mut self) -> bool {
        let (any, typed) = self.consoles.receive(&self.guests);
        match typed {
            None => {}
            Some(Typed::Line(line)) => self.obey(Channel::Console, &line),
            Some(Typed::Edited(line)) => {
                self.obey(Channel::Console, &line);
                self.consoles.show_line();
            }
            Some(Typed::TooLong) => self.refuse_too_long(Channel::Console),
        }
        any
    }

    /// Moves the control protocol's bytes, and goes on with its answer, or with its next command when that is whole.
    fn serve_control(&mut self) -> bool {
        let busy = port::exchange();
        if !answers::wanted(Channel::Control) {
            return busy;
        }
        // Nothing of the last client's is the next one's, an answer that is not whole neither.
        if port::greet() {
            self.sessions[Channel::Control] = Session::default();
            self.leave(Channel::Control);
            return true;
        }
        if self.sessions[Channel::Control].rest.is_some() {
            return self.go_on(Channel::Control) || busy;
        }
        let Some(line) = port::request() else { return busy };
        self.obey(Channel::Control, &line);
        true
    }

    fn refuse_too_long(&mut self, channel: Channel) {
        audit::command(self.who(channel), "(too long)".into());
        answers::begin(channel);
        refuse(format_args!("a command has at most {MAX_COMMAND} bytes"));
    }

    /// The one way of a command, wherever it comes from: it is noted, done if who is there may do that, or refused, and
    /// answered on its channel.
    fn obey(&mut self, channel: Channel, line: &[u8]) {
        let kept = commands::without_password(line, |name| self.access.is_operator(name));
        audit::command(self.who(channel), kept);
        // Whoever asks for something else wants no more of it.
        self.sessions[channel].rest = None;
        answers::begin(channel);
        match commands::parse(line) {
            Ok(command) => match self.may(channel, &command) {
                Ok(()) => self.execute(channel, command),
                Err(denied) => refuse(format_args!("{denied}")),
            },
            Err(why) => refuse(format_args!("{why}")),
        }
        self.go_on(channel);
    }

    /// Says more of an answer, as far as whoever reads it can keep up. Says whether anything was said.
    fn go_on(&mut self, channel: Channel) -> bool {
        answers::begin(channel);
        let mut said = false;
        while let Some(rest) = &mut self.sessions[channel].rest {
            if !answers::wanted(channel) {
                return said;
            }
            match rest.step(&self.guests, self.consoles.attached()) {
                Step::More => {
                    said = true;
                    self.is_busy(channel);
                }
                // Others are served meanwhile.
                Step::Soon => return true,
                Step::Later => return said,
                Step::Done => self.sessions[channel].rest = None,
            }
        }
        answers::end();
        true
    }

    /// Does what an operator asks for, or says why not.
    fn execute(&mut self, channel: Channel, command: Command<'_>) {
        match command {
            Command::Help => consoles::help(),
            Command::Info(name, form) => {
                let say = if form == Form::Json { json::info } else { inventory::info };
                if let Some(index) = self.named(name) {
                    say(&self.guests[index]);
                }
            }
            Command::Exits(name, form) => {
                let say = if form == Form::Json { json::exits } else { costs::exits };
                if let Some(index) = self.named(name) {
                    say(&self.guests[index]);
                }
            }
            Command::List(form) => self.list(channel, What::List, form),
            Command::Inventory(form) => self.list(channel, What::Inventory, form),
            Command::Memory(form) => self.memory(form),
            Command::Log => self.sessions[channel].rest = Some(Rest::Recall(Recall::up_to_now())),
            Command::Dump(name) => self.dump(channel, name),
            Command::Plan(form) => self.say_plan(form),
            Command::Top(form) => {
                let top = Top::new(form, &self.guests, self.tsc_hz);
                self.sessions[channel].rest = Some(Rest::Top(top));
            }
            Command::Define(define) => self.define(define),
            Command::Audit(form) => {
                let (records, digest) = audit::say();
                match form {
                    Form::Table => answer(format_args!(
                        "{records} records; the digest of the last is {digest}"
                    )),
                    Form::Json => json::audit(records, digest),
                }
            }
            Command::Examine(name, at) => {
                self.examine(name, 0, Question::Memory(GuestPhysical::new(at)));
            }
            Command::Registers(name, processor) => {
                self.examine(name, processor, Question::Registers);
            }
            Command::SignIn(name, password) => self.sign_in(channel, name, password),
            Command::SignOut => self.sign_out(channel),
            Command::Who(form) => self.say_who(form),
            Command::PowerOff(manner) => self.power_off(manner),
            Command::Attach(name) => {
                let Some(index) = self.named(name) else { return };
                self.consoles.attach(index);
                if channel != Channel::Console {
                    // Whoever types should know.
                    info!("input goes to guest {name}: told so by {}", channel.who());
                }
                match self.guests[index].life() {
                    Life::Running => answer(format_args!("input goes to guest {name}")),
                    life => answer(format_args!("input goes to guest {name}, which is {life}")),
                }
            }
            Command::Order(order, name) => {
                if let Some(index) = self.named(name) {
                    self.order(order, index);
                }
            }
        }
    }

    /// Lets something be said of each guest.
    fn list(&mut self, channel: Channel, what: What, form: Form) {
        let listing = Listing::new(what, form, &self.guests);
        self.sessions[channel].rest = Some(Rest::Listing(listing));
    }

    /// Carries out an order, and answers it.
    fn order(&mut self, order: Order, index: usize) {
        if self.ending && matches!(order, Order::Start | Order::Restart(_)) {
            return refuse(format_args!("no guest is started: the machine is being switched off"));
        }
        let guest = &mut self.guests[index];
        let done = match order {
            Order::Pause => guest.pause().map(|ticks| format!("is paused{}", Frozen(ticks))),
            Order::Resume => guest.resume().map(|()| "goes on".into()),
            Order::Start => guest.start().map(|()| "is started".into()),
            Order::Stop(manner) => guest.stop(manner).map(|stopping| stopping.to_string()),
            Order::Restart(manner) => guest.restart(manner).map(|stopping| match stopping {
                Some(stopping) => format!("{stopping}; it is started again then"),
                None => "is started".into(),
            }),
            Order::Quarantine => {
                guest.quarantine().map(|ticks| format!("is quarantined{}", Frozen(ticks)))
            }
            Order::Destroy => guest.destroy(&mut self.estate).map(|done| match done {
                true => "is destroyed".into(),
                false => "is told to stop, and is destroyed then".into(),
            }),
            Order::Release => guest.release().map(|()| "is paused".into()),
        };
        let name = guest.name();
        match done {
            Ok(done) => answer(format_args!("guest {name} {done}")),
            Err(why) => refuse(format_args!("cannot {} guest {name}: it {why}", order.word())),
        }
    }

    fn define(&mut self, Define { name, cores, memory }: Define<'_>) {
        let Some(index) = self.named(name) else { return };
        match define(&mut self.guests, index, &mut self.estate, (cores, memory)) {
            Ok(place) => {
                let numbers = consoles::list(place.cores.iter().map(|core| core.index));
                let plural = if place.cores.len() == 1 { "" } else { "s" };
                let (memory, at) = (Size(place.memory), place.at.start);
                answer(format_args!(
                    "guest {name} is defined: core{plural} {numbers}, {memory} at {at:#x}"
                ));
            }
            Err(why) => refuse(format_args!("cannot define guest {name}: {why}")),
        }
    }

    fn dump(&mut self, channel: Channel, name: &str) {
        let Some(index) = self.named(name) else { return };
        if channel == Channel::Console {
            return refuse(format_args!(
                "a dump is for a program: cargo xtask ctl --save FILE -- dump {name}"
            ));
        }
        // Its first line is the guest's memory, which the audit trail must not have.
        audit::result(false, format_args!("the dump of guest {name} begins"));
        self.sessions[channel].rest =
            Some(Rest::Dump(Dump::new(index, &self.guests[index]).into()));
    }

    /// The plan as it is now.
    fn say_plan(&self, form: Form) {
        let plan = self.estate.plan(self.guests.iter().map(Guest::definition));
        let Some(plan) = plan else { return refuse(format_args!("there is no core")) };
        if form == Form::Json {
            return json::plan(&plan);
        }
        for line in plan.to_string().lines() {
            answer(format_args!("{line}"));
        }
    }

    fn examine(&self, name: &str, processor: u32, question: Question) {
        let Some(index) = self.named(name) else { return };
        match self.guests[index].examine(processor, question) {
            Ok(found) => inventory::found(name, question, &found),
            Err(why) => refuse(format_args!("cannot examine guest {name}: it {why}")),
        }
    }

    /// The guest of this name. If there is none, says which there are.
    fn named(&self, name: &str) -> Option<usize> {
        let found = self.guests.iter().position(|guest| guest.name() == name);
        if found.is_none() {
            let names = consoles::list(self.guests.iter().map(Guest::name));
            let name = name.escape_debug();
            refuse(format_args!("no guest is called \"{name}\"; the guests are: {names}"));
        }
        found
    }

    fn memory(&self, form: Form) {
        let heap = self.heap.usage();
        let kib = |bytes: usize| Grouped((bytes as u64).div_ceil(KIB));
        let (in_use, frames) = cores::tables().lock().usage();
        if form == Form::Json {
            return json::memory((heap.now, heap.size), (in_use, frames));
        }
        answer(format_args!(
            "{} of {} KiB of heap and {} of {} frames for tables and stacks are in use",
            kib(heap.now),
            kib(heap.size),
            Grouped(in_use),
            Grouped(frames)
        ));
    }

    fn power_off(&mut self, manner: Manner) {
        self.ending = true;
        answer(format_args!("the machine is switched off when all guests have stopped"));
        for guest in &mut self.guests {
            // One that was asked has its time; only `stop` itself takes it away. One that has ended already refuses it.
            if manner == Manner::Now || !guest.is_asked_to_stop() {
                let _ = guest.stop(manner);
            }
        }
    }

    fn attached_is_active(&self) -> bool {
        self.guests[self.consoles.attached()].life().is_active()
    }

    /// If the attached guest was active and has stopped, what is typed goes to the next one that is.
    fn attach_next(&mut self, attached_was_active: bool) {
        if !attached_was_active || self.attached_is_active() {
            return;
        }
        let attached = self.consoles.attached();
        let mut others = (attached + 1..self.guests.len()).chain(0..attached);
        let Some(next) = others.find(|&index| self.guests[index].life().is_active()) else {
            return;
        };
        let [from, to] = [attached, next].map(|index| self.guests[index].name());
        info!("input goes to guest {to}: guest {from} has stopped");
        self.consoles.attach(next);
    }
}

/// How long it took until a guest stood still.
struct Frozen(Option<u64>);

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ticks) => write!(f, ", after {ticks} ticks"),
            None => f.write_str(": it is being loaded, and stands still then"),
        }
    }
}

/// Says how it ended, and switches the machine off.
pub fn finish(
    powered_off: usize,
    faulted: usize,
    heap: &KernelHeap,
    soft_off: Option<SoftOff>,
) -> ! {
    panic::wait_for_reports();
    audit::end();
    let heap = heap.usage();
    let [most, size] = [heap.most, heap.size].map(|bytes| Grouped((bytes as u64).div_ceil(KIB)));
    info!("memory: at most {most} KiB of the heap's {size} KiB were in use");
    let strays = interrupts::unexpected();
    if strays > 0 {
        info!("interrupts that nobody expected: {strays}");
    }
    let unusable = port::unusable_frames();
    if unusable > 0 {
        info!("control protocol: {unusable} frames could not be used");
    }
    port::flush();
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
