//! How fast the TSC and the APIC timer run, measured against the PIT.

use super::cpu::{cpuid, rdtsc};
use super::{apic, port};
use core::ops::RangeInclusive;

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
/// TSC ticks after which a PIT that does not answer is given up: some seconds.
const PATIENCE: u64 = 1 << 34;
/// TSC rates that are believed, in Hz: a floating port makes a measurement end at once.
const PLAUSIBLE: RangeInclusive<u64> = 1_000_000..=20_000_000_000;
/// CPUID leaf that has the rates, where the processor fills it in.
const RATES_LEAF: u32 = 0x15;

/// Rates of this machine's clocks, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Time-stamp counter.
    pub tsc_hz: u64,
    /// Local APIC timer with divider 1.
    pub apic_timer_hz: u64,
}

/// The PIT does not count, as on boards that have switched it off, and CPUID does not have the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoClock;

/// Both rates: measured, or where that fails, as CPUID has them. x2APIC mode must be on.
pub fn find() -> Result<Rates, NoClock> {
    let plausible = |rates: &Rates| {
        PLAUSIBLE.contains(&rates.tsc_hz) && PLAUSIBLE.contains(&rates.apic_timer_hz)
    };
    measure().filter(plausible).or_else(|| told().filter(plausible)).ok_or(NoClock)
}

/// What CPUID says (SDM Vol. 3B, 19.7.3): crystal rate and the TSC's ratio to it.
fn told() -> Option<Rates> {
    if cpuid(0, 0).eax < RATES_LEAF {
        return None;
    }
    let leaf = cpuid(RATES_LEAF, 0);
    let (denominator, numerator) = (u64::from(leaf.eax), u64::from(leaf.ebx));
    let crystal = u64::from(leaf.ecx);
    let tsc_hz = (crystal * numerator).checked_div(denominator)?;
    Some(Rates { tsc_hz, apic_timer_hz: crystal })
}

/// Measures both rates over 50 ms; `None` if the PIT never finishes.
fn measure() -> Option<Rates> {
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
            if rdtsc().wrapping_sub(tsc) > PATIENCE {
                return None;
            }
        }
        let (tsc, timer) = (rdtsc().wrapping_sub(tsc), apic::timer_elapsed().wrapping_sub(timer));
        port::write_u8(PIT_GATE, gate);
        apic::quiesce();
        let per_second = |ticks: u64| ticks.saturating_mul(PIT_HZ) / u64::from(MEASURED_TICKS);
        Some(Rates { tsc_hz: per_second(tsc), apic_timer_hz: per_second(u64::from(timer)) })
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
