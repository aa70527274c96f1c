//! Which guest gets which cores and which memory.
//!
//! [`Plan::new`] takes a [`Machine`] and what the guests ask for, and answers with a [`Plan`] or with the one reason why
//! there is none. The same input gives the same plan: the hypervisor makes it at boot, of the machine that is really
//! there, and `cargo xtask plan` makes it on a host, of the machine that a boot log describes. Both print it with its
//! `Display`.
//!
//! The rules, each with its reason where it is applied:
//!
//! * Core 0 is the hypervisor's, and the other threads of its physical core are nobody's.
//! * The threads of a physical core go to one guest, or stay unused.
//! * Guests that name their cores are placed first, the others in the manifest's order (`cores.rs`).
//! * A guest's memory is one run, aligned to 2 MiB, from the top of what is free (`memory.rs`).
//!
//! What the hypervisor needs for itself is worked out here too ([`footprint`]), as it is not the guests' to have.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cores;
mod error;
pub mod footprint;
mod machine;
mod memory;
mod plan;

pub use error::{CannotPlan, NotToBeHad};
pub use machine::{Core, Machine, NotAMachine};
pub use plan::{Plan, Request, Share, Spare, Why};
