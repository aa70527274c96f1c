//! The interrupt command register: what a guest asks to be sent (SDM Vol. 3A, 11.6.1 and 11.12.9).

use super::identity::{Address, Identities, Targets};

/// Vectors below are not legal in an interrupt (SDM Vol. 3A, 11.5.2).
const FIRST_VECTOR: u8 = 16;

/// Where the fields of the register begin (SDM Vol. 3A, figures 11-12 and 11-28).
const DELIVERY_SHIFT: u32 = 8;
const SHORTHAND_SHIFT: u32 = 18;
/// Destination mode: logical.
const LOGICAL: u32 = 1 << 11;
/// Destination shorthand: self, where the other of its two bits is clear.
const SELF: u32 = 1 << SHORTHAND_SHIFT;
/// Trigger mode, which matters to INIT alone.
const TRIGGER: u32 = 1 << 15;
/// Level: assert.
const ASSERT: u32 = 1 << 14;
/// Reserved bits of the lower half.
const RESERVED: u32 = 0xFFF << 20 | 0b11 << 16 | 1 << 13;
/// Delivery status: read only, and always idle here.
const STATUS: u32 = 1 << 12;
/// The destination's place in the upper half in xAPIC mode.
const DESTINATION_8_SHIFT: u32 = 24;

/// What a guest may write to the lower half in xAPIC mode, where other bits are ignored.
pub(super) const WRITABLE: u32 = !(RESERVED | STATUS);
/// The same for the upper half.
pub(super) const WRITABLE_HIGH: u32 = 0xFF << DESTINATION_8_SHIFT;

/// What an ICR write asks to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An interrupt with this vector, 16 to 255.
    Fixed(u8),
    /// An interrupt with a vector from 0 to 15: an error of the sender's, in its ESR, and nothing
    /// else (SDM Vol. 3A, 11.5.3).
    IllegalVector(u8),
    /// An NMI.
    Nmi,
    /// INIT: the processor goes back to waiting for a start-up IPI.
    Init,
    /// Start in real mode at this page.
    Startup(u8),
    /// Nothing: INIT level de-assert, which processors since the Pentium 4 ignore.
    Nothing,
    /// A mode that a guest may not use, SMI or a reserved one, or reserved bits: #GP in x2APIC mode.
    Refused,
}

/// An ICR write, decoded and confined to the guest's own processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What.
    pub delivery: Delivery,
    /// To whom.
    pub targets: Targets,
}

/// An interrupt for one processor, which is what nearly all commands of a system in x2APIC mode are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The processor.
    pub id: u32,
    /// 16 to 255.
    pub vector: u8,
}

impl Plain {
    /// Recognises it in a write of `icr` by processor `own` in x2APIC mode, with few instructions:
    /// fixed delivery to an ID or to oneself. `None` says nothing of what else it may be.
    #[inline(always)]
    pub fn decode(icr: u64, own: u32, identities: &Identities) -> Option<Self> {
        let low = icr as u32;
        let vector = low as u8;
        if low & !(0xFF | STATUS | ASSERT | TRIGGER | SELF) != 0 || vector < FIRST_VECTOR {
            return None;
        }
        let id = if low & SELF != 0 { own } else { (icr >> u32::BITS) as u32 };
        identities.is_present(id).then_some(Self { id, vector })
    }
}

impl Command {
    /// Decodes a write of `icr` by processor `own` in x2APIC mode.
    pub fn decode(icr: u64, own: u32, identities: &Identities) -> Self {
        let low = icr as u32;
        if low & RESERVED != 0 {
            return Self { delivery: Delivery::Refused, targets: Targets::default() };
        }
        Self::new(low, Address::Bits32((icr >> u32::BITS) as u32), own, identities)
    }

    /// Decodes a write of `icr` by processor `own` in xAPIC mode: both halves.
    pub fn decode_xapic(icr: u64, own: u32, identities: &Identities) -> Self {
        let to = (icr >> u32::BITS) as u32 >> DESTINATION_8_SHIFT;
        Self::new(icr as u32 & WRITABLE, Address::Bits8(to as u8), own, identities)
    }

    fn new(low: u32, to: Address, own: u32, identities: &Identities) -> Self {
        let targets = match low >> SHORTHAND_SHIFT & 0b11 {
            0b00 => identities.targets(to, low & LOGICAL != 0),
            0b01 => identities.physical(own),
            0b10 => identities.all(),
            _ => Targets(identities.all().0 & !Targets::one(own).0),
        };
        let vector = low as u8;
        let fixed = if vector < FIRST_VECTOR {
            Delivery::IllegalVector(vector)
        } else {
            Delivery::Fixed(vector)
        };
        match low >> DELIVERY_SHIFT & 0b111 {
            0b000 => Self { delivery: fixed, targets },
            0b001 => Self { delivery: fixed, targets: targets.lowest() },
            0b100 => Self { delivery: Delivery::Nmi, targets },
            0b101 if low & ASSERT != 0 => Self { delivery: Delivery::Init, targets },
            0b101 => Self { delivery: Delivery::Nothing, targets },
            0b110 => Self { delivery: Delivery::Startup(vector), targets },
            _ => Self { delivery: Delivery::Refused, targets },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::x2apic;
    use super::super::{Identity, Mode};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn targets(icr: u64, own: u32, processors: u32) -> Vec<u32> {
        Command::decode(icr, own, &x2apic(processors)).targets.iter().collect()
    }

    #[test]
    fn every_destination_stays_inside_the_guest() {
        for shorthand in 0..4u64 {
            for logical in 0..2u64 {
                for to in [0, 1, 2, 3, 0xFF, 0xFFFF, 0x1_0001, 0x7FFF_FFFF, u64::from(u32::MAX)] {
                    let icr = to << 32 | shorthand << 18 | logical << 11 | 0x30;
                    assert!(targets(icr, 1, 2).iter().all(|&id| id < 2), "{icr:#x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_stays_inside_the_guest(
            icr: u64, own in 0u32..5, logical: [u8; 5], model: [u8; 5],
        ) {
            let identities = x2apic(5);
            for id in (0..5).filter(|id| model[*id as usize] & 1 != 0) {
                let (logical, model) = (logical[id as usize], model[id as usize] >> 4);
                identities.set(id, Identity { logical, model, ..Identity::RESET });
            }
            for command in [
                Command::decode(icr, own, &identities),
                Command::decode_xapic(icr, own, &identities),
            ] {
                prop_assert!(command.targets.0 < 1 << 5);
                let legal = !matches!(command.delivery, Delivery::Fixed(vector) if vector < 16);
                prop_assert!(legal);
            }
        }
    }

    proptest! {
        /// What is recognised is what the whole register says.
        #[test]
        fn a_plain_interrupt_is_the_command(
            to in prop_oneof![0u64..6, any::<u32>().prop_map(u64::from)],
            low in any::<u32>(), keep in prop_oneof![Just(u32::MAX), Just(0xC_F8FF), Just(0x4_C0FF)],
            own in 0u32..5,
        ) {
            let identities = x2apic(5);
            identities.set(3, Identity { mode: Mode::Disabled, ..Identity::RESET });
            let icr = to << 32 | u64::from(low & keep);
            let command = Command::decode(icr, own, &identities);
            if let Some(Plain { id, vector }) = Plain::decode(icr, own, &identities) {
                let targets = Targets::one(id);
                prop_assert_eq!(command, Command { delivery: Delivery::Fixed(vector), targets });
            }
        }
    }

    #[test]
    fn an_interrupt_to_an_id_or_to_oneself_is_plain() {
        let identities = x2apic(4);
        let plain = |icr| Plain::decode(icr, 2, &identities);
        assert_eq!(plain(1 << 32 | 0x30), Some(Plain { id: 1, vector: 0x30 }));
        assert_eq!(plain(1 << 32 | 0x40FD), Some(Plain { id: 1, vector: 0xFD }));
        assert_eq!(plain(9 << 32 | 0x4_0030), Some(Plain { id: 2, vector: 0x30 }));
        for other in [4 << 32 | 0x30, u64::from(u32::MAX) << 32 | 0x30, 0x8_0030, 0xC_0030, 0x0F] {
            assert_eq!(plain(other), None, "{other:#x}");
        }
    }

    #[test]
    fn physical_destinations_name_one_processor() {
        assert_eq!(targets(1 << 32 | 0x30, 0, 4), [1]);
        assert_eq!(targets(4 << 32 | 0x30, 0, 4), []);
        assert_eq!(targets(0xFF << 32 | 0x30, 0, 4), []);
        assert_eq!(targets(u64::from(u32::MAX) << 32 | 0x30, 0, 3), [0, 1, 2]);
    }

    #[test]
    fn destinations_in_xapic_mode_have_8_bits() {
        let identities = Identities::new(3);
        let targets = |icr| Command::decode_xapic(icr, 0, &identities).targets;
        let targets = |icr| targets(icr).iter().collect::<Vec<_>>();
        assert_eq!(targets(2 << 56 | 0x30), [2]);
        assert_eq!(targets(1 << 32 | 0x30), [0], "below bit 56 nothing counts");
        assert_eq!(targets(0xFF << 56 | 0x30), [0, 1, 2]);
        identities.set(1, Identity { logical: 0b100, ..Identity::RESET });
        assert_eq!(targets(0b110 << 56 | 1 << 11 | 0x30), [1]);
    }

    #[test]
    fn shorthands_override_the_destination() {
        assert_eq!(targets(9 << 32 | 0b01 << 18, 2, 4), [2]);
        assert_eq!(targets(9 << 32 | 0b10 << 18, 2, 4), [0, 1, 2, 3]);
        assert_eq!(targets(9 << 32 | 0b11 << 18, 2, 4), [0, 1, 3]);
    }

    #[test]
    fn delivery_modes_are_told_apart() {
        let delivery = |icr| Command::decode(icr, 0, &x2apic(1)).delivery;
        assert_eq!(delivery(0x0_00FD), Delivery::Fixed(0xFD));
        assert_eq!(delivery(0x0_0400), Delivery::Nmi);
        assert_eq!(delivery(0x0_4500), Delivery::Init);
        assert_eq!(delivery(0x0_8500), Delivery::Nothing);
        assert_eq!(delivery(0x0_4699), Delivery::Startup(0x99));
        assert_eq!(delivery(0x0_0200), Delivery::Refused, "SMI");
        assert_eq!(delivery(0x0_0300), Delivery::Refused, "reserved");
        assert_eq!(delivery(0x0_0700), Delivery::Refused, "ExtINT");
    }

    #[test]
    fn lowest_priority_goes_to_one() {
        assert_eq!(targets(0b110 << 32 | 0b001 << 8 | 1 << 11 | 0x30, 0, 4), [1]);
        assert_eq!(targets(0b110 << 32 | 1 << 11 | 0x30, 0, 4), [1, 2]);
        assert_eq!(targets(0b001 << 8 | 0b11 << 18 | 0x30, 0, 4), [1]);
    }

    #[test]
    fn illegal_vectors_are_told_apart() {
        let delivery = |icr| Command::decode(icr, 0, &x2apic(1)).delivery;
        for vector in 0..16u8 {
            assert_eq!(delivery(vector.into()), Delivery::IllegalVector(vector));
            assert_eq!(delivery(0x100 | u64::from(vector)), Delivery::IllegalVector(vector));
        }
        assert_eq!(delivery(16), Delivery::Fixed(16));
        assert_eq!(delivery(0x0_0402), Delivery::Nmi, "an NMI's vector does not matter");
    }

    #[test]
    fn reserved_bits_are_refused_in_x2apic_mode_and_ignored_in_xapic_mode() {
        for bit in (0..32).filter(|&bit| RESERVED >> bit & 1 != 0) {
            let icr = 1 << bit | 0x30;
            assert_eq!(Command::decode(icr, 0, &x2apic(1)).delivery, Delivery::Refused);
            let ignored = Command::decode_xapic(icr, 0, &Identities::new(1));
            assert_eq!(ignored, Command::decode_xapic(0x30, 0, &Identities::new(1)));
        }
        let status = u64::from(STATUS) | 0x30;
        assert_eq!(Command::decode(status, 0, &x2apic(1)).delivery, Delivery::Fixed(0x30));
    }
}
