//! Whether a virtual processor runs, or waits to be started by another.
//!
//! Application processors are held in software: their cores wait in root mode until INIT and a
//! start-up IPI have come (SDM Vol. 3A, 9.4.4). The wait-for-SIPI activity state of VMX would
//! do it too, but would need INIT to be sent for real, and nested hypervisors refuse it.
//!
//! ```text
//!            start-up IPI               own core has reset itself
//! Waiting ─────────────────► Starting ────────────────────────────► Running
//!    ▲                          │ INIT                                 │ INIT
//!    └──────────────────────────┴──────────────────────────────────────┘
//! ```

use core::sync::atomic::{AtomicU16, Ordering};

/// What a virtual processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It waits for a start-up IPI. Interrupts and NMIs that are sent to it are lost.
    Waiting,
    /// A start-up IPI has come: it is to start in real mode at this page.
    Starting(u8),
    /// It runs, or is halted.
    Running,
}

const WAITING: u16 = 0;
const RUNNING: u16 = 1;
/// With the page in the lower byte.
const STARTING: u16 = 0x100;

impl Activity {
    const fn encode(self) -> u16 {
        match self {
            Self::Waiting => WAITING,
            Self::Starting(page) => STARTING | page as u16,
            Self::Running => RUNNING,
        }
    }

    const fn decode(word: u16) -> Self {
        match word {
            WAITING => Self::Waiting,
            RUNNING => Self::Running,
            word => Self::Starting(word as u8),
        }
    }
}

/// An [`Activity`] that other processors change. Here are all its transitions.
#[derive(Debug)]
pub struct SharedActivity(AtomicU16);

impl SharedActivity {
    /// In this state.
    pub const fn new(activity: Activity) -> Self {
        Self(AtomicU16::new(activity.encode()))
    }

    /// The state now.
    pub fn now(&self) -> Activity {
        Activity::decode(self.0.load(Ordering::SeqCst))
    }

    /// INIT has come: whatever it did, it waits.
    pub fn init(&self) {
        self.0.store(WAITING, Ordering::SeqCst);
    }

    /// A start-up IPI has come. Says whether the processor was waiting for one: others ignore it.
    pub fn startup(&self, page: u8) -> bool {
        self.change(Activity::Waiting, Activity::Starting(page))
    }

    /// The processor's own core has reset itself, for the start at `page`. Says whether that is
    /// still what is wanted.
    pub fn started(&self, page: u8) -> bool {
        self.change(Activity::Starting(page), Activity::Running)
    }

    fn change(&self, from: Activity, to: Activity) -> bool {
        let order = Ordering::SeqCst;
        self.0.compare_exchange(from.encode(), to.encode(), order, order).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_encoding() {
        for page in 0..=u8::MAX {
            assert_eq!(
                Activity::decode(Activity::Starting(page).encode()),
                Activity::Starting(page)
            );
        }
        for activity in [Activity::Waiting, Activity::Running] {
            assert_eq!(Activity::decode(activity.encode()), activity);
        }
    }

    #[test]
    fn only_a_processor_that_waits_is_started() {
        let activity = SharedActivity::new(Activity::Waiting);
        assert!(!activity.started(0x99), "not without a start-up IPI");
        assert!(activity.startup(0x99));
        assert!(!activity.startup(0x98), "the second of two is ignored");
        assert_eq!(activity.now(), Activity::Starting(0x99));
        assert!(!activity.started(0x98));
        assert!(activity.started(0x99));
        assert!(!activity.startup(0x98), "so it is while the processor runs");
        assert_eq!(activity.now(), Activity::Running);
    }

    #[test]
    fn init_takes_back_a_start_that_has_not_happened() {
        let activity = SharedActivity::new(Activity::Running);
        activity.init();
        assert!(activity.startup(1));
        activity.init();
        assert!(!activity.started(1));
        assert!(activity.startup(2) && activity.started(2));
    }
}
