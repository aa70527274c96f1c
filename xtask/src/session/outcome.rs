//! How a session ends.

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All guests have ended.
    Stopped {
        /// Guests that ended as they should.
        powered_off: u32,
        /// Guests that were stopped for a fault.
        faulted: u32,
        /// Whether the hypervisor itself failed on the way.
        panicked: bool,
    },
    /// The hypervisor did not start; it has said why.
    Refused,
    /// The emulator ended before the hypervisor said that all guests had stopped.
    Vanished,
    /// The user quit.
    Quit,
    /// A signal ended xtask.
    Signal(i32),
}

impl Outcome {
    /// The exit status of `cargo xtask run`.
    pub fn status(&self) -> u8 {
        match self {
            Self::Stopped { faulted: 0, panicked: false, .. } | Self::Quit => 0,
            Self::Stopped { .. } | Self::Refused | Self::Vanished => 1,
            // As shells report it.
            Self::Signal(number) => 128u8.saturating_add(u8::try_from(*number).unwrap_or(127)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_end_is_success() {
        let stopped = |faulted, panicked| Outcome::Stopped { powered_off: 1, faulted, panicked };
        assert_eq!(stopped(0, false).status(), 0);
        assert_eq!(stopped(1, false).status(), 1);
        assert_eq!(stopped(0, true).status(), 1);
        assert_eq!(Outcome::Refused.status(), 1);
        assert_eq!(Outcome::Vanished.status(), 1);
        assert_eq!(Outcome::Signal(15).status(), 143);
    }
}
