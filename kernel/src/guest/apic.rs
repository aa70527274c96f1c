//! The guest's view of its x2APICs.
//!
//! Guests see APIC IDs 0 to n-1, which stand for the physical cores they were
//! given. Nearly all registers are passed through; trapped are those in which an ID
//! occurs (ID, LDR, ICR), and those that could make the processor deliver what a
//! guest must not have delivered (the local vector table).

use crate::arch::apic::{LVT_MASKED, LVT_PERIODIC, register};

/// Most processors of one guest: one bit each in a set.
pub const MAX_PROCESSORS: u32 = 64;

/// Processors of a guest, by virtual APIC ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(pub u64);

impl Targets {
    /// The virtual APIC IDs in the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..MAX_PROCESSORS).filter(move |id| self.0 >> id & 1 != 0)
    }

    fn all(processors: u32) -> Self {
        Self(u64::MAX.checked_shr(MAX_PROCESSORS.saturating_sub(processors)).unwrap_or(0))
    }
}

/// Destination that means "all" in x2APIC mode (SDM Vol. 3A, 11.12.9).
const BROADCAST: u32 = u32::MAX;
/// Destination that means "all" in the IOAPIC's 8 bits.
const BROADCAST_8: u8 = u8::MAX;

/// Logical destination register of a virtual APIC ID (SDM Vol. 3A, 11.12.10.2).
pub const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xF)
}

/// Who is meant by a destination in x2APIC mode.
pub fn destination(destination: u32, logical: bool, processors: u32) -> Targets {
    let all = Targets::all(processors);
    if destination == BROADCAST {
        all
    } else if logical {
        let (cluster, members) = (destination >> 16, u64::from(destination & 0xFFFF));
        let shifted = if cluster < MAX_PROCESSORS / 16 { members << (cluster * 16) } else { 0 };
        Targets(shifted & all.0)
    } else {
        Targets(1u64.checked_shl(destination).unwrap_or(0) & all.0)
    }
}

/// Who is meant by an IOAPIC's or a message's 8-bit destination.
pub fn destination_8(to: u8, logical: bool, processors: u32) -> Targets {
    let to = if to == BROADCAST_8 { BROADCAST } else { u32::from(to) };
    destination(to, logical, processors)
}

/// What an ICR write asks to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An interrupt with this vector.
    Fixed(u8),
    /// An NMI.
    Nmi,
    /// INIT: the processor goes back to waiting for a start-up IPI.
    Init,
    /// Start in real mode at this page.
    Startup(u8),
    /// Nothing: INIT level de-assert, which processors since the Pentium 4 ignore.
    Nothing,
    /// A mode that a guest may not use, SMI or a reserved one, or reserved bits: #GP.
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

impl Command {
    /// Decodes a write of `icr` (SDM Vol. 3A, 11.6.1 and 11.12.9) by processor `own` of a guest
    /// with `processors` of them.
    pub fn decode(icr: u64, own: u32, processors: u32) -> Self {
        if icr & ICR_RESERVED != 0 {
            return Self { delivery: Delivery::Refused, targets: Targets::default() };
        }
        let vector = icr as u8;
        let level_assert = icr >> 14 & 1 != 0;
        let delivery = match icr >> 8 & 0b111 {
            // Lowest priority: any of the targets may be chosen; here all are, as on
            // processors that do not support it. Guests are told not to use it.
            0b000 | 0b001 => Delivery::Fixed(vector),
            0b100 => Delivery::Nmi,
            0b101 if level_assert => Delivery::Init,
            0b101 => Delivery::Nothing,
            0b110 => Delivery::Startup(vector),
            _ => Delivery::Refused,
        };
        let all = Targets::all(processors);
        let itself = Targets(1u64.checked_shl(own).unwrap_or(0));
        let targets = match icr >> 18 & 0b11 {
            0b00 => destination((icr >> 32) as u32, icr >> 11 & 1 != 0, processors),
            0b01 => itself,
            0b10 => all,
            _ => Targets(all.0 & !itself.0),
        };
        Self { delivery, targets }
    }
}

/// What becomes of a write to an entry of the local vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvtWrite {
    /// This value goes to the physical register.
    Pass(u64),
    /// This value is kept, to be read back; the physical entry stays masked.
    Keep(u64),
    /// #GP.
    Fault,
}

/// Bits of an LVT entry (SDM Vol. 3A, figure 11-8): vector, delivery mode, delivery status (read
/// only: a write is ignored), polarity, remote IRR, trigger mode.
const LVT_VECTOR: u64 = 0xFF;
const LVT_DELIVERY: u64 = 0b111 << 8;
const LVT_STATUS: u64 = 1 << 12;
const LVT_PIN: u64 = 0b111 << 13;
/// What a guest may write to the timer's entry. Not bit 18, TSC-deadline mode, which is hidden. In
/// x2APIC mode a reserved bit is #GP, here as in the hardware, where it would be ours.
const TIMER_WRITABLE: u64 = LVT_VECTOR | LVT_STATUS | LVT_MASKED | LVT_PERIODIC;
/// What a guest may write to the error entry.
const ERROR_WRITABLE: u64 = LVT_VECTOR | LVT_STATUS | LVT_MASKED;
/// What a guest may write to the entries that are kept.
const KEPT_WRITABLE: u64 = LVT_VECTOR | LVT_DELIVERY | LVT_STATUS | LVT_PIN | LVT_MASKED;
/// Reserved bits of ICR in x2APIC mode (SDM Vol. 3A, figure 11-28).
const ICR_RESERVED: u64 = 0xFFF << 20 | 0b11 << 16 | 1 << 13;

/// Judges a write to an LVT register.
///
/// The timer and error entries interrupt the guest's own core with a vector, no
/// more, and go to the hardware. The others can carry NMI, SMI or ExtINT, or
/// belong to what guests are not given (machine checks, performance counters):
/// they are kept, and never take effect.
pub fn lvt_write(msr: u32, value: u64) -> LvtWrite {
    let (writable, outcome) = match msr {
        register::LVT_TIMER => (TIMER_WRITABLE, LvtWrite::Pass(value & !LVT_STATUS)),
        register::LVT_ERROR => (ERROR_WRITABLE, LvtWrite::Pass(value & !LVT_STATUS)),
        _ => (KEPT_WRITABLE, LvtWrite::Keep(value & !LVT_STATUS)),
    };
    if value & !writable == 0 { outcome } else { LvtWrite::Fault }
}

/// The LVT entries that are kept.
const KEPT: [u32; 5] = [
    register::LVT_CMCI,
    register::LVT_THERMAL,
    register::LVT_PERFORMANCE,
    register::LVT_LINT0,
    register::LVT_LINT1,
];

/// What a guest processor has written to registers that do not reach the hardware.
#[derive(Clone, Debug)]
pub struct Shadow {
    kept: [u64; KEPT.len()],
    /// Last value written to ICR.
    pub icr: u64,
}

impl Shadow {
    /// After reset every LVT entry is masked.
    pub const fn new() -> Self {
        Self { kept: [LVT_MASKED; KEPT.len()], icr: 0 }
    }

    /// The kept entry behind an MSR.
    pub fn kept(&mut self, msr: u32) -> Option<&mut u64> {
        KEPT.iter().position(|&kept| kept == msr).map(|index| &mut self.kept[index])
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(icr: u64, own: u32, processors: u32) -> std::vec::Vec<u32> {
        Command::decode(icr, own, processors).targets.iter().collect()
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

    #[test]
    fn physical_destinations_name_one_processor() {
        assert_eq!(targets(1 << 32 | 0x30, 0, 4), [1]);
        assert_eq!(targets(4 << 32 | 0x30, 0, 4), []);
        assert_eq!(targets(u64::from(u32::MAX) << 32 | 0x30, 0, 3), [0, 1, 2]);
    }

    #[test]
    fn logical_destinations_name_members_of_a_cluster() {
        assert_eq!(targets(0b0101 << 32 | 1 << 11, 0, 4), [0, 2]);
        assert_eq!(targets(0x0001_0002 << 32 | 1 << 11, 0, 20), [17]);
        assert_eq!(logical_id(17), 0x0001_0002);
        for id in 0..MAX_PROCESSORS {
            let set = destination(logical_id(id), true, MAX_PROCESSORS);
            assert_eq!(set, Targets(1 << id));
        }
    }

    #[test]
    fn shorthands_override_the_destination() {
        assert_eq!(targets(9 << 32 | 0b01 << 18, 2, 4), [2]);
        assert_eq!(targets(9 << 32 | 0b10 << 18, 2, 4), [0, 1, 2, 3]);
        assert_eq!(targets(9 << 32 | 0b11 << 18, 2, 4), [0, 1, 3]);
    }

    #[test]
    fn delivery_modes_are_told_apart() {
        let delivery = |icr| Command::decode(icr, 0, 1).delivery;
        assert_eq!(delivery(0x0_00FD), Delivery::Fixed(0xFD));
        assert_eq!(delivery(0x0_0400), Delivery::Nmi);
        assert_eq!(delivery(0x0_4500), Delivery::Init);
        assert_eq!(delivery(0x0_8500), Delivery::Nothing);
        assert_eq!(delivery(0x0_4699), Delivery::Startup(0x99));
        assert_eq!(delivery(0x0_0200), Delivery::Refused, "SMI");
        assert_eq!(delivery(0x0_0700), Delivery::Refused, "ExtINT");
    }

    /// Every bit in turn: whatever is passed on must be valid for the hardware, where a
    /// reserved bit would fault in root mode.
    #[test]
    fn no_lvt_write_reaches_the_hardware_but_plain_vectors() {
        for (msr, passed) in [(register::LVT_TIMER, 0x300FF), (register::LVT_ERROR, 0x100FF)] {
            for bit in 0..64 {
                let expected = match 1u64 << bit {
                    LVT_STATUS => LvtWrite::Pass(0),
                    value if value & passed != 0 => LvtWrite::Pass(value),
                    _ => LvtWrite::Fault,
                };
                assert_eq!(lvt_write(msr, 1 << bit), expected, "{msr:#x} bit {bit}");
            }
        }
        for msr in KEPT {
            assert_eq!(lvt_write(msr, 0x400), LvtWrite::Keep(0x400), "NMI");
            for reserved in (17..64).chain([11]) {
                assert_eq!(lvt_write(msr, 1 << reserved), LvtWrite::Fault);
            }
            *Shadow::new().kept(msr).unwrap() = 1;
        }
        assert_eq!(Shadow::new().kept(register::LVT_TIMER), None);
    }

    #[test]
    fn reserved_bits_of_the_icr_are_refused() {
        for bit in (0..32).filter(|&bit| ICR_RESERVED >> bit & 1 != 0) {
            assert_eq!(Command::decode(1 << bit | 0x30, 0, 1).delivery, Delivery::Refused);
        }
        assert_eq!(Command::decode(LVT_STATUS | 0x30, 0, 1).delivery, Delivery::Fixed(0x30));
    }
}
