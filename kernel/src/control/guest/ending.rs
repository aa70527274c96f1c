//! How a run of a guest's ends, and what follows.

use super::{Guest, Wanted};
use crate::arch::cpu;
use crate::control::cores::State;
use crate::control::estate::Estate;
use crate::control::restarts::{self, Cause};
use crate::control::{audit, costs};
use crate::guest::stop::{Fault, Stop};
use bulkhead_life::{Ended, Event, Life};
use log::{error, info};

impl Guest {
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
    pub fn conclude(&mut self, estate: &mut Estate) {
        if self.life == Life::Starting {
            self.look_for_its_start();
        }
        // Of a run that was never entered there is nothing to say.
        self.boot = None;
        let name = &self.definition.name;
        let policy = self.definition.restart;
        let (how, again) = match &self.shared().take_end() {
            Some(Ok(Stop::PowerOff)) => {
                info!("guest {name}: powered off");
                (Ended::PoweredOff, policy.after_power_off().then_some(Cause::Wish))
            }
            Some(Ok(Stop::Reset)) if policy.after_reset() => {
                info!("guest {name}: reset");
                (Ended::Stopped, Some(Cause::Wish))
            }
            Some(Ok(Stop::Reset)) => {
                info!("guest {name}: asked for a reset; its restart policy is never: stopped");
                (Ended::PoweredOff, None)
            }
            Some(Ok(Stop::Ordered)) | None => {
                let why = if self.may_run() { "by the operator" } else { "as it has expired" };
                info!("guest {name}: stopped {why}");
                (Ended::Stopped, None)
            }
            Some(Ok(Stop::Abandoned)) => {
                let index = self.dead_core().map_or(0, |core| core.index);
                error!("guest {name}: stopped: the hypervisor failed on its core {index}");
                audit::record(audit::HYPERVISOR, format_args!("failed on core {index}, {name}'s"));
                (Ended::Faulted, None)
            }
            Some(Ok(Stop::Fault(fault, report))) => {
                error!("guest {name}: stopped: {fault}");
                audit::record("guest", format_args!("{name}: {fault}"));
                report.lines(|line| error!("guest {name}: {line}"));
                // On a processor a triple fault is a reset.
                let reset = *fault == Fault::TripleFault && policy.after_reset();
                let fault = policy.after_fault().then_some(Cause::Fault);
                (Ended::Faulted, if reset { Some(Cause::Wish) } else { fault })
            }
            Some(Err(error)) => {
                error!("guest {name}: not started: {error}");
                (Ended::Faulted, None)
            }
        };
        costs::summarise(self);
        if let Some(place) = &mut self.definition.place {
            place.frames = self.run.frames.lock().take();
        }
        let pause = match (self.wanted, again) {
            (Wanted::Restart, _) => Some(0),
            (Wanted::Policy, Some(cause)) => self.pause_before_restart(cause),
            (Wanted::Policy, None) | (Wanted::Stop | Wanted::Destroy, _) => None,
        };
        // It was active, and may end in any way.
        let _ = self.go(Event::Ended(match pause {
            Some(_) => Ended::Again,
            // It had no more restarts.
            None if again.is_some() && self.wanted == Wanted::Policy => Ended::Faulted,
            None => how,
        }));
        if self.wanted == Wanted::Destroy {
            self.vacate(estate);
            return;
        }
        if let Some(seconds) = pause {
            let ticks = seconds.saturating_mul(self.definition.clock.rates.tsc_hz);
            self.due = cpu::rdtsc().wrapping_add(ticks);
            if seconds == 0 {
                self.launch();
            } else {
                info!("guest {}: starts again in {seconds} s", self.name());
            }
        }
    }

    fn pause_before_restart(&mut self, cause: Cause) -> Option<u64> {
        // What its preparation took is no run: wiping a large memory may take a minute.
        let entered = self.shared().startup.started();
        let ran = entered.map_or(0, |started| self.seconds_since(started.at));
        let pause = self.restarts.next(ran, cause);
        if pause.is_none() {
            error!(
                "guest {}: stopped: {} restarts, and it never ran for {} s",
                self.name(),
                restarts::MOST,
                restarts::LONG_RUN_SECONDS
            );
        }
        pause
    }
}
