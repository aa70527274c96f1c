//! Why there is no plan, each in one line that names the guest and says what would be right.

use alloc::string::String;
use bulkhead_manifest::{Cores, DoesNotFit, Size};
use thiserror::Error;

/// Why guests cannot be placed on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CannotPlan {
    /// The sums alone are too large.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// A guest cannot have a core that it names.
    #[error("guest \"{guest}\": cores = {cores}: core {core} {why}")]
    Named {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core.
        core: u32,
        /// Why not.
        why: NotToBeHad,
    },
    /// There are enough cores, but not for guests, or not on physical cores of the guest's own.
    #[error(
        "guest \"{guest}\": cores = {wanted}: {left} left for it, as this machine has {usable} for guests, and the \
         hyper-threads of a physical core go to one guest or stay unused; give the guests fewer cores"
    )]
    NoPhysicalCore {
        /// The guest's name.
        guest: String,
        /// How many cores it asks for.
        wanted: u32,
        /// How many it could have.
        left: u32,
        /// How many all guests together could have.
        usable: u32,
    },
    /// No run of free memory is long enough.
    #[error(
        "guest \"{guest}\": memory = {}: the longest run of free memory is {}; give it no more than that",
        Size(*wanted), Size(*longest)
    )]
    Memory {
        /// The guest's name.
        guest: String,
        /// Bytes that it asks for.
        wanted: u64,
        /// The longest run that is left for it, in bytes.
        longest: u64,
    },
}

/// Why a guest cannot have a core by its number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotToBeHad {
    /// The machine does not have it.
    #[error("is not there; this machine's cores for guests are 1 to {last}")]
    NotThere {
        /// The machine's highest core.
        last: u32,
    },
    /// It is the service core.
    #[error("is the service core, which runs no guest; name another")]
    ServiceCore,
    /// It cannot run guests.
    #[error("cannot run guests, the boot log says why; name another")]
    Unusable,
    /// It is a thread of the service core's physical core.
    #[error(
        "is a hyper-thread of the service core's physical core, which runs no guest; name another"
    )]
    ServiceSibling,
    /// It is named twice.
    #[error("is guest \"{other}\"'s already; a core belongs to one guest, once")]
    Taken {
        /// Who has it.
        other: String,
    },
    /// It is a thread of a physical core that is another guest's.
    #[error(
        "is a hyper-thread of the same physical core as core {sibling}, which is guest \"{other}\"'s; \
         give both to one guest, or name another"
    )]
    Sibling {
        /// The core of the other guest.
        sibling: u32,
        /// The other guest.
        other: String,
    },
}
