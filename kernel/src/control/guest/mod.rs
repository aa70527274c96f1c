//! A guest's life: started on its cores, paused, stopped, started again.

mod ending;
mod estate;
mod orders;
mod stopping;
mod suspicion;

pub use estate::define;
pub use orders::Refusal;

use self::suspicion::Denied;
use super::audit;
use super::commands::Manner;
use super::cores::{Core, State};
use super::plan::{Definition, Place};
use super::restarts::Restarts;
use crate::arch::cpu;
use crate::device::platform::Platform;
use crate::guest::run::Partition;
use crate::guest::shared::Shared;
use crate::guest::startup::Started;
use crate::guest::statistics::Grouped;
use alloc::sync::Arc;
use bulkhead_life::{Ended, Event, Life};
use bulkhead_manifest::{OnExpiry, Start, Tenure};
use bulkhead_plan::footprint::{KIB, Own};
use core::fmt;
use core::sync::atomic::AtomicU32;
use log::{error, info, warn};
use spin::{Mutex, MutexGuard, Once};

/// A guest does not start.
#[derive(Debug)]
enum CannotStart {
    /// Its memory is not there.
    NoMemory,
    /// One of its cores is not waiting for work.
    Core(usize, State),
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("its memory is gone"),
            Self::Core(index, state) => write!(f, "its core {index} is {state:?}"),
        }
    }
}

/// A guest, from its first start to its end.
pub struct Guest {
    definition: Definition,
    run: Arc<Partition>,
    life: Life,
    restarts: Restarts,
    /// The TSC when the present run was started, or the last.
    started: u64,
    /// While it waits: the TSC at which it starts again. While it is stopping: at which it is stopped, if it still runs.
    due: u64,
    /// What the operator wants to follow the present run.
    wanted: Wanted,
    /// What is to be said of its first start, once it has been.
    boot: Option<Boot>,
    /// It has been said that it has expired.
    expiry_said: bool,
    /// The denied accesses of the present run, or the last.
    denied: Denied,
    /// How often it was let go, by a start or after a pause.
    moves: u64,
}

/// What follows a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// What the guest's policy says of how it ended.
    Policy,
    /// Nothing, however it ended.
    Stop,
    /// It loses its place, however it ended.
    Destroy,
    /// Another run, however it ended.
    Restart,
}

/// What has been before the guests start, in ticks of the TSC.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// The TSC at the hypervisor's entry.
    pub entry: u64,
    /// Checking the digests of all guests' files.
    pub digests: u64,
}

impl Guest {
    /// A guest in its place, not started.
    pub fn new(definition: Definition) -> Self {
        let Own { heap, tables, ept } = definition.own();
        info!(
            "memory: guest {}: {} KiB, and {} KiB of EPT",
            definition.name,
            Grouped((heap + tables).div_ceil(KIB)),
            Grouped(ept.div_ceil(KIB))
        );
        Self {
            run: Arc::new(partition(&definition)),
            definition,
            life: Life::Defined,
            restarts: Restarts::default(),
            started: 0,
            due: 0,
            wanted: Wanted::Policy,
            boot: None,
            expiry_said: false,
            denied: Denied::default(),
            moves: 0,
        }
    }

    /// Starts it as the machine boots, if the manifest wants that, and it is still needed.
    pub fn boot(&mut self, boot: Boot) {
        self.report_expiry();
        if !self.may_run() {
            error!("guest {}: not started: {}", self.name(), Refusal::Expired);
        } else if self.definition.start == Start::AtBoot {
            self.boot = Some(boot);
            self.launch();
        } else {
            info!("guest {}: is started by hand: start {}", self.name(), self.name());
        }
    }

    /// Where it goes from here.
    ///
    /// # Errors
    /// If it cannot go there.
    fn go(&mut self, event: Event) -> Result<(), Refusal> {
        self.life = self.life.after(event).ok_or(Refusal::Life(self.life))?;
        audit::record("guest", format_args!("{} is {}", self.definition.name, self.life));
        Ok(())
    }

    /// Whether the last day on which it is needed has passed.
    pub fn has_expired(&self) -> bool {
        self.definition.tenure.expires.is_past(self.definition.clock.now().unix_seconds)
    }

    /// Whether it may run: no longer if it has expired and is to be stopped then.
    pub fn may_run(&self) -> bool {
        self.definition.tenure.on_expiry != OnExpiry::Stop || !self.has_expired()
    }

    /// Says once that it has expired.
    fn report_expiry(&mut self) {
        if !self.expiry_said && self.has_expired() {
            self.expiry_said = true;
            let Tenure { owner, expires, .. } = &self.definition.tenure;
            warn!("guest {}: has expired: {owner} needed it until {expires}", self.name());
            audit::record("guest", format_args!("{} has expired", self.name()));
        }
    }

    /// To be called now and then: sees that it has been entered, starts it again when it is time, and stops it when its day
    /// has passed.
    pub fn look_after(&mut self) {
        self.report_expiry();
        self.look_for_suspicion();
        // What is in quarantine is kept for whoever looks into it.
        let stays =
            self.life == Life::Quarantined || matches!(self.wanted, Wanted::Stop | Wanted::Destroy);
        if self.expiry_said && self.life.is_alive() && !stays && !self.may_run() {
            info!("guest {}: is stopped: it has expired", self.name());
            // One that is alive can be stopped.
            let _ = self.stop(Manner::Ask);
        }
        match self.life {
            Life::Starting => self.look_for_its_start(),
            Life::Stopping => self.lose_patience(),
            Life::Waiting if reached(self.due) => self.launch(),
            _ => {}
        }
    }

    fn look_for_its_start(&mut self) {
        let Some(Started { scrubbing, copying, at }) = self.shared().startup.started() else {
            return;
        };
        // It is starting, which is followed by this.
        let _ = self.go(Event::Entered);
        let (scrubbing, copying) = (Grouped(scrubbing), Grouped(copying));
        let prepared = format_args!("{scrubbing} for scrubbing, {copying} for copying its image");
        let name = &self.definition.name;
        match self.boot.take() {
            Some(Boot { entry, digests }) => info!(
                "guest {name}: first instruction {} ticks after the hypervisor's entry, of which {} for digests, {prepared}",
                Grouped(at.wrapping_sub(entry)),
                Grouped(digests)
            ),
            None => info!(
                "guest {name}: first instruction {} ticks after its start, of which {prepared}",
                Grouped(at.wrapping_sub(self.started))
            ),
        }
    }

    /// Its name, from the manifest.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Another number whenever it may have moved: as long as it is the same, so is the memory of a guest that stands still.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// What it is, and where.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Bytes of its memory; `None` while it has no place.
    pub fn memory(&self) -> Option<u64> {
        self.definition.place.as_ref().map(|place| place.memory)
    }

    /// Seconds since the present run was started; `None` without one.
    pub fn uptime(&self) -> Option<u64> {
        self.life.is_active().then(|| self.seconds_of_run())
    }

    fn seconds_of_run(&self) -> u64 {
        self.seconds_since(self.started)
    }

    fn seconds_since(&self, tsc: u64) -> u64 {
        let ticks = cpu::rdtsc().wrapping_sub(tsc);
        ticks.checked_div(self.definition.clock.rates.tsc_hz).unwrap_or(0)
    }

    fn seconds_until(&self, tsc: u64) -> u64 {
        let ticks = if reached(tsc) { 0 } else { tsc.wrapping_sub(cpu::rdtsc()) };
        ticks.div_ceil(self.definition.clock.rates.tsc_hz.max(1))
    }

    /// Its cores; none while it has no place.
    pub fn cores(&self) -> &[&'static Core] {
        self.definition.place.as_ref().map_or(&[], |place| &place.cores)
    }

    /// What its cores share with the service core in the present run, or the last.
    pub fn shared(&self) -> &Shared {
        &self.run.shared
    }

    /// Its devices, unless one of its cores has died, perhaps with them locked. It may die while they are waited for.
    pub fn platform(&self) -> Option<MutexGuard<'_, Platform>> {
        loop {
            let dead = self.dead_core().is_some();
            if dead {
                self.shared().abandon();
            }
            // Asked for after the look: what a core that is dead by then has locked stays so.
            if let Some(platform) = self.shared().try_platform() {
                return Some(platform);
            }
            if dead {
                return None;
            }
            cpu::pause();
        }
    }

    fn dead_core(&self) -> Option<&'static Core> {
        self.cores().iter().copied().find(|core| core.state() == State::Dead)
    }

    /// Starts a run. It must not have one.
    fn launch(&mut self) {
        if self.life != Life::Defined {
            self.run = Arc::new(partition(&self.definition));
        }
        if self.go(Event::Start).is_err() {
            return;
        }
        info!("guest {}: starting on {}", self.name(), Cores(self.cores()));
        self.started = cpu::rdtsc();
        self.moves = self.moves.wrapping_add(1);
        self.denied = Denied::default();
        self.wanted = Wanted::Policy;
        if let Err(error) = self.start_cores() {
            error!("guest {}: not started: {error}", self.name());
            // A guest that is starting may end.
            let _ = self.go(Event::Ended(Ended::Faulted));
        }
    }

    fn start_cores(&mut self) -> Result<(), CannotStart> {
        let place = self.definition.place.as_mut().ok_or(CannotStart::NoMemory)?;
        let Place { cores, frames, window, .. } = place;
        if let Some(core) = cores.iter().find(|core| core.state() != State::Parked) {
            return Err(CannotStart::Core(core.index, core.state()));
        }
        let frames = frames.take().ok_or(CannotStart::NoMemory)?;
        cores.iter().for_each(|core| core.open(window));
        *self.run.frames.lock() = Some(frames);
        for (id, core) in (0..).zip(cores) {
            // Only this core starts others, and a parked core does nothing by itself, but it may die: then
            // `has_ended` finds it, and ends what the others have begun.
            let _ = core.start(self.run.clone(), id);
        }
        Ok(())
    }
}

/// Whether the TSC has come to this value, which is less than half its range away.
pub fn reached(tsc: u64) -> bool {
    cpu::rdtsc().wrapping_sub(tsc) <= u64::MAX / 2
}

/// Cores, for a message.
struct Cores<'a>(&'a [&'static Core]);

impl fmt::Display for Cores<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "core " } else { "cores " })?;
        for (position, core) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{}", core.index)?;
        }
        Ok(())
    }
}

/// A run of a guest, with devices as after power-on.
fn partition(definition: &Definition) -> Partition {
    let cores = definition.place.iter().flat_map(|place| &place.cores);
    let count = cores.clone().count();
    let cores = cores.map(|core| core.apic);
    Partition {
        shared: Arc::new(Shared::new(
            definition.name.clone(),
            cores,
            super::cores::ring_service_core,
            definition.suspicion.fault,
        )),
        kind: definition.kind,
        kernel: definition.kernel,
        initrd: definition.initrd,
        command_line: definition.command_line.clone(),
        vpid: definition.vpid,
        clock: definition.clock,
        frames: Mutex::new(None),
        prepared: Once::new(),
        held: Mutex::new(None),
        inside: AtomicU32::new(u32::try_from(count).unwrap_or(u32::MAX)),
    }
}
