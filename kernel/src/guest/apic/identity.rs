//! Who a guest's processors are to each other, and whom a destination means (SDM Vol. 3A, 11.6.2
//! and 11.12.10).

use super::Mode;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

/// Most processors of one guest: one bit each in a set.
pub const MAX_PROCESSORS: u32 = 64;

/// Processors of a guest, by virtual APIC ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(pub u64);

impl Targets {
    /// The virtual APIC IDs in the set, lowest first.
    #[inline(always)]
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let id = left.trailing_zeros();
            // The lowest bit goes; of nothing, nothing.
            left &= left.wrapping_sub(1);
            (id < MAX_PROCESSORS).then_some(id)
        })
    }

    /// Only this processor.
    pub const fn one(id: u32) -> Self {
        Self(1u64.wrapping_shl(id))
    }

    /// The one with the lowest ID. Delivery with lowest priority goes to one of its targets,
    /// whichever the hardware chooses (SDM Vol. 3A, 11.6.2.4).
    #[must_use]
    pub const fn lowest(self) -> Self {
        Self(self.0 & self.0.wrapping_neg())
    }
}

/// Logical destination register of a virtual APIC ID in x2APIC mode (SDM Vol. 3A, 11.12.10.2).
pub const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xF)
}

/// A destination as a message carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// From an APIC in x2APIC mode.
    Bits32(u32),
    /// From an APIC in xAPIC mode, the IOAPIC, or a device.
    Bits8(u8),
}

/// DFR's model "flat" (SDM Vol. 3A, figure 11-14).
pub(super) const FLAT: u8 = 0b1111;
/// DFR's model "cluster".
const CLUSTER: u8 = 0b0000;

/// What a processor answers to besides its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its APIC's mode.
    pub mode: Mode,
    /// Its logical ID in xAPIC mode: bits 31:24 of LDR.
    pub logical: u8,
    /// The model in xAPIC mode: bits 31:28 of DFR.
    pub model: u8,
}

impl Identity {
    /// After reset (SDM Vol. 3A, 11.4.7.1).
    pub const RESET: Self = Self { mode: Mode::XApic, logical: 0, model: FLAT };

    /// Whether processor `id` is meant by a logical destination that is not the broadcast.
    fn answers(self, id: u32, destination: u32) -> bool {
        match self.mode {
            Mode::Disabled => false,
            // SDM Vol. 3A, 11.12.10.2.
            Mode::X2Apic => {
                let own = logical_id(id);
                destination >> 16 == own >> 16 && destination & own & 0xFFFF != 0
            }
            // SDM Vol. 3A, 11.6.2.2. Models other than these two are not defined.
            Mode::XApic => match (u8::try_from(destination), self.model) {
                (Ok(destination), FLAT) => destination & self.logical != 0,
                (Ok(destination), CLUSTER) => {
                    destination >> 4 == self.logical >> 4 && destination & self.logical & 0xF != 0
                }
                _ => false,
            },
        }
    }

    /// As one number: the logical ID in bits 7:0, the model in 11:8, the mode in 13:12.
    const fn pack(self) -> u32 {
        let mode = match self.mode {
            Mode::Disabled => DISABLED,
            Mode::XApic => XAPIC,
            Mode::X2Apic => X2APIC,
        };
        self.logical as u32 | (self.model as u32 & 0xF) << MODEL_SHIFT | mode
    }

    const fn unpack(value: u32) -> Self {
        let mode = match value & MODE {
            XAPIC => Mode::XApic,
            X2APIC => Mode::X2Apic,
            _ => Mode::Disabled,
        };
        Self { mode, logical: value as u8, model: (value >> MODEL_SHIFT) as u8 & 0xF }
    }
}

const MODEL_SHIFT: u32 = 8;
const MODE: u32 = 0b11 << 12;
const DISABLED: u32 = 0b00 << 12;
const XAPIC: u32 = 0b10 << 12;
const X2APIC: u32 = 0b11 << 12;

/// The identities of all processors of a guest. Each sets its own and reads all others'.
#[derive(Debug)]
pub struct Identities(Box<[AtomicU32]>);

impl Identities {
    /// Processors as after reset, at most [`MAX_PROCESSORS`].
    pub fn new(processors: u32) -> Self {
        let reset = |_| AtomicU32::new(Identity::RESET.pack());
        Self((0..processors.min(MAX_PROCESSORS)).map(reset).collect())
    }

    /// Notes what processor `id` answers to from now on. An ID that is not the guest's is ignored.
    pub fn set(&self, id: u32, identity: Identity) {
        if let Some(cell) = self.0.get(id as usize) {
            cell.store(identity.pack(), Ordering::Release);
        }
    }

    /// Whom a destination means. A processor whose APIC is disabled is meant by none.
    pub fn targets(&self, to: Address, logical: bool) -> Targets {
        let to = match to {
            Address::Bits32(u32::MAX) | Address::Bits8(u8::MAX) => return self.all(),
            Address::Bits32(to) => to,
            Address::Bits8(to) => to.into(),
        };
        if logical {
            self.select(|id, identity| identity.answers(id, to))
        } else {
            self.physical(to)
        }
    }

    /// The processor with this ID.
    pub fn physical(&self, id: u32) -> Targets {
        if self.is_present(id) { Targets::one(id) } else { Targets::default() }
    }

    /// Whether there is a processor with this ID whose APIC is not disabled.
    #[inline(always)]
    pub fn is_present(&self, id: u32) -> bool {
        let cell = self.0.get(id as usize);
        cell.is_some_and(|cell| cell.load(Ordering::Acquire) & MODE != DISABLED)
    }

    /// All processors.
    pub fn all(&self) -> Targets {
        self.select(|_, identity| identity.mode != Mode::Disabled)
    }

    fn select(&self, meant: impl Fn(u32, Identity) -> bool) -> Targets {
        let ids = (0..MAX_PROCESSORS).zip(&self.0);
        Targets(ids.fold(0, |set, (id, cell)| {
            let identity = Identity::unpack(cell.load(Ordering::Acquire));
            if meant(id, identity) { set | Targets::one(id).0 } else { set }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::x2apic;
    use super::*;
    use std::vec::Vec;

    fn xapic(logical: u8, model: u8) -> Identity {
        Identity { mode: Mode::XApic, logical, model }
    }

    fn meant(identities: &Identities, to: Address, logical: bool) -> Vec<u32> {
        identities.targets(to, logical).iter().collect()
    }

    #[test]
    fn an_identity_survives_being_packed() {
        for mode in [Mode::Disabled, Mode::XApic, Mode::X2Apic] {
            for (logical, model) in [(0, 0), (0xFF, 0xF), (0x81, 0x7), (0x5A, 0xA)] {
                let identity = Identity { mode, logical, model };
                assert_eq!(Identity::unpack(identity.pack()), identity);
            }
        }
    }

    #[test]
    fn physical_destinations_name_one_processor_in_either_mode() {
        for identities in [x2apic(4), Identities::new(4)] {
            for id in 0..4 {
                assert_eq!(meant(&identities, Address::Bits32(id), false), [id]);
                assert_eq!(meant(&identities, Address::Bits8(id as u8), false), [id]);
            }
            for nobody in [4, 63, 64, 0xFF, 0x100, 1 << 24, u32::MAX - 1] {
                assert_eq!(meant(&identities, Address::Bits32(nobody), false), []);
            }
            assert_eq!(meant(&identities, Address::Bits8(0xFE), false), []);
            for logical in [false, true] {
                assert_eq!(meant(&identities, Address::Bits8(0xFF), logical), [0, 1, 2, 3]);
                assert_eq!(meant(&identities, Address::Bits32(u32::MAX), logical), [0, 1, 2, 3]);
            }
        }
    }

    #[test]
    fn logical_destinations_in_x2apic_mode_name_members_of_a_cluster() {
        let identities = x2apic(20);
        assert_eq!(meant(&identities, Address::Bits32(0b0101), true), [0, 2]);
        assert_eq!(meant(&identities, Address::Bits8(0b0101), true), [0, 2]);
        assert_eq!(meant(&identities, Address::Bits32(0x0001_0002), true), [17]);
        assert_eq!(meant(&identities, Address::Bits32(0x0001_FFFF), true), [16, 17, 18, 19]);
        assert_eq!(meant(&identities, Address::Bits32(0x0002_0001), true), []);
        assert_eq!(logical_id(17), 0x0001_0002);
        let identities = x2apic(MAX_PROCESSORS);
        for id in 0..MAX_PROCESSORS {
            assert_eq!(meant(&identities, Address::Bits32(logical_id(id)), true), [id]);
        }
    }

    #[test]
    fn the_flat_model_compares_bits() {
        let identities = Identities::new(4);
        assert_eq!(meant(&identities, Address::Bits8(0x7F), true), [], "nobody has an LDR yet");
        for (id, logical) in [(0, 0b0001), (1, 0b0010), (2, 0b1010), (3, 0)] {
            identities.set(id, xapic(logical, FLAT));
        }
        assert_eq!(meant(&identities, Address::Bits8(0b0001), true), [0]);
        assert_eq!(meant(&identities, Address::Bits8(0b0010), true), [1, 2]);
        assert_eq!(meant(&identities, Address::Bits8(0b1001), true), [0, 2]);
        assert_eq!(meant(&identities, Address::Bits8(0), true), []);
        assert_eq!(meant(&identities, Address::Bits32(0x0001_0001), true), [], "more than 8 bits");
    }

    #[test]
    fn the_cluster_model_compares_the_cluster_first() {
        let identities = Identities::new(4);
        for (id, logical) in [(0, 0x11), (1, 0x12), (2, 0x21), (3, 0x2F)] {
            identities.set(id, xapic(logical, CLUSTER));
        }
        assert_eq!(meant(&identities, Address::Bits8(0x11), true), [0]);
        assert_eq!(meant(&identities, Address::Bits8(0x13), true), [0, 1]);
        assert_eq!(meant(&identities, Address::Bits8(0x21), true), [2, 3]);
        assert_eq!(meant(&identities, Address::Bits8(0x31), true), []);
        assert_eq!(meant(&identities, Address::Bits8(0x10), true), []);
    }

    /// Each target compares by its own mode and model.
    #[test]
    fn modes_and_models_can_be_mixed() {
        let identities = x2apic(4);
        identities.set(1, xapic(0x02, FLAT));
        identities.set(2, xapic(0x04, CLUSTER));
        identities.set(3, xapic(0x0F, 0b1010));
        assert_eq!(meant(&identities, Address::Bits8(0x0F), true), [0, 1, 2]);
        assert_eq!(meant(&identities, Address::Bits8(0xF0), true), []);
    }

    #[test]
    fn a_disabled_processor_is_meant_by_nothing() {
        let identities = x2apic(3);
        identities.set(1, Identity { mode: Mode::Disabled, logical: 0xFF, model: FLAT });
        assert_eq!(meant(&identities, Address::Bits32(1), false), []);
        assert_eq!(meant(&identities, Address::Bits32(2), true), []);
        assert_eq!(meant(&identities, Address::Bits8(0xFF), false), [0, 2]);
        assert_eq!(identities.all().iter().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_set_is_walked_from_the_lowest_and_has_one_lowest() {
        assert_eq!(Targets(1 << 63 | 0b1010).iter().collect::<Vec<_>>(), [1, 3, 63]);
        assert_eq!(Targets(1 << 63 | 0b1010).lowest(), Targets::one(1));
        assert_eq!(Targets::default().lowest(), Targets::default());
    }
}
