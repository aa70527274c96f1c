//! What an operator may do.

use core::fmt;
use serde::{Deserialize, Serialize};

/// What an operator may do; each may do what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Looks: which guests there are, how they do, what was done.
    Viewer,
    /// Starts, pauses and stops guests, and puts them into quarantine.
    Operator,
    /// Looks into guests, releases and destroys them, switches the machine off.
    Administrator,
}

impl Role {
    /// All of them, the lowest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// The name that the manifest uses: `viewer`, `operator` or `administrator`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
