//! The processor: instructions, descriptor tables, interrupt controller,
//! context switch. The only place for `unsafe` instructions and register layouts.

pub mod address;
pub mod apic;
pub mod backtrace;
pub mod cmos;
pub mod copy;
pub mod cpu;
pub mod descriptors;
pub mod interrupts;
pub mod ioapic;
pub mod local;
pub mod msr;
pub mod nmi;
pub mod port;
pub mod power;
pub mod protection;
pub mod rates;
pub mod smp;
pub mod stack;
pub mod switch;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topology;
pub mod vector;
pub mod vmx;
