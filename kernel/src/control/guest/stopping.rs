//! Bringing a run of a guest's to its end: it is asked to power itself off, as by the power button of a PC, and what does
//! not listen, or takes too long, is stopped.

use super::{Guest, Refusal, Wanted, reached};
use crate::arch::cpu;
use crate::control::commands::Manner;
use crate::guest::stop::Stop;
use bulkhead_life::{Ended, Event, Life};
use core::fmt;
use log::info;

/// How long a guest may take to power itself off: more than a server with its services takes, and not so long that an operator
/// believes that nothing happens.
const PATIENCE_SECONDS: u64 = 30;

/// How a guest is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It is asked to power itself off, and has so many seconds for it.
    Asked(u64),
    /// Its processors leave it, whatever they do.
    Told,
    /// The same, as it was asked before.
    ToldAfterAsked,
    /// The same, as it has no driver for its power button.
    ToldAsDeaf,
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(seconds) => {
                write!(f, "is asked to power itself off, and is stopped in {seconds} s otherwise")
            }
            Self::Told => f.write_str("is told to stop"),
            Self::ToldAfterAsked => f.write_str("is told to stop, as it was asked before"),
            Self::ToldAsDeaf => {
                f.write_str("is told to stop, as it does not listen to its power button")
            }
        }
    }
}

impl Guest {
    /// Ends the present run, or keeps one that waits to start again from it. [`has_ended`](Self::has_ended) says when
    /// the processors have left.
    ///
    /// # Errors
    /// Why not.
    pub fn stop(&mut self, manner: Manner) -> Result<Stopping, Refusal> {
        if !self.life.is_active() {
            self.go(Event::Ended(Ended::Stopped))?;
            return Ok(Stopping::Told);
        }
        self.end_run(manner, Wanted::Stop)
    }

    /// Ends the present run and starts another then; `None` if there is no run and one is started.
    ///
    /// # Errors
    /// Why not.
    pub fn restart(&mut self, manner: Manner) -> Result<Option<Stopping>, Refusal> {
        if !self.may_run() {
            return Err(Refusal::Expired);
        }
        if !self.life.is_active() {
            return self.start().map(|()| None);
        }
        self.end_run(manner, Wanted::Restart).map(Some)
    }

    /// Whether it was asked to power itself off, with nothing to follow.
    pub fn is_asked_to_stop(&self) -> bool {
        self.life == Life::Stopping && self.wanted == Wanted::Stop
    }

    fn end_run(&mut self, manner: Manner, then: Wanted) -> Result<Stopping, Refusal> {
        // What has been told to leave hears no button any more.
        let manner = if self.shared().is_ending() { Manner::Now } else { manner };
        let stopping = match (manner, self.life) {
            (Manner::Ask, Life::Running) if self.press_power_button() => {
                self.go(Event::Ask)?;
                let ticks = PATIENCE_SECONDS.saturating_mul(self.definition.clock.rates.tsc_hz);
                self.due = cpu::rdtsc().wrapping_add(ticks);
                self.wanted = then;
                return Ok(Stopping::Asked(PATIENCE_SECONDS));
            }
            (Manner::Ask, Life::Running) => Stopping::ToldAsDeaf,
            // Another end was wanted; the guest has its time all the same.
            (Manner::Ask, Life::Stopping) if self.wanted != then => {
                self.wanted = then;
                return Ok(Stopping::Asked(self.seconds_until(self.due)));
            }
            (Manner::Ask, Life::Stopping) => Stopping::ToldAfterAsked,
            // What does not run does not hear.
            _ => Stopping::Told,
        };
        // What is to be destroyed is: it ends anyhow.
        if self.wanted != Wanted::Destroy {
            self.wanted = then;
        }
        self.shared().end(Ok(Stop::Ordered));
        Ok(stopping)
    }

    /// Whether the guest listens to it.
    fn press_power_button(&self) -> bool {
        let message = self.platform().and_then(|mut platform| platform.press_power_button());
        if let Some(message) = &message {
            self.shared().deliver(message);
        }
        message.is_some()
    }

    /// Stops what was asked to power itself off when it has not.
    pub(super) fn lose_patience(&mut self) {
        if self.life == Life::Stopping && reached(self.due) && !self.shared().is_ending() {
            info!(
                "guest {}: has not powered itself off within {PATIENCE_SECONDS} s: is stopped",
                self.name()
            );
            self.shared().end(Ok(Stop::Ordered));
        }
    }
}
