//! The runtime that the bare-metal test guests share.
//!
//! A guest is a small kernel of its own: a binary for `x86_64-unknown-none`, an ELF64
//! executable linked at 2 MiB. It is entered as a 64-bit Linux kernel is: long mode, the first
//! 4 GiB mapped one to one, interrupts off, `rsi` pointing at Linux's `boot_params`. So a guest
//! runs wherever a Linux kernel does, and nothing in it knows Bulkhead but where that is tested.
//! Two are entered in 32-bit protected mode instead: see [`entry32`].
//!
//! ```text
//! #![no_std]
//! #![no_main]
//!
//! use bulkhead_guests::boot::BootParams;
//! use bulkhead_guests::{entry, power, println};
//!
//! entry!(main);
//!
//! fn main(boot: &BootParams) -> ! {
//!     println!("started with {:?}", boot.command_line());
//!     power::power_off()
//! }
//! ```
//!
//! Built with `--target x86_64-unknown-none --features metal --profile kernel`; the link
//! arguments come from `build.rs`.
//!
//! The local APIC is in x2APIC mode, in which all but the guest *xapic* use it.
//!
//! There is no heap and no vector register: the target is soft-float. There is one processor until a
//! guest starts others (`smp`).
#![no_std]

pub mod acpi;
pub mod apic;
pub mod attacks;
pub mod boot;
pub mod console;
pub mod cpu;
pub mod entry32;
pub mod fault;
pub mod footing;
pub mod interrupts;
pub mod ioapic;
pub mod loops;
pub mod memory;
#[cfg(feature = "metal")]
mod panic;
pub mod port;
pub mod power;
pub mod smp;
pub mod start;
pub mod suite;
pub mod task;
pub mod task_switch;
pub mod trampoline;
pub mod xapic;
