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
    /// A guest names a core that the machine does not have.
    #[error(
        "guest \"{guest}\": cores = {cores}: there is no core {core}; this machine's cores for guests are 1 to {last}"
    )]
    NoSuchCore {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core that is not there.
        core: u32,
        /// The machine's highest core.
        last: u32,
    },
    /// A guest names the service core.
    #[error(
        "guest \"{guest}\": cores = {cores}: core {core} is the service core, which runs no guest; name another"
    )]
    ServiceCore {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The service core.
        core: u32,
    },
    /// A guest names a core that cannot run guests.
    #[error(
        "guest \"{guest}\": cores = {cores}: core {core} cannot run guests, the boot log says why; name another"
    )]
    Unusable {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core.
        core: u32,
    },
    /// A guest names a thread of the service core's physical core.
    #[error(
        "guest \"{guest}\": cores = {cores}: core {core} is a hyper-thread of the service core's physical core, \
         which runs no guest; name another"
    )]
    ServiceSibling {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core.
        core: u32,
    },
    /// A core is named twice.
    #[error(
        "guest \"{guest}\": cores = {cores}: core {core} is guest \"{other}\"'s already; a core belongs to one guest, once"
    )]
    Taken {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core.
        core: u32,
        /// Who has it.
        other: String,
    },
    /// A guest names a thread of a physical core that is another guest's.
    #[error(
        "guest \"{guest}\": cores = {cores}: core {core} is a hyper-thread of the same physical core as core {sibling}, \
         which is guest \"{other}\"'s; give both to one guest, or name another"
    )]
    Sibling {
        /// The guest's name.
        guest: String,
        /// What it asks for.
        cores: Cores,
        /// The core.
        core: u32,
        /// The core of the other guest.
        sibling: u32,
        /// The other guest.
        other: String,
    },
    /// There are enough threads, but not on physical cores of the guest's own.
    #[error(
        "guest \"{guest}\": cores = {wanted}: {left} left for it, as the hyper-threads of a physical core go to one guest \
         or stay unused; give the guests fewer cores, or even numbers of them"
    )]
    NoPhysicalCore {
        /// The guest's name.
        guest: String,
        /// How many cores it asks for.
        wanted: u32,
        /// How many it could have.
        left: u32,
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
