//! Rates of the TSC and the APIC timer, so that a guest needs no other timer to calibrate by.

use super::{CpuidResult, GuestCpu, NOTHING};

const KILO: u64 = 1_000;
const MEGA: u64 = 1_000_000;
/// Leaf 0x16: frequencies are 16 bits wide.
const MOST_MEGAHERTZ: u64 = 0xFFFF;

/// Leaf 0x15: the crystal's rate, which is the APIC timer's, in ECX, and the TSC's in relation to it
/// as EBX / EAX.
///
/// Linux (`native_calibrate_tsc`) cuts the crystal to whole kHz, so it is rounded to that here
/// and the fraction made to fit; and multiplies it with the numerator in 32 bits, so the fraction is
/// one that cannot overflow there. It is exact where both rates are round; measured rates
/// come out within `crystal_khz / 2^32` (6 millionths for 24 MHz), below what measuring is worth.
pub(super) fn crystal(guest: &GuestCpu) -> CpuidResult {
    let rounding = (guest.apic_timer_hz % KILO) / (KILO / 2);
    let kilohertz = (guest.apic_timer_hz / KILO).saturating_add(rounding);
    let Ok(crystal) = u32::try_from(kilohertz.saturating_mul(KILO)) else { return NOTHING };
    if crystal == 0 || guest.tsc_hz == 0 {
        return NOTHING;
    }
    let Some(most) = u64::from(u32::MAX).checked_div(kilohertz) else { return NOTHING };
    let (numerator, denominator) = approximate(guest.tsc_hz, crystal.into(), most);
    match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(ebx @ 1..), Ok(eax @ 1..)) => CpuidResult { eax, ebx, ecx: crystal, edx: 0 },
        _ => NOTHING,
    }
}

/// Leaf 0x16: base and maximum frequency; the bus's is not given.
pub(super) fn megahertz(guest: &GuestCpu) -> CpuidResult {
    let megahertz = (guest.tsc_hz / MEGA).min(MOST_MEGAHERTZ) as u32;
    CpuidResult { eax: megahertz, ebx: megahertz, ..NOTHING }
}

/// A fraction close to `a / b` whose parts are at most `most`, from its continued fraction: the last
/// convergent that is small enough, or what lies between it and the next where that is
/// closer. Neither `a` nor `b` is zero.
fn approximate(a: u64, b: u64, most: u64) -> (u64, u64) {
    let (mut a, mut b) = (a, b);
    let (mut before, mut last) = ((0, 1), (1, 0));
    while let (Some(quotient), Some(rest)) = (a.checked_div(b), a.checked_rem(b)) {
        // How often the last convergent can be added before a part gets too large.
        let room = |before: u64, last: u64| {
            most.saturating_sub(before).checked_div(last).unwrap_or(quotient)
        };
        let times = quotient.min(room(before.0, last.0)).min(room(before.1, last.1));
        // Less than half of the way is farther off than the last convergent; and a fraction
        // whose whole part does not fit has none: 1/0 stays.
        if times < quotient && (times <= quotient / 2 || last.1 == 0) {
            break;
        }
        let next = |before: u64, last: u64| times.saturating_mul(last).saturating_add(before);
        (before, last) = (last, (next(before.0, last.0), next(before.1, last.1)));
        if times < quotient {
            break;
        }
        (a, b) = (b, rest);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(tsc_hz: u64, apic_timer_hz: u64) -> CpuidResult {
        let guest = GuestCpu { tsc_hz, apic_timer_hz, ..super::super::tests::GUEST };
        crystal(&guest)
    }

    #[test]
    fn common_rates_are_exact() {
        for (tsc_hz, apic_timer_hz, numerator, denominator) in [
            (10_000_000, 10_000_000, 1, 1), // Bochs
            (3_000_000_000, 24_000_000, 125, 1),
            (2_995_200_000, 38_400_000, 78, 1),
            (2_100_000_000, 25_000_000, 84, 1),
            (3_300_000_000, 24_000_000, 275, 2),
            (5_200_000_000, 100_000_000, 52, 1),
        ] {
            let leaf = rates(tsc_hz, apic_timer_hz);
            assert_eq!(
                (leaf.ebx, leaf.eax, u64::from(leaf.ecx)),
                (numerator, denominator, apic_timer_hz)
            );
            assert_eq!(leaf.edx, 0);
        }
    }

    #[test]
    fn rates_that_do_not_fit_are_not_given() {
        for (tsc_hz, apic_timer_hz) in
            [(0, 1), (1, 0), (1, 1 << 32), (u64::MAX, 1), (5 << 40, 1_000_000)]
        {
            assert_eq!(rates(tsc_hz, apic_timer_hz), NOTHING, "{tsc_hz} {apic_timer_hz}");
        }
        let guest = GuestCpu { tsc_hz: u64::MAX, ..super::super::tests::GUEST };
        assert_eq!(megahertz(&guest).eax, 0xFFFF);
    }

    proptest! {
        /// As Linux computes it (`native_calibrate_tsc`), with measured, crooked rates.
        #[test]
        fn linux_finds_the_rates(
            tsc_hz in 5_000_000u64..6_000_000_000, apic_timer_hz in 5_000_000u64..400_000_000,
        ) {
            prop_assume!(tsc_hz >= apic_timer_hz);
            let leaf = rates(tsc_hz, apic_timer_hz);
            let crystal_khz = leaf.ecx / 1000;
            let tsc_khz = crystal_khz.checked_mul(leaf.ebx).expect("no overflow") / leaf.eax;
            // The fraction's error, and the result's being cut to kHz.
            let error = tsc_hz as f64 / 1e3 - f64::from(tsc_khz);
            let limit = tsc_hz as f64 / 1e3 * f64::from(crystal_khz) / (1u64 << 32) as f64;
            prop_assert!(error.abs() <= limit + 1.0, "{error} {limit} {leaf:?}");
            prop_assert!(u64::from(leaf.ecx).abs_diff(apic_timer_hz) <= 500);
        }

        #[test]
        fn no_rates_make_it_panic(tsc_hz: u64, apic_timer_hz: u64) {
            let _ = rates(tsc_hz, apic_timer_hz);
            let _ = rates(tsc_hz, apic_timer_hz >> 32);
        }
    }
}
