//! Where commands come from, and what is kept of each place from one command to the next.

use super::listing::Rest;
use core::ops::{Index, IndexMut};

/// Where a command came from. Its answer goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A person at the first serial port. Answers are lines of the log.
    Console,
    /// A program that speaks the control protocol.
    Control,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Console, Self::Control];

    /// Who is behind it, for the audit trail.
    pub fn who(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Control => "control",
        }
    }
}

/// What is kept of a channel.
#[derive(Default)]
pub struct Session {
    /// What of an answer has not been said yet.
    pub rest: Option<Rest>,
}

/// The session of each channel.
#[derive(Default)]
pub struct Sessions([Session; Channel::ALL.len()]);

impl Index<Channel> for Sessions {
    type Output = Session;

    fn index(&self, channel: Channel) -> &Session {
        &self.0[channel as usize]
    }
}

impl IndexMut<Channel> for Sessions {
    fn index_mut(&mut self, channel: Channel) -> &mut Session {
        &mut self.0[channel as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_place() {
        for (place, channel) in Channel::ALL.into_iter().enumerate() {
            assert_eq!(channel as usize, place);
        }
    }
}
