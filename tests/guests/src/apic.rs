//! The local APIC: its mode, and its registers in x2APIC mode (SDM Vol. 3A, 11.12).

use crate::cpu::{rdmsr, wrmsr};
use crate::xapic;
use core::sync::atomic::{AtomicBool, Ordering};

/// `IA32_APIC_BASE` (SDM Vol. 3A, 11.12.1).
pub mod base {
    /// This is the boot processor.
    pub const BSP: u64 = 1 << 8;
    /// x2APIC mode.
    pub const EXTD: u64 = 1 << 10;
    /// The APIC is on.
    pub const EN: u64 = 1 << 11;
}

/// x2APIC registers by MSR (SDM Vol. 3A, table 11-6).
pub mod register {
    /// `IA32_APIC_BASE`.
    pub const BASE: u32 = 0x1B;
    /// Local APIC ID, read only.
    pub const ID: u32 = 0x802;
    /// Task priority.
    pub const TPR: u32 = 0x808;
    /// Processor priority, read only.
    pub const PPR: u32 = 0x80A;
    /// End of interrupt, write only.
    pub const EOI: u32 = 0x80B;
    /// Logical destination, read only.
    pub const LDR: u32 = 0x80D;
    /// Spurious-interrupt vector.
    pub const SVR: u32 = 0x80F;
    /// In service: the first of eight, a bit for each vector.
    pub const ISR: u32 = 0x810;
    /// Trigger modes: the first of eight, a bit for each vector.
    pub const TMR: u32 = 0x818;
    /// Requested: the first of eight, a bit for each vector.
    pub const IRR: u32 = 0x820;
    /// Errors.
    pub const ESR: u32 = 0x828;
    /// Interrupt command.
    pub const ICR: u32 = 0x830;
    /// LVT: timer.
    pub const LVT_TIMER: u32 = 0x832;
    /// LVT: pin LINT0.
    pub const LVT_LINT0: u32 = 0x835;
    /// LVT: pin LINT1.
    pub const LVT_LINT1: u32 = 0x836;
    /// LVT: errors.
    pub const LVT_ERROR: u32 = 0x837;
    /// Timer's initial count.
    pub const TIMER_INITIAL: u32 = 0x838;
    /// Timer's current count, read only.
    pub const TIMER_CURRENT: u32 = 0x839;
    /// Timer's divider.
    pub const TIMER_DIVIDE: u32 = 0x83E;
    /// Interrupt to oneself, write only.
    pub const SELF_IPI: u32 = 0x83F;
}

/// Vector of spurious interrupts, which take no EOI.
pub const SPURIOUS_VECTOR: u8 = 0xFF;
/// SVR: enabled by software.
const SVR_ENABLE: u64 = 1 << 8;
/// An LVT entry's mask bit.
pub const LVT_MASKED: u64 = 1 << 16;
/// An LVT entry's periodic timer mode.
const LVT_PERIODIC: u64 = 1 << 17;
/// Divider value "divide by 1" (SDM Vol. 3A, figure 11-10).
const DIVIDE_BY_1: u64 = 0b1011;

/// The interrupt command register's fields (SDM Vol. 3A, 11.6.1 and 11.12.9).
pub mod icr {
    /// Delivery mode: fixed, to the one of lowest priority.
    pub const LOWEST_PRIORITY: u64 = 0b001 << 8;
    /// Delivery mode: SMI.
    pub const SMI: u64 = 0b010 << 8;
    /// Delivery mode: NMI.
    pub const NMI: u64 = 0b100 << 8;
    /// Delivery mode: INIT.
    pub const INIT: u64 = 0b101 << 8;
    /// Delivery mode: start-up; the vector is the page to start at.
    pub const STARTUP: u64 = 0b110 << 8;
    /// Delivery mode: ExtINT, which is reserved here.
    pub const EXT_INT: u64 = 0b111 << 8;
    /// The destination is logical.
    pub const LOGICAL: u64 = 1 << 11;
    /// Assert.
    pub const ASSERT: u64 = 1 << 14;
    /// Destination shorthand: oneself.
    pub const SELF: u64 = 0b01 << 18;
    /// Destination shorthand: all.
    pub const ALL: u64 = 0b10 << 18;
    /// Destination shorthand: all but oneself.
    pub const OTHERS: u64 = 0b11 << 18;
    /// Destination that means all.
    pub const BROADCAST: u32 = u32::MAX;

    /// A destination in its place.
    pub const fn to(destination: u32) -> u64 {
        (destination as u64) << 32
    }
}

/// Writes a register.
fn write(register: u32, value: u64) {
    // SAFETY: the functions below write what leads to interrupts at most, and every vector has a
    // stub that can take it.
    unsafe { wrmsr(register, value) };
}

/// Turns the APIC on, with its timer stopped.
pub fn enable() {
    write(register::SVR, SVR_ENABLE | u64::from(SPURIOUS_VECTOR));
    write(register::TPR, 0);
    stop_timer();
}

/// Whether interrupts are ended through the page.
static IN_XAPIC_MODE: AtomicBool = AtomicBool::new(false);

/// Turns x2APIC mode on, from xAPIC mode or where it is on already.
pub fn enter_x2apic_mode() {
    write(register::BASE, rdmsr(register::BASE) | base::EXTD);
    IN_XAPIC_MODE.store(false, Ordering::SeqCst);
}

/// Stays in xAPIC mode, which an APIC is in after reset.
pub fn stay_in_xapic_mode() {
    IN_XAPIC_MODE.store(true, Ordering::SeqCst);
}

/// Ends the interrupt in service, in the mode that the APIC is in.
pub(crate) fn end_of_handler() {
    if IN_XAPIC_MODE.load(Ordering::SeqCst) {
        xapic::write(xapic::EOI, 0);
    } else {
        end_of_interrupt();
    }
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(register::EOI, 0);
}

/// Sets the task priority: interrupts of its class and below wait.
pub fn set_task_priority(priority: u8) {
    write(register::TPR, priority.into());
}

/// Interrupts this processor, by the register made for it.
pub fn interrupt_self(vector: u8) {
    write(register::SELF_IPI, vector.into());
}

/// Sends what an interrupt command says.
pub fn command(icr: u64) {
    write(register::ICR, icr);
}

/// Starts the timer: one interrupt after `count` ticks.
pub fn start_one_shot(vector: u8, count: u32) {
    start_timer(u64::from(vector), count);
}

/// Starts the timer: an interrupt every `count` ticks.
pub fn start_periodic(vector: u8, count: u32) {
    start_timer(LVT_PERIODIC | u64::from(vector), count);
}

/// Starts the timer without an interrupt at its end.
pub fn start_masked(count: u32) {
    start_timer(LVT_MASKED, count);
}

fn start_timer(entry: u64, count: u32) {
    write(register::TIMER_DIVIDE, DIVIDE_BY_1);
    write(register::LVT_TIMER, entry);
    write(register::TIMER_INITIAL, count.into());
}

/// Stops the timer.
pub fn stop_timer() {
    write(register::TIMER_INITIAL, 0);
    write(register::LVT_TIMER, LVT_MASKED);
}

/// What is left of the timer's count.
pub fn timer_left() -> u32 {
    rdmsr(register::TIMER_CURRENT) as u32
}

/// Whether any bit is set in a register of 256, of which this is the first part.
pub fn any_vector(first: u32) -> bool {
    (first..first + 8).any(|part| rdmsr(part) != 0)
}
