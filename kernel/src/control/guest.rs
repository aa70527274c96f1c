//! A guest's life: started on its cores, paused, stopped, started again.

use super::cores::{Core, State};
use super::plan::Placed;
use crate::arch::cpu;
use crate::device::platform::Platform;
use crate::guest::run::Partition;
use crate::guest::shared::Shared;
use crate::guest::startup::Started;
use crate::guest::statistics::{Exits, Grouped};
use crate::guest::stop::{Fault, Stop};
use crate::vmx::exit::ExitReason;
use alloc::sync::Arc;
use bulkhead_plan::footprint::{KIB, Own};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use log::{error, info};
use spin::{Mutex, MutexGuard, Once};

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its processors run, or are about to.
    Running,
    /// Its processors stand still.
    Paused,
    /// It has powered itself off, or asked for a reset that its policy does not grant.
    PoweredOff,
    /// The operator has stopped it.
    Stopped,
    /// It was stopped for a fault, or could not be started.
    Faulted,
}

impl Life {
    /// Whether its cores are in use.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::PoweredOff => "powered off",
            Self::Stopped => "stopped",
            Self::Faulted => "faulted",
        })
    }
}

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

/// A guest that restarts more often than so many times in so many seconds is stopped: the log of
/// it would take the service core from the others.
const MOST_RESTARTS: u32 = 10;
const RESTART_PERIOD: u64 = 60;
/// Processors that have been told to stand still have done so within a hundredth of a second.
const PAUSES_IN_A_SECOND: u64 = 100;

/// A guest, from its first start to its end.
pub struct Guest {
    placed: Placed,
    run: Arc<Partition>,
    life: Life,
    /// Restarts in the current period, and the second in which that began.
    restarts: u32,
    period: u64,
    /// What is to be said of its first start, once it has been.
    boot: Option<Boot>,
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
    /// Starts a guest in its place, for the first time.
    pub fn start(placed: Placed, boot: Boot) -> Self {
        let Own { heap, tables, ept } = placed.own;
        info!(
            "memory: guest {}: {} KiB, and {} KiB of EPT",
            placed.name,
            Grouped((heap + tables).div_ceil(KIB)),
            Grouped(ept.div_ceil(KIB))
        );
        let run = Arc::new(partition(&placed));
        let period = placed.clock.now().unix_seconds;
        let (life, restarts) = (Life::Faulted, 0);
        let mut guest = Self { placed, run, life, restarts, period, boot: Some(boot) };
        guest.launch();
        guest
    }

    /// Says what the first start has cost, once the guest's first processor has entered it.
    pub fn report_start(&mut self) {
        let Some(Boot { entry, digests }) = self.boot else { return };
        let Some(Started { scrubbing, copying, at }) = self.shared().startup.started() else {
            return;
        };
        self.boot = None;
        info!(
            "guest {}: first instruction {} ticks after the hypervisor's entry, of which {} for digests, {} for \
             scrubbing, {} for copying its image",
            self.name(),
            Grouped(at.wrapping_sub(entry)),
            Grouped(digests),
            Grouped(scrubbing),
            Grouped(copying)
        );
    }

    /// Its name, from the manifest.
    pub fn name(&self) -> &str {
        &self.placed.name
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Its cores.
    pub fn cores(&self) -> &[&'static Core] {
        &self.placed.cores
    }

    /// What its cores share with the service core in the present run, or the last.
    pub fn shared(&self) -> &Shared {
        &self.run.shared
    }

    /// Its devices, unless one of its cores has died, perhaps with them locked.
    pub fn platform(&self) -> Option<MutexGuard<'_, Platform>> {
        if self.dead_core().is_some() {
            self.shared().abandon();
        }
        self.shared().platform()
    }

    fn dead_core(&self) -> Option<&'static Core> {
        self.cores().iter().copied().find(|core| core.state() == State::Dead)
    }

    /// Starts the present run, which is new.
    fn launch(&mut self) {
        info!("guest {}: starting on {}", self.name(), Cores(self.cores()));
        self.life = match self.start_cores() {
            Ok(()) => Life::Running,
            Err(error) => {
                error!("guest {}: not started: {error}", self.name());
                Life::Faulted
            }
        };
    }

    fn start_cores(&mut self) -> Result<(), CannotStart> {
        let frames = self.placed.frames.take().ok_or(CannotStart::NoMemory)?;
        let ready = self.placed.cores.iter().try_for_each(|core| {
            if core.state() != State::Parked {
                return Err(CannotStart::Core(core.index, core.state()));
            }
            core.open(&self.placed.window);
            Ok(())
        });
        if let Err(error) = ready {
            self.placed.frames = Some(frames);
            return Err(error);
        }
        *self.run.frames.lock() = Some(frames);
        for (id, core) in (0..).zip(&self.placed.cores) {
            // Only this core starts others, and a parked core does nothing by itself, but it may die: then
            // `has_ended` finds it, and ends what the others have begun.
            let _ = core.start(self.run.clone(), id);
        }
        Ok(())
    }

    /// Lets the guest's processors stand still, whatever they do. Says how many ticks it took.
    ///
    /// # Errors
    /// Why not.
    pub fn pause(&mut self) -> Result<u64, Refusal> {
        if self.life != Life::Running {
            return Err(Refusal::Life(self.life));
        }
        let start = cpu::rdtsc();
        self.shared().pause(true);
        self.life = Life::Paused;
        let limit = self.placed.clock.rates.tsc_hz / PAUSES_IN_A_SECOND;
        while !self.shared().is_held() {
            if cpu::rdtsc().wrapping_sub(start) > limit {
                return Err(Refusal::NotYet);
            }
            cpu::pause();
        }
        Ok(cpu::rdtsc().wrapping_sub(start))
    }

    /// Lets a paused guest go on.
    ///
    /// # Errors
    /// Why not.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        if self.life != Life::Paused {
            return Err(Refusal::Life(self.life));
        }
        self.shared().pause(false);
        self.life = Life::Running;
        Ok(())
    }

    /// Tells the guest's processors to leave, whatever they do. [`has_ended`](Self::has_ended)
    /// says when they have.
    ///
    /// # Errors
    /// Why not.
    pub fn stop(&mut self) -> Result<(), Refusal> {
        if !self.life.is_active() {
            return Err(Refusal::Life(self.life));
        }
        self.shared().end(Ok(Stop::Ordered));
        Ok(())
    }

    /// Whether its processors have all left since it was started.
    pub fn has_ended(&self) -> bool {
        if !self.life.is_active() {
            return false;
        }
        if self.dead_core().is_some() {
            self.shared().abandon();
            self.shared().end(Ok(Stop::Abandoned));
        }
        self.cores().iter().all(|core| matches!(core.state(), State::Parked | State::Dead))
    }

    /// Says how the run ended, and starts the guest again if that is its policy. To be called once
    /// it [has ended](Self::has_ended).
    pub fn conclude(&mut self) {
        self.report_start();
        // Of a run that was never entered there is nothing to say.
        self.boot = None;
        let name = &self.placed.name;
        let again = match &self.shared().take_end() {
            Some(Ok(Stop::PowerOff)) => {
                info!("guest {name}: powered off");
                Err(Life::PoweredOff)
            }
            Some(Ok(Stop::Reset)) if self.placed.restart => {
                info!("guest {name}: reset");
                Ok(())
            }
            Some(Ok(Stop::Reset)) => {
                info!("guest {name}: asked for a reset; its restart policy is never: stopped");
                Err(Life::PoweredOff)
            }
            Some(Ok(Stop::Ordered)) | None => {
                info!("guest {name}: stopped by the operator");
                Err(Life::Stopped)
            }
            Some(Ok(Stop::Abandoned)) => {
                let index = self.dead_core().map_or(0, |core| core.index);
                error!("guest {name}: stopped: the hypervisor failed on its core {index}");
                Err(Life::Faulted)
            }
            Some(Ok(Stop::Fault(fault, report))) => {
                error!("guest {name}: stopped: {fault}");
                report.lines(|line| error!("guest {name}: {line}"));
                // On a processor a triple fault is a reset.
                if *fault == Fault::TripleFault && self.placed.restart {
                    Ok(())
                } else {
                    Err(Life::Faulted)
                }
            }
            Some(Err(error)) => {
                error!("guest {name}: not started: {error}");
                Err(Life::Faulted)
            }
        };
        self.summarise();
        self.placed.frames = self.run.frames.lock().take();
        match again.and_then(|()| self.may_restart()) {
            Ok(()) => {
                self.run = Arc::new(partition(&self.placed));
                self.launch();
            }
            Err(life) => self.life = life,
        }
    }

    fn may_restart(&mut self) -> Result<(), Life> {
        let now = self.placed.clock.now().unix_seconds;
        if now.saturating_sub(self.period) >= RESTART_PERIOD {
            (self.period, self.restarts) = (now, 0);
        }
        self.restarts += 1;
        if self.restarts <= MOST_RESTARTS {
            return Ok(());
        }
        let name = &self.placed.name;
        error!("guest {name}: stopped: {MOST_RESTARTS} restarts within {RESTART_PERIOD} s");
        Err(Life::Faulted)
    }

    /// Prints what the guest has cost so far: exits by reason, and the ticks spent in each.
    pub fn log_exits(&self) {
        let exits = self.shared().exits();
        info!(
            "guest {}: {} exits in {} ticks",
            self.placed.name,
            Grouped(exits.count()),
            Grouped(exits.ticks())
        );
        self.log_rows(&exits);
    }

    fn log_rows(&self, exits: &Exits) {
        for (reason, count, ticks) in exits.rows() {
            info!(
                "guest {}:   {:>12} {:<28} {:>14} ticks, {:>7} each",
                self.placed.name,
                Grouped(count),
                ExitReason::from(reason).name(),
                Grouped(ticks),
                Grouped(ticks / count.max(1))
            );
        }
    }

    fn summarise(&self) {
        let name = &self.placed.name;
        let exits = self.shared().exits();
        let ticks = self.shared().processors.iter().map(|slot| slot.ticks.load(Ordering::Relaxed));
        info!(
            "guest {name}: ran {} ticks, of which {} in {} exits",
            Grouped(ticks.max().unwrap_or(0)),
            Grouped(exits.ticks()),
            Grouped(exits.count())
        );
        self.log_rows(&exits);
        let Some(platform) = self.platform() else { return };
        let absent = platform.absent();
        info!(
            "guest {name}: absent devices: {} port accesses, {} memory accesses; console bytes \
             lost: {}; interrupts refused: {}",
            absent.port_accesses,
            absent.memory_accesses,
            platform.console_dropped(),
            platform.interrupts_refused(),
        );
    }
}

/// Why an operator's command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is in this state.
    Life(Life),
    /// Some of its processors still load it: they stand still when they come to run it.
    NotYet,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Life(life) => write!(f, "is {life}"),
            Self::NotYet => f.write_str("is being started, and will stand still then"),
        }
    }
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
fn partition(placed: &Placed) -> Partition {
    let cores = placed.cores.iter().map(|core| core.apic);
    Partition {
        shared: Arc::new(Shared::new(placed.name.clone(), cores, super::cores::ring_service_core)),
        kind: placed.kind,
        kernel: placed.kernel,
        initrd: placed.initrd,
        command_line: placed.command_line.clone(),
        vpid: placed.vpid,
        clock: placed.clock,
        frames: Mutex::new(None),
        prepared: Once::new(),
        held: Mutex::new(None),
        inside: AtomicU32::new(u32::try_from(placed.cores.len()).unwrap_or(u32::MAX)),
    }
}
