//! How often and how soon a guest starts again by itself.

/// Runs shorter than this are counted; a longer one, and all before it are forgotten.
pub const LONG_RUN_SECONDS: u64 = 60;
/// So many short runs in a row are followed by another: the log of more would take the service core from others.
pub const MOST: u32 = 10;
/// The longest pause before a start.
const LONGEST_PAUSE: u64 = 32;

/// Why a guest is to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It asked for it, or ended by itself: at once.
    Wish,
    /// It has faulted: after 1 s, 2 s, 4 s and so on, up to 32 s, so that what faults at once does not keep the
    /// machine busy.
    Fault,
}

/// A guest's restarts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restarts {
    /// After runs that were short, in a row.
    short: u32,
    /// Those of them that followed a fault.
    faults: u32,
}

impl Restarts {
    /// After a run of so many seconds: how many seconds to wait before the next. `None` if there have been too many.
    pub fn next(&mut self, ran: u64, cause: Cause) -> Option<u64> {
        if ran >= LONG_RUN_SECONDS {
            *self = Self::default();
        }
        self.short += 1;
        if self.short > MOST {
            return None;
        }
        match cause {
            Cause::Wish => Some(0),
            Cause::Fault => {
                let pause = 1_u64 << self.faults;
                self.faults += 1;
                Some(pause.min(LONGEST_PAUSE))
            }
        }
    }

    /// Forgets them: the operator has started the guest.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn faults_are_followed_by_longer_and_longer_pauses() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = (0..12).map(|_| restarts.next(0, Cause::Fault)).collect();
        let expected = [1, 2, 4, 8, 16, 32, 32, 32, 32, 32].map(Some);
        assert_eq!(pauses, [expected.as_slice(), &[None, None]].concat());
    }

    #[test]
    fn wishes_are_granted_at_once_but_not_for_ever() {
        let mut restarts = Restarts::default();
        assert!((0..MOST).all(|_| restarts.next(59, Cause::Wish) == Some(0)));
        assert_eq!(restarts.next(59, Cause::Wish), None);
    }

    #[test]
    fn a_long_run_or_the_operator_wipes_the_slate() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.next(1, Cause::Fault);
        }
        assert_eq!(restarts.next(LONG_RUN_SECONDS, Cause::Fault), Some(1));
        assert_eq!(restarts.next(0, Cause::Fault), Some(2));
        restarts.forget();
        assert!((0..MOST).all(|_| restarts.next(0, Cause::Wish).is_some()));
    }
}
