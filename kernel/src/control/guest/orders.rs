//! What the operator can have done to a guest, and why not.

use super::{Guest, Wanted};
use crate::arch::cpu;
use crate::guest::examine::{Answer, Question};
use bulkhead_life::{Event, Life};
use core::fmt;

/// Processors that have been told to stand still have done so within a hundredth of a second.
const PAUSES_IN_A_SECOND: u64 = 100;

impl Guest {
    /// Starts it, when it does not run.
    ///
    /// # Errors
    /// Why not.
    pub fn start(&mut self) -> Result<(), Refusal> {
        if !self.may_run() {
            return Err(Refusal::Expired);
        }
        if self.life.after(Event::Start).is_none() {
            return Err(Refusal::Life(self.life));
        }
        self.restarts.forget();
        self.launch();
        if self.life == Life::Faulted { Err(Refusal::NotStarted) } else { Ok(()) }
    }

    /// Lets the guest's processors stand still, whatever they do. Says how many ticks it took; `None` if some still load it,
    /// and stand still when they come to run it.
    ///
    /// # Errors
    /// Why not.
    pub fn pause(&mut self) -> Result<Option<u64>, Refusal> {
        self.freeze(Event::Pause)
    }

    /// The same, and cuts its console off. The memory and the registers stay as they are.
    ///
    /// # Errors
    /// Why not.
    pub fn quarantine(&mut self) -> Result<Option<u64>, Refusal> {
        self.freeze(Event::Quarantine)
    }

    fn freeze(&mut self, event: Event) -> Result<Option<u64>, Refusal> {
        // What has been told to leave does not stand still any more.
        if self.shared().is_ending() && self.life.is_active() {
            return Err(Refusal::Ends);
        }
        let was_asked = self.life == Life::Stopping;
        self.go(event)?;
        if was_asked {
            // That is called off: whether it still ends is the guest's to say.
            self.wanted = Wanted::Policy;
        }
        let start = cpu::rdtsc();
        self.shared().pause(true);
        let limit = self.definition.clock.rates.tsc_hz / PAUSES_IN_A_SECOND;
        while !self.shared().is_held() {
            if cpu::rdtsc().wrapping_sub(start) > limit {
                return Ok(None);
            }
            cpu::pause();
        }
        Ok(Some(cpu::rdtsc().wrapping_sub(start)))
    }

    /// Ends its quarantine: it is paused then.
    ///
    /// # Errors
    /// Why not.
    pub fn release(&mut self) -> Result<(), Refusal> {
        self.go(Event::Release)
    }

    /// Looks into the guest, which must stand still.
    ///
    /// # Errors
    /// Why not.
    pub fn examine(&self, processor: u32, question: Question) -> Result<Answer, Refusal> {
        if !matches!(self.life, Life::Paused | Life::Quarantined) {
            return Err(Refusal::Moves(self.life));
        }
        if self.dead_core().is_some() || !self.shared().is_held() {
            return Err(Refusal::NotYet);
        }
        if processor >= self.shared().count() {
            return Err(Refusal::Processors(self.shared().count()));
        }
        let limit = self.definition.clock.rates.tsc_hz / PAUSES_IN_A_SECOND;
        self.shared().examine(processor, question, limit).ok_or(Refusal::NotYet)
    }

    /// Lets a paused guest go on.
    ///
    /// # Errors
    /// Why not.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        self.go(Event::Resume)?;
        self.moves = self.moves.wrapping_add(1);
        self.shared().pause(false);
        Ok(())
    }
}

/// Why an operator's command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is in this state.
    Life(Life),
    /// It has cores and memory, and is in this state.
    HasPlace(Life),
    /// Its processors have been told to leave it.
    Ends,
    /// Some of its processors still load it: they stand still when they come to run it.
    NotYet,
    /// It cannot be started; the log says why.
    NotStarted,
    /// It must stand still for that, and is in this state.
    Moves(Life),
    /// It has only so many processors.
    Processors(u32),
    /// Its last day has passed, and its manifest says that it is not to run any more.
    Expired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Life(Life::Undefined) => f.write_str("is undefined; define it first"),
            Self::Life(life) => write!(f, "is {life}"),
            Self::HasPlace(life) => write!(f, "is {life}; destroy it first"),
            Self::Moves(life) => write!(f, "is {life}; pause it or put it into quarantine first"),
            Self::Processors(count) => {
                write!(f, "has no such processor; they are 0 to {}", count.saturating_sub(1))
            }
            Self::Ends => f.write_str("is about to end"),
            Self::NotStarted => f.write_str("cannot be started"),
            Self::Expired => f.write_str(
                "has expired, and on_expiry is \"stop\"; write an image with a later day in its manifest",
            ),
            Self::NotYet => f.write_str("is being started, and will stand still then"),
        }
    }
}
