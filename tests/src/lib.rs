//! Integration tests of Bulkhead: what they share.
//!
//! A test makes a [`Boot`], which says what is booted and on which machine, starts it, and talks to
//! the [`Console`] that it gets: it waits for text and types. Everything that a machine said is in
//! `target/tests/NAME/console.log` afterwards, beside the emulator's own logs.

mod boot;
mod cli;
mod console;
mod permit;
mod summary;
mod terminal;
mod transcript;

pub use boot::{Boot, DEMO, Guest, OPERATOR, PASSWORD, TENURE, program, program_as_elf32};
pub use cli::{Finished, xtask};
pub use console::{Console, End, GuestConsole};
pub use permit::Permit;
pub use summary::{Summary, said_of, summary};
pub use terminal::Terminal;
