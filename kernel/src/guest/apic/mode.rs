//! The modes of a local APIC, and the ways between them (SDM Vol. 3A, 11.12.5).

use super::super::control_registers::GeneralProtection;
use super::super::layout;
use crate::arch::apic::{BASE_BSP, BASE_ENABLE, BASE_X2APIC};

/// What a guest's APIC is: `IA32_APIC_BASE`'s bits EN and EXTD (SDM Vol. 3A, table 11-5). The
/// hardware's stays in x2APIC mode throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Neither page nor MSRs, and no interrupt arrives.
    Disabled,
    /// Registers are memory at [`layout::LOCAL_APIC`].
    XApic,
    /// Registers are MSRs 0x800 to 0x8FF.
    X2Apic,
}

impl Mode {
    /// `IA32_APIC_BASE` in this mode; `boot` for the boot processor (SDM Vol. 3A, 11.4.4).
    pub const fn base(self, boot: bool) -> u64 {
        let mode = match self {
            Self::Disabled => 0,
            Self::XApic => BASE_ENABLE,
            Self::X2Apic => BASE_ENABLE | BASE_X2APIC,
        };
        let boot = if boot { BASE_BSP } else { 0 };
        layout::LOCAL_APIC | mode | boot
    }

    /// The mode after a write of `value` to `IA32_APIC_BASE`.
    ///
    /// # Errors
    /// Reserved bits; EXTD without EN; a way that there is not (SDM Vol. 3A, 11.12.5); also another
    /// address than that after reset, and another BSP flag, which are not offered.
    pub fn write_base(self, value: u64, boot: bool) -> Result<Self, GeneralProtection> {
        [Self::Disabled, Self::XApic, Self::X2Apic]
            .into_iter()
            .find(|mode| mode.base(boot) == value)
            .filter(|&mode| self.leads_to(mode))
            .ok_or(GeneralProtection)
    }

    /// Whether software may go from this mode to another (SDM Vol. 3A, figure 11-27).
    const fn leads_to(self, to: Self) -> bool {
        match (self, to) {
            (Self::Disabled, Self::Disabled | Self::XApic) | (Self::XApic, _) => true,
            (Self::X2Apic, Self::X2Apic | Self::Disabled) => true,
            (Self::Disabled, Self::X2Apic) | (Self::X2Apic, Self::XApic) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Mode; 3] = [Mode::Disabled, Mode::XApic, Mode::X2Apic];

    #[test]
    fn every_pair_of_modes_is_as_in_the_manuals_figure() {
        let allowed = [
            (Mode::Disabled, Mode::Disabled, true),
            (Mode::Disabled, Mode::XApic, true),
            (Mode::Disabled, Mode::X2Apic, false),
            (Mode::XApic, Mode::Disabled, true),
            (Mode::XApic, Mode::XApic, true),
            (Mode::XApic, Mode::X2Apic, true),
            (Mode::X2Apic, Mode::Disabled, true),
            (Mode::X2Apic, Mode::XApic, false),
            (Mode::X2Apic, Mode::X2Apic, true),
        ];
        for (from, to, allowed) in allowed {
            for boot in [false, true] {
                let expected = if allowed { Ok(to) } else { Err(GeneralProtection) };
                assert_eq!(from.write_base(to.base(boot), boot), expected, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn the_base_is_that_after_reset() {
        assert_eq!(Mode::XApic.base(true), 0xFEE0_0900);
        assert_eq!(Mode::XApic.base(false), 0xFEE0_0800);
        assert_eq!(Mode::X2Apic.base(true), 0xFEE0_0D00);
        assert_eq!(Mode::Disabled.base(true), 0xFEE0_0100);
    }

    /// Each bit in turn is reserved, of the address, the BSP flag or the mode.
    #[test]
    fn no_other_bit_can_be_changed() {
        for mode in ALL {
            for bit in (0..64).filter(|bit| ![10, 11].contains(bit)) {
                let value = mode.base(true) ^ 1 << bit;
                assert_eq!(mode.write_base(value, true), Err(GeneralProtection), "bit {bit}");
            }
            let invalid = mode.base(true) & !BASE_ENABLE | BASE_X2APIC;
            assert_eq!(mode.write_base(invalid, true), Err(GeneralProtection), "EXTD without EN");
        }
    }
}
