//! What a guest's cores and the service core have in common.

use super::activity::{Activity, SharedActivity};
use super::apic::{Address, Identities};
use super::examine::{Answer, Examination, Question};
use super::report::Report;
use super::run::StartError;
use super::startup::Startup;
use super::statistics::{Exits, Statistics};
use super::stop::{Fault, Stop};
use crate::arch::apic::{ApicId, send_fixed};
use crate::arch::{cpu, nmi};
use crate::device::ioapic::{DeliveryMode, Message};
use crate::device::platform::Platform;
use crate::guest::layout;
use crate::memory::GuestPhysical;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use spin::{Mutex, MutexGuard};

/// What a guest's processors are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Run.
    Run = 0,
    /// Stand still in root mode, until there is another order.
    Pause = 1,
    /// Leave the guest for good.
    Stop = 2,
}

/// One virtual processor, as others see it.
#[derive(Debug)]
pub struct Slot {
    /// Its virtual APIC ID.
    pub id: u32,
    /// The physical core that runs it.
    pub core: ApicId,
    /// Whether it runs or waits to be started.
    pub activity: SharedActivity,
    /// Its exits.
    pub statistics: Statistics,
    /// Ticks of the TSC from its first entry to its last exit.
    pub ticks: AtomicU64,
    /// Another processor has sent it an NMI.
    nmi: AtomicBool,
    /// Another processor has kicked its core, which has not looked since.
    kicked: AtomicBool,
    /// It stands still, as ordered.
    held: AtomicBool,
    /// The service core wants to know what it is at.
    looked_at: AtomicBool,
    /// Accesses to MSRs that were denied.
    pub denied: AtomicU64,
    /// Looks that found it in the guest, and those of them that found it halted.
    found: [AtomicU64; 2],
}

/// How often a look has found a processor in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// At whatever.
    pub all: u64,
    /// Halted.
    pub halted: u64,
}

impl Slot {
    fn new(id: u32, core: ApicId, activity: Activity) -> Self {
        Self {
            id,
            core,
            activity: SharedActivity::new(activity),
            statistics: Statistics::new(),
            ticks: AtomicU64::new(0),
            nmi: AtomicBool::new(false),
            kicked: AtomicBool::new(false),
            held: AtomicBool::new(false),
            denied: AtomicU64::new(0),
            looked_at: AtomicBool::new(false),
            found: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Sends it an NMI of the guest's; one that waits to be started does not get it. Whoever is
    /// not the processor itself must [`kick`](Self::kick) it then.
    pub fn post_nmi(&self) {
        if self.activity.now() == Activity::Running {
            self.nmi.store(true, Ordering::SeqCst);
        }
    }

    /// Takes the NMI that was sent to it, if there is one.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::SeqCst)
    }

    /// Interrupts the guest on its core, to see what it is at.
    pub fn look(&self) {
        self.looked_at.store(true, Ordering::SeqCst);
        nmi::kick(self.core);
    }

    /// To be called by its core when an NMI has interrupted the guest: if that was to look at it, notes whether it was
    /// halted.
    pub fn looked_at(&self, halted: impl FnOnce() -> bool) {
        if !self.looked_at.swap(false, Ordering::SeqCst) {
            return;
        }
        let halted = halted();
        let [all, those_halted] = &self.found;
        all.fetch_add(1, Ordering::Relaxed);
        those_halted.fetch_add(halted.into(), Ordering::Relaxed);
    }

    /// How often looks have found it in the guest so far.
    pub fn found(&self) -> Found {
        let [all, halted] = self.found.each_ref().map(|count| count.load(Ordering::Relaxed));
        Found { all, halted }
    }

    /// Makes its core look at what the guest's other processors have told it. Until it has looked, one
    /// kick is enough: several processors that send NMI or INIT without end would otherwise keep it in the
    /// NMI handler, perhaps with a lock that the service core waits for.
    pub fn kick(&self) {
        if self.begin_kick() {
            nmi::kick(self.core);
        }
    }

    /// Whether the core has looked since it was kicked last.
    fn begin_kick(&self) -> bool {
        !self.kicked.swap(true, Ordering::SeqCst)
    }
}

/// What is wanted of a virtual processor, once it has stood still as long as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Go on.
    Go,
    /// Reset itself and start in real mode at this page.
    Start(u8),
    /// Answer this, and look again.
    Answer(Question),
    /// Leave the guest.
    Leave,
}

/// One guest, as far as it concerns more than one core.
pub struct Shared {
    /// Its name, from the manifest.
    pub name: String,
    /// Its processors, by virtual APIC ID.
    pub processors: Vec<Arc<Slot>>,
    /// Its devices. Held for the length of one access; never while another lock is held.
    platform: Mutex<Platform>,
    /// What its processors answer to.
    pub identities: Identities,
    /// What its start has cost.
    pub startup: Startup,
    /// What the service core wants to know of it while it stands still.
    examination: Examination,
    /// Wakes the service core.
    pub doorbell: fn(),
    order: AtomicU8,
    /// One of its cores has died, perhaps with the devices locked.
    abandoned: AtomicBool,
    /// Why it ended: the first reason.
    end: Mutex<Option<Result<Stop, StartError>>>,
    /// A fault puts it into quarantine instead of ending it.
    keeps_faults: bool,
    /// The first of its faults that the service core has not taken note of.
    kept: Mutex<Option<(Fault, Box<Report>)>>,
}

impl Shared {
    /// A guest on `cores`, with devices as after power-on. Its first processor runs, the others
    /// wait to be started.
    pub fn new(
        name: String,
        cores: impl IntoIterator<Item = ApicId>,
        doorbell: fn(),
        keeps_faults: bool,
    ) -> Self {
        let activities =
            core::iter::once(Activity::Running).chain(core::iter::repeat(Activity::Waiting));
        let slots = (0..).zip(cores).zip(activities);
        let processors: Vec<_> =
            slots.map(|((id, core), activity)| Arc::new(Slot::new(id, core, activity))).collect();
        Self {
            name,
            identities: Identities::new(processors.len() as u32),
            processors,
            platform: Mutex::new(Platform::new(GuestPhysical::new(layout::IOAPIC))),
            startup: Startup::default(),
            examination: Examination::default(),
            doorbell,
            order: AtomicU8::new(Order::Run as u8),
            abandoned: AtomicBool::new(false),
            end: Mutex::new(None),
            keeps_faults,
            kept: Mutex::new(None),
        }
    }

    /// How many processors the guest has.
    pub fn count(&self) -> u32 {
        self.processors.len() as u32
    }

    /// What the processors are to do.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Run,
            1 => Order::Pause,
            _ => Order::Stop,
        }
    }

    /// Lets the processors stand still, or run again. A guest that has been told to stop stays so.
    pub fn pause(&self, pause: bool) {
        let order = if pause { Order::Pause } else { Order::Run } as u8;
        let stop = Order::Stop as u8;
        let change = |now: u8| (now != stop).then_some(order);
        let _ = self.order.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
        self.kick_all();
    }

    /// Whether all processors stand still.
    pub fn is_held(&self) -> bool {
        self.processors.iter().all(|slot| slot.held.load(Ordering::SeqCst))
    }

    /// Ends the guest: its processors leave it as soon as they hear of it. The first reason counts.
    pub fn end(&self, why: Result<Stop, StartError>) {
        self.end.lock().get_or_insert(why);
        self.order.store(Order::Stop as u8, Ordering::SeqCst);
        self.kick_all();
    }

    /// Whether it has been told to end.
    pub fn is_ending(&self) -> bool {
        self.order() == Order::Stop
    }

    /// A fault of one of its processors: if that is to be looked into, all of them stand still as soon as they hear of it,
    /// and the service core does the rest. Gives the fault back if it is to end the guest.
    pub fn keep(&self, fault: Fault, report: Box<Report>) -> Option<(Fault, Box<Report>)> {
        if !self.keeps_faults || self.is_ending() {
            return Some((fault, report));
        }
        self.kept.lock().get_or_insert((fault, report));
        self.pause(true);
        (self.doorbell)();
        None
    }

    /// The fault that was [kept](Self::keep) since it was asked for last.
    pub fn take_kept(&self) -> Option<(Fault, Box<Report>)> {
        self.kept.lock().take()
    }

    /// Why it ended, if it has. To be asked once, when its processors have left.
    pub fn take_end(&self) -> Option<Result<Stop, StartError>> {
        self.end.lock().take()
    }

    /// Notes that one of its cores has died: nobody waits for what it may hold.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    fn kick_all(&self) {
        // Each time: an order must not depend on what the guest's own cores have got round to.
        for slot in &self.processors {
            nmi::kick(slot.core);
        }
    }

    /// To be called by the core of processor `id`, in root mode: stands still while that is
    /// ordered or the processor waits to be started, and says what is wanted then.
    pub fn attend(&self, slot: &Slot) -> Wanted {
        loop {
            // Before the look: what is told from now on is kicked for again.
            slot.kicked.store(false, Ordering::SeqCst);
            match self.order() {
                Order::Stop => return Wanted::Leave,
                Order::Pause => {
                    slot.held.store(true, Ordering::SeqCst);
                    if let Some(question) = self.examination.question(slot.id) {
                        return Wanted::Answer(question);
                    }
                    nmi::wait();
                }
                Order::Run => {
                    slot.held.store(false, Ordering::SeqCst);
                    // Whoever has ordered a pause since, and found it still held, is right.
                    if self.order() != Order::Run {
                        continue;
                    }
                    match slot.activity.now() {
                        Activity::Waiting => nmi::wait(),
                        Activity::Starting(page) => return Wanted::Start(page),
                        Activity::Running => return Wanted::Go,
                    }
                }
            }
        }
    }

    /// Asks one of its processors, which must stand still. `None` without such a processor, or if none of its cores
    /// answers within so many ticks of the TSC.
    pub fn examine(&self, id: u32, question: Question, limit: u64) -> Option<Answer> {
        let slot = self.processors.get(id as usize)?;
        self.examination.ask(id, question);
        nmi::kick(slot.core);
        let start = cpu::rdtsc();
        while cpu::rdtsc().wrapping_sub(start) <= limit {
            if let Some(answer) = self.examination.take() {
                return Some(answer);
            }
            cpu::pause();
        }
        self.examination.withdraw();
        None
    }

    /// What a processor has found for the service core's question.
    pub fn answer(&self, processor: u32, question: Question, answer: Answer) {
        self.examination.answer(processor, question, answer);
    }

    /// The devices, if nobody else has them now.
    #[inline(always)]
    pub fn try_platform(&self) -> Option<MutexGuard<'_, Platform>> {
        self.platform.try_lock()
    }

    /// The devices. `None` when a core has died, perhaps with them locked.
    pub fn platform(&self) -> Option<MutexGuard<'_, Platform>> {
        loop {
            if let Some(platform) = self.platform.try_lock() {
                return Some(platform);
            }
            if self.abandoned.load(Ordering::SeqCst) {
                return None;
            }
            cpu::pause();
        }
    }

    /// Sends an interrupt with the guest's own vector to one of its processors: a real IPI, which
    /// arrives without an exit. One that waits to be started does not get it.
    ///
    /// Nobody else gets it either: a core is given to another guest only after all of this one's
    /// have left it, and what is still pending there is taken before.
    pub fn interrupt(&self, id: u32, vector: u8) {
        if let Some(core) = self.reached(id) {
            send_fixed(core, vector);
        }
    }

    /// The core of a processor that gets interrupts now.
    #[inline(always)]
    pub fn reached(&self, id: u32) -> Option<ApicId> {
        let slot = self.processors.get(id as usize)?;
        let runs = slot.activity.now() == Activity::Running && self.order() != Order::Stop;
        runs.then_some(slot.core)
    }

    /// Sends a device's interrupt, to the guest's processors alone, whatever the guest has
    /// written into the IOAPIC.
    pub fn deliver(&self, message: &Message) {
        let to = Address::Bits8(message.destination);
        let targets = match (self.identities.targets(to, message.logical), message.delivery) {
            (targets, DeliveryMode::Fixed) => targets,
            (targets, DeliveryMode::LowestPriority) => targets.lowest(),
        };
        for id in targets.iter() {
            self.interrupt(id, message.vector);
        }
    }

    /// Exits of all processors so far.
    pub fn exits(&self) -> Exits {
        let mut sum = Exits::none();
        for slot in &self.processors {
            slot.statistics.add_to(&mut sum);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn guest(cores: u32) -> Shared {
        Shared::new("one".to_string(), (1..=cores).map(ApicId), || {}, false)
    }

    #[test]
    fn the_first_processor_runs_and_the_others_wait() {
        let guest = guest(3);
        let now = |id: usize| guest.processors[id].activity.now();
        assert_eq!(
            [now(0), now(1), now(2)],
            [Activity::Running, Activity::Waiting, Activity::Waiting]
        );
        assert_eq!(guest.attend(&guest.processors[0]), Wanted::Go);
        assert!(guest.processors[1].activity.startup(7));
        assert_eq!(guest.attend(&guest.processors[1]), Wanted::Start(7));
    }

    #[test]
    fn an_nmi_to_a_processor_that_waits_is_lost() {
        let guest = guest(2);
        for slot in &guest.processors {
            slot.post_nmi();
        }
        assert!(guest.processors[0].take_nmi());
        assert!(!guest.processors[0].take_nmi(), "once");
        assert!(!guest.processors[1].take_nmi());
    }

    #[test]
    fn a_core_is_kicked_once_until_it_looks() {
        let guest = guest(1);
        let slot = &guest.processors[0];
        assert!(slot.begin_kick());
        assert!(!slot.begin_kick(), "it has not looked yet");
        assert_eq!(guest.attend(slot), Wanted::Go);
        assert!(slot.begin_kick());
    }

    #[test]
    fn a_guest_whose_core_died_with_its_devices_is_not_waited_for() {
        let guest = guest(2);
        let held = guest.platform().unwrap();
        guest.abandon();
        assert!(guest.platform().is_none());
        drop(held);
        assert!(guest.platform().is_some());
    }
}
