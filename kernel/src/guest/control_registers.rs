//! CR0 and CR4: which bits are the guest's, and what a trapped write means.

use crate::arch::cpu::{cr0, cr4, efer};

/// Bits of CR0 that the hypervisor owns. NE must be 1 in VMX operation (SDM Vol. 3C, 24.8); CD
/// and NW would take the caches of memory that is shared with the hypervisor.
pub const CR0_OWNED: u64 = cr0::NE | cr0::CD | cr0::NW;

/// Bits of CR0 that the manual defines.
const CR0_DEFINED: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;

/// Bits of CR4 that a guest may set, where the processor has them. Each is harmless: it
/// changes how the guest's own code runs.
pub const CR4_ALLOWED: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::PGE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP;

/// Bits of CR4 that the hypervisor owns: all others. VMXE is 1 and reads as 0.
pub const CR4_OWNED: u64 = !CR4_ALLOWED;

/// The instruction is #GP(0) in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// What a write to CR0 depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// CR0 as the guest reads it.
    pub cr0: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// CS.L: the code segment is a 64-bit one.
    pub cs_long: bool,
    /// TR holds a 16-bit TSS.
    pub tss_16_bit: bool,
}

/// What a write to CR0 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cr0Write {
    /// CR0 to be in force.
    pub cr0: u64,
    /// What the guest reads.
    pub shadow: u64,
    /// EFER, whose LMA follows PG where LME is set.
    pub efer: u64,
}

/// A write to CR0 that changes a bit which the hypervisor owns (SDM Vol. 3A, 2.5 and 4.1.2).
pub fn write_cr0(value: u64, mode: &Mode) -> Result<Cr0Write, GeneralProtection> {
    let set = |bit: u64| value & bit != 0;
    let was = |bit: u64| mode.cr0 & bit != 0;
    let paging_without_protection = set(cr0::PG) && !set(cr0::PE);
    let no_write_through_with_caching = set(cr0::NW) && !set(cr0::CD);
    if value >> 32 != 0 || paging_without_protection || no_write_through_with_caching {
        return Err(GeneralProtection);
    }
    let mut new_efer = mode.efer;
    if set(cr0::PG) && !was(cr0::PG) && mode.efer & efer::LME != 0 {
        if mode.cr4 & cr4::PAE == 0 || mode.cs_long || mode.tss_16_bit {
            return Err(GeneralProtection);
        }
        new_efer |= efer::LMA;
    }
    if !set(cr0::PG) && was(cr0::PG) {
        if mode.cr4 & cr4::PCIDE != 0 || (mode.efer & efer::LMA != 0 && mode.cs_long) {
            return Err(GeneralProtection);
        }
        new_efer &= !efer::LMA;
    }
    // Reserved bits of the lower half are ignored (SDM Vol. 2B, MOV to control registers).
    let shadow = value & CR0_DEFINED | cr0::ET;
    Ok(Cr0Write { cr0: shadow & !(cr0::CD | cr0::NW) | cr0::NE, shadow, efer: new_efer })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Mode = Mode {
        cr0: cr0::PE | cr0::PG | cr0::ET | cr0::NE,
        cr4: cr4::PAE,
        efer: efer::LME | efer::LMA,
        cs_long: true,
        tss_16_bit: false,
    };

    #[test]
    fn what_vmx_needs_stays_set_whatever_the_guest_writes() {
        let write = write_cr0(LONG.cr0 & !cr0::NE | cr0::CD, &LONG).unwrap();
        assert_eq!(write.cr0 & (cr0::NE | cr0::CD | cr0::NW), cr0::NE);
        assert_eq!(write.shadow & (cr0::NE | cr0::CD), cr0::CD, "the guest reads what it wrote");
        let reserved = write_cr0(LONG.cr0 | 1 << 10, &LONG).unwrap();
        assert_eq!((reserved.cr0, reserved.shadow), (LONG.cr0, LONG.cr0));
        assert_eq!(write.efer, LONG.efer);
    }

    #[test]
    fn what_faults_on_a_processor_faults_here() {
        for bad in [
            cr0::PG,
            LONG.cr0 | cr0::NW,
            LONG.cr0 | 1 << 32,
            // Paging off in 64-bit code.
            cr0::PE | cr0::CD,
        ] {
            assert_eq!(write_cr0(bad, &LONG), Err(GeneralProtection), "{bad:#x}");
        }
    }

    #[test]
    fn long_mode_follows_paging() {
        let compatibility = Mode { cs_long: false, ..LONG };
        let off = write_cr0(cr0::PE, &compatibility).unwrap();
        assert_eq!(off.efer, efer::LME);
        let before = Mode { cr0: cr0::PE, efer: efer::LME, ..compatibility };
        assert_eq!(write_cr0(LONG.cr0, &before).unwrap().efer, efer::LME | efer::LMA);
        let with_old_tss = Mode { tss_16_bit: true, ..before };
        assert_eq!(write_cr0(LONG.cr0, &with_old_tss), Err(GeneralProtection));
        let without_pae = Mode { cr4: 0, ..before };
        assert_eq!(write_cr0(LONG.cr0, &without_pae), Err(GeneralProtection));
        let with_pcid = Mode { cr4: cr4::PAE | cr4::PCIDE, ..compatibility };
        assert_eq!(write_cr0(cr0::PE, &with_pcid), Err(GeneralProtection));
    }
}
