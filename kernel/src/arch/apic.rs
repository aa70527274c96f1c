//! The local APIC in x2APIC mode (SDM Vol. 3A, 11.12): registers are MSRs, so
//! nothing is mapped and an access is one instruction.

use super::msr::Msr;

/// x2APIC registers by number (SDM Vol. 3A, table 11-6).
pub mod register {
    /// Local APIC ID, read only.
    pub const ID: u32 = 0x802;
    /// Version.
    pub const VERSION: u32 = 0x803;
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
    /// First of eight in-service registers, read only.
    pub const ISR: u32 = 0x810;
    /// First of eight trigger-mode registers, read only.
    pub const TMR: u32 = 0x818;
    /// First of eight interrupt-request registers, read only.
    pub const IRR: u32 = 0x820;
    /// Error status.
    pub const ESR: u32 = 0x828;
    /// LVT: corrected machine check.
    pub const LVT_CMCI: u32 = 0x82F;
    /// Interrupt command, 64 bits.
    pub const ICR: u32 = 0x830;
    /// LVT: timer.
    pub const LVT_TIMER: u32 = 0x832;
    /// LVT: thermal sensor.
    pub const LVT_THERMAL: u32 = 0x833;
    /// LVT: performance counters.
    pub const LVT_PERFORMANCE: u32 = 0x834;
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

/// Task priority in root mode: vectors 16 to 31, which an APIC may be sent but which are
/// exceptions to the processor, stay pending. Guests can send them.
const ROOT_PRIORITY: u64 = 0x10;

/// An LVT entry's mask bit.
pub const LVT_MASKED: u64 = 1 << 16;
/// An LVT entry's periodic timer mode.
pub const LVT_PERIODIC: u64 = 1 << 17;
/// SVR: the APIC is enabled by software.
pub const SVR_ENABLE: u64 = 1 << 8;
/// Vectors that there are.
const VECTORS: u32 = 256;
/// A vector can be in service and pending at once: so many rounds end and take all of them.
const DRAIN_ROUNDS: u32 = 2 * VECTORS;
/// Vector of spurious interrupts.
pub const SPURIOUS_VECTOR: u8 = 0xFF;
/// Divider value "divide by 1" (SDM Vol. 3A, figure 11-10).
const DIVIDE_BY_1: u64 = 0b1011;
/// `APIC_BASE`: x2APIC mode.
pub const BASE_X2APIC: u64 = 1 << 10;
/// `APIC_BASE`: the APIC is on.
pub const BASE_ENABLE: u64 = 1 << 11;
/// `APIC_BASE`: this is the boot processor.
pub const BASE_BSP: u64 = 1 << 8;

/// ICR: delivery mode INIT, level assert.
const ICR_INIT: u64 = 0b101 << 8 | 1 << 14;
/// ICR: delivery mode start-up.
const ICR_STARTUP: u64 = 0b110 << 8 | 1 << 14;
/// ICR: delivery mode NMI.
const ICR_NMI: u64 = 0b100 << 8 | 1 << 14;
/// ICR: level assert, fixed delivery.
const ICR_FIXED: u64 = 1 << 14;

/// A physical APIC ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApicId(pub u32);

/// Reads an x2APIC register of this processor.
pub fn read(register: u32) -> u64 {
    Msr::claimed(register).read()
}

/// Writes an x2APIC register of this processor.
///
/// # Safety
/// x2APIC mode is on, and the value is valid for the register; the caller answers for the
/// interrupts that follow.
pub unsafe fn write(register: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { Msr::claimed(register).write(value) };
}

/// Turns x2APIC mode on for this processor, with everything masked.
///
/// # Safety
/// CPUID.1:ECX.x2APIC must be set, and the interrupt descriptor table loaded.
pub unsafe fn enable() {
    let base = Msr::APIC_BASE.read();
    // SAFETY: xAPIC to x2APIC is the legal transition (SDM Vol. 3A, 11.12.5); a repeat is harmless.
    unsafe {
        Msr::APIC_BASE.write(base | BASE_ENABLE);
        Msr::APIC_BASE.write(base | BASE_ENABLE | BASE_X2APIC);
    }
    quiesce();
    // SAFETY: the vector has a handler.
    unsafe { write(register::SVR, SVR_ENABLE | u64::from(SPURIOUS_VECTOR)) };
}

/// Masks every local source and stops the timer.
pub fn quiesce() {
    let entries = 1 + (read(register::VERSION) >> 16 & 0xFF);
    // SAFETY: masking sources of interrupts is always valid; registers beyond the version's
    // count are left alone, as a write to one that is absent faults.
    unsafe {
        write(register::TIMER_INITIAL, 0);
        write(register::LVT_TIMER, LVT_MASKED);
        write(register::LVT_LINT0, LVT_MASKED);
        write(register::LVT_LINT1, LVT_MASKED);
        write(register::LVT_ERROR, LVT_MASKED);
        if entries > 4 {
            write(register::LVT_PERFORMANCE, LVT_MASKED);
        }
        if entries > 5 {
            write(register::LVT_THERMAL, LVT_MASKED);
        }
        if entries > 6 {
            write(register::LVT_CMCI, LVT_MASKED);
        }
        write(register::TPR, ROOT_PRIORITY);
    }
}

/// Whether any vector is set in a group of registers: ISR, TMR or IRR, with a bit for each.
fn any_vector(group: u32) -> bool {
    (0..VECTORS / u32::BITS).any(|word| read(group + word) != 0)
}

/// Brings the APIC to the state that a guest finds after reset: disabled by
/// software, sources masked, no interrupt in service. What was pending, [`drain`] has taken.
///
/// # Safety
/// Interrupts are off, and the caller's core is about to run a guest.
pub unsafe fn reset_for_guest() {
    quiesce();
    // SAFETY: a zero to EOI ends the highest interrupt in service; 256 vectors at most can be so.
    unsafe {
        for _ in 0..VECTORS {
            if !any_vector(register::ISR) {
                break;
            }
            write(register::EOI, 0);
        }
        write(register::TPR, 0);
        write(register::TIMER_DIVIDE, 0);
        // The first write makes ESR show the errors until now, the second none (SDM Vol. 3A, 11.5.3).
        write(register::ESR, 0);
        write(register::ESR, 0);
        write(register::SVR, u64::from(SPURIOUS_VECTOR));
    }
}

/// Masks every local source, ends what is in service and takes what is pending, so that no interrupt
/// of a guest that has stopped is left for the next. Those that nobody expects are counted.
///
/// # Safety
/// The interrupt table must be loaded, and its handlers must not need a lock that the caller holds.
pub unsafe fn drain() {
    // First: a timer can be set to interrupt faster than that is served, and interrupts would be taken
    // for ever.
    quiesce();
    // SAFETY: the priority is a valid value; vectors 16 to 31 are let in too, for a table that
    // knows that they are interrupts now.
    unsafe { write(register::TPR, 0) };
    for _ in 0..DRAIN_ROUNDS {
        if any_vector(register::ISR) {
            end_of_interrupt();
        } else if any_vector(register::IRR) {
            // SAFETY: the caller's contract.
            unsafe { super::interrupts::take_all() };
        } else {
            break;
        }
    }
    // SAFETY: as above.
    unsafe { write(register::TPR, ROOT_PRIORITY) };
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    // SAFETY: zero is the only valid value and ends at most one interrupt.
    unsafe { write(register::EOI, 0) };
}

fn send(to: ApicId, command: u64) {
    // SAFETY: WRMSR to x2APIC registers is not serialising (SDM Vol. 3A, 11.12.3): the fence
    // orders earlier stores before the interrupt they announce. The command is built here.
    unsafe {
        core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
        write(register::ICR, u64::from(to.0) << 32 | command);
    }
}

/// Sends INIT.
///
/// # Safety
/// The target must be ours to reset.
pub unsafe fn send_init(to: ApicId) {
    send(to, ICR_INIT);
}

/// Sends a start-up IPI: the target begins in real mode at `page << 12`.
///
/// # Safety
/// Start-up code must be in place there.
pub unsafe fn send_startup(to: ApicId, page: u8) {
    send(to, ICR_STARTUP | u64::from(page));
}

/// Sends an NMI, which reaches a core whatever it does; see [`nmi`](super::nmi).
pub fn send_nmi(to: ApicId) {
    send(to, ICR_NMI);
}

/// Sends an interrupt with `vector` to a core: to its guest when it runs one.
pub fn send_fixed(to: ApicId, vector: u8) {
    send(to, ICR_FIXED | u64::from(vector));
}

/// Lets the timer run down from its maximum with everything masked, for a measurement.
pub fn timer_free_run() {
    // SAFETY: the source is masked; only the counter moves.
    unsafe {
        write(register::LVT_TIMER, LVT_MASKED);
        write(register::TIMER_DIVIDE, DIVIDE_BY_1);
        write(register::TIMER_INITIAL, u64::from(u32::MAX));
    }
}

/// Ticks since [`timer_free_run`].
pub fn timer_elapsed() -> u32 {
    u32::MAX - read(register::TIMER_CURRENT) as u32
}

/// Starts a periodic interrupt every `ticks` of the timer.
///
/// # Safety
/// `vector` must have a handler.
pub unsafe fn timer_periodic(vector: u8, ticks: u32) {
    // SAFETY: the caller's contract.
    unsafe {
        write(register::TIMER_DIVIDE, DIVIDE_BY_1);
        write(register::LVT_TIMER, LVT_PERIODIC | u64::from(vector));
        write(register::TIMER_INITIAL, u64::from(ticks));
    }
}
