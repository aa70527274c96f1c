//! How fast the TSC and the APIC timer run, measured against the PIT.

use super::cpu::rdtsc;
use super::{apic, port};

/// Input clock of the 8254, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Channel 2's data port.
const PIT_CHANNEL_2: u16 = 0x42;
/// Mode and command port.
const PIT_COMMAND: u16 = 0x43;
/// Channel 2's gate (bit 0), speaker (bit 1) and output (bit 5).
const PIT_GATE: u16 = 0x61;
/// Channel 2, low byte then high byte, mode 0 (interrupt on terminal count), binary.
const CHANNEL_2_ONE_SHOT: u8 = 0b1011_0000;
const GATE: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT: u8 = 1 << 5;
/// PIT ticks of one measurement: 50 ms.
const MEASURED_TICKS: u16 = (PIT_HZ / 20) as u16;
/// TSC ticks after which a PIT that does not answer is given up: minutes at any rate.
const PATIENCE: u64 = 1 << 38;

/// Rates of this machine's clocks, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Time-stamp counter.
    pub tsc_hz: u64,
    /// Local APIC timer with divider 1.
    pub apic_timer_hz: u64,
}

/// The PIT never finished its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPit;

/// Measures both rates over 50 ms. x2APIC mode must be on.
pub fn measure() -> Result<Rates, NoPit> {
    // SAFETY: the boot processor owns the PIT and port 0x61; the speaker stays off.
    unsafe {
        let gate = port::read_u8(PIT_GATE) & !SPEAKER & !GATE;
        port::write_u8(PIT_GATE, gate);
        port::write_u8(PIT_COMMAND, CHANNEL_2_ONE_SHOT);
        port::write_u8(PIT_CHANNEL_2, MEASURED_TICKS as u8);
        port::write_u8(PIT_CHANNEL_2, (MEASURED_TICKS >> 8) as u8);
        apic::timer_free_run();
        // The rising gate starts the count.
        port::write_u8(PIT_GATE, gate | GATE);
        let (tsc, timer) = (rdtsc(), apic::timer_elapsed());
        while port::read_u8(PIT_GATE) & OUTPUT == 0 {
            if rdtsc() - tsc > PATIENCE {
                return Err(NoPit);
            }
        }
        let (tsc, timer) = (rdtsc() - tsc, apic::timer_elapsed() - timer);
        port::write_u8(PIT_GATE, gate);
        apic::quiesce();
        let per_second = |ticks: u64| ticks * PIT_HZ / u64::from(MEASURED_TICKS);
        Ok(Rates { tsc_hz: per_second(tsc), apic_timer_hz: per_second(u64::from(timer)) })
    }
}

/// Masks both 8259s: their interrupts are not used, and a stray one must not arrive.
pub fn mask_legacy_pics() {
    const PIC_1_DATA: u16 = 0x21;
    const PIC_2_DATA: u16 = 0xA1;
    // SAFETY: the boot processor owns the PICs; all-ones masks every line.
    unsafe {
        port::write_u8(PIC_1_DATA, u8::MAX);
        port::write_u8(PIC_2_DATA, u8::MAX);
    }
}
