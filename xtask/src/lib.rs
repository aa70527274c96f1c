//! Building, running and testing Bulkhead, as a library that the integration tests use too.
//!
//! The way of one run: [`packages`] sees to what the machine needs, [`toolchain`] finds a
//! compiler for bare metal, [`hypervisor`] builds the kernel with it, [`image`] puts kernel and
//! guests on a disk.

pub mod audit;
pub mod bench;
pub mod channels;
pub mod checks;
pub mod console;
pub mod control;
pub mod doctor;
pub mod emulator;
pub mod flash;
pub mod fuzz;
pub mod guests;
pub mod hypervisor;
pub mod image;
pub mod keys;
pub mod packages;
pub mod passwords;
pub mod plan;
pub mod process;
pub mod progress;
pub mod screen;
pub mod session;
pub mod states;
pub mod symbols;
pub mod terminal;
pub mod testing;
pub mod toolchain;
pub mod view;
pub mod workspace;
