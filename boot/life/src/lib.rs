//! The states of a guest, and what leads from one to another: all of it is in [`Life::after`].
//!
//! ```text
//! undefined
//!     ▲ define, destroy
//!     ▼      start            entered            pause, resume
//! defined ──────────▶ starting ──────▶ running ◀───────────────▶ paused
//!                        ▲  │            │  │ ask                │   ▲
//!                  start │  │  ended     │  └────▶ stopping      │   │ release
//!                        │  ▼            │ quarantine            ▼   │
//!   powered off, stopped, faulted        └─────────────────▶ quarantined
//!         waiting to start again
//! ```
//!
//! All five in which its cores are in use may end, and all but the last be put into quarantine. What is stopping may be
//! paused, which calls it off. What has ended may be destroyed, too.
//!
//! The hypervisor goes by it; its client knows the states by the same names.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// Where a guest is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It has no cores and no memory: it was destroyed.
    Undefined,
    /// It has never been started there.
    Defined,
    /// Its cores prepare it: its memory is wiped, its kernel loaded.
    Starting,
    /// Its processors run, or are about to.
    Running,
    /// They run, and it has been asked to power itself off.
    Stopping,
    /// Its processors stand still.
    Paused,
    /// They stand still, its console is cut off, and nothing but a release lets it go on.
    Quarantined,
    /// It has ended, and will be started again after a while.
    Waiting,
    /// It has powered itself off, or asked for a reset that its policy does not grant.
    PoweredOff,
    /// The operator has stopped it.
    Stopped,
    /// It was stopped for a fault, or could not be started.
    Faulted,
}

/// How a run of a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    PoweredOff,
    /// By the operator.
    Stopped,
    /// By a fault.
    Faulted,
    /// In one of these ways, and its policy has it started again.
    Again,
}

/// What happens to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operator gives it cores and memory.
    Define,
    /// The operator takes them away. One that runs has ended before.
    Destroy,
    /// The operator starts it, or the boot, or its restart policy.
    Start,
    /// Its first processor has executed an instruction.
    Entered,
    /// It is asked to power itself off.
    Ask,
    /// The operator lets its processors stand still.
    Pause,
    /// The operator lets them go on.
    Resume,
    /// The operator cuts it off.
    Quarantine,
    /// The operator ends that.
    Release,
    /// All its processors have left it; or it waited to start again, and no longer does.
    Ended(Ended),
}

impl Life {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Undefined,
        Self::Defined,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Paused,
        Self::Quarantined,
        Self::Waiting,
        Self::PoweredOff,
        Self::Stopped,
        Self::Faulted,
    ];

    /// Where an event leads from here; `None` where it cannot be.
    pub const fn after(self, event: Event) -> Option<Self> {
        use Life::{
            Defined, Faulted, Paused, PoweredOff, Quarantined, Running, Starting, Stopped,
            Stopping, Undefined, Waiting,
        };
        Some(match (self, event) {
            (Undefined, Event::Define) => Defined,
            (Defined | Waiting | PoweredOff | Stopped | Faulted, Event::Destroy) => Undefined,
            (Defined | Waiting | PoweredOff | Stopped | Faulted, Event::Start) => Starting,
            (Starting, Event::Entered) => Running,
            (Running, Event::Ask) => Stopping,
            (Starting | Running | Stopping, Event::Pause) => Paused,
            (Paused, Event::Resume) => Running,
            (Starting | Running | Stopping | Paused, Event::Quarantine) => Quarantined,
            // It does not run before the operator says so.
            (Quarantined, Event::Release) => Paused,
            (Starting | Running | Stopping | Paused | Quarantined | Waiting, Event::Ended(how)) => {
                match how {
                    Ended::PoweredOff => PoweredOff,
                    Ended::Stopped => Stopped,
                    Ended::Faulted => Faulted,
                    Ended::Again => Waiting,
                }
            }
            _ => return None,
        })
    }

    /// Whether its cores are in use.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running | Self::Stopping | Self::Paused | Self::Quarantined
        )
    }

    /// Whether it runs, or will without the operator.
    pub const fn is_alive(self) -> bool {
        self.is_active() || matches!(self, Self::Waiting)
    }

    /// The word for it, in the log and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Defined => "defined",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Quarantined => "quarantined",
            Self::Waiting => "waiting",
            Self::PoweredOff => "powered off",
            Self::Stopped => "stopped",
            Self::Faulted => "faulted",
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    /// From where an event leads anywhere, and where to.
    fn arrows(event: Event) -> Vec<(Life, Life)> {
        Life::ALL.into_iter().filter_map(|life| Some((life, life.after(event)?))).collect()
    }

    #[test]
    fn a_guest_is_started_where_its_cores_are_free() {
        let from: Vec<_> = arrows(Event::Start).into_iter().map(|(from, _)| from).collect();
        let free = |life: Life| !life.is_active() && life != Life::Undefined;
        assert!(Life::ALL.into_iter().all(|life| free(life) == from.contains(&life)));
        assert!(arrows(Event::Start).iter().all(|&(_, to)| to == Life::Starting));
        assert_eq!(arrows(Event::Entered), [(Life::Starting, Life::Running)]);
    }

    #[test]
    fn a_place_is_given_to_what_has_none_and_taken_from_what_does_not_run() {
        assert_eq!(arrows(Event::Define), [(Life::Undefined, Life::Defined)]);
        let startable = arrows(Event::Start).into_iter().map(|(from, _)| (from, Life::Undefined));
        assert_eq!(arrows(Event::Destroy), startable.collect::<Vec<_>>());
    }

    #[test]
    fn only_what_stands_still_goes_on() {
        assert_eq!(arrows(Event::Resume), [(Life::Paused, Life::Running)]);
        assert_eq!(
            arrows(Event::Pause),
            [Life::Starting, Life::Running, Life::Stopping].map(|from| (from, Life::Paused))
        );
    }

    #[test]
    fn only_what_runs_can_hear_a_request() {
        assert_eq!(arrows(Event::Ask), [(Life::Running, Life::Stopping)]);
    }

    #[test]
    fn quarantine_is_left_by_release_or_by_the_end() {
        let to: Vec<_> = arrows(Event::Quarantine).into_iter().map(|(_, to)| to).collect();
        assert_eq!(to, [Life::Quarantined; 4]);
        let events = [
            Event::Define,
            Event::Destroy,
            Event::Start,
            Event::Entered,
            Event::Ask,
            Event::Pause,
            Event::Resume,
            Event::Quarantine,
        ];
        assert!(events.iter().all(|&event| Life::Quarantined.after(event).is_none()));
        assert_eq!(arrows(Event::Release), [(Life::Quarantined, Life::Paused)]);
    }

    #[test]
    fn what_lives_can_end_and_nothing_else() {
        for (how, to) in [
            (Ended::PoweredOff, Life::PoweredOff),
            (Ended::Stopped, Life::Stopped),
            (Ended::Faulted, Life::Faulted),
            (Ended::Again, Life::Waiting),
        ] {
            for life in Life::ALL {
                let expected = life.is_alive().then_some(to);
                assert_eq!(life.after(Event::Ended(how)), expected, "{life} {how:?}");
            }
        }
    }
}
