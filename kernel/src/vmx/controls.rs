//! The VM-execution, VM-exit and VM-entry controls, and how the processor
//! limits them (SDM Vol. 3C, 25.6 to 25.8, and Vol. 3D, appendix A).

use bitflags::bitflags;

bitflags! {
    /// Pin-based VM-execution controls (SDM Vol. 3C, table 25-5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pin: u32 {
        /// External interrupts cause exits.
        const EXTERNAL_INTERRUPT_EXITING = 1 << 0;
        /// NMIs cause exits.
        const NMI_EXITING = 1 << 3;
        /// The guest has an NMI blocking state of its own.
        const VIRTUAL_NMIS = 1 << 5;
        /// A timer that counts down in the guest.
        const PREEMPTION_TIMER = 1 << 6;
    }

    /// Primary processor-based controls (SDM Vol. 3C, table 25-6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Primary: u32 {
        /// RDTSC adds the TSC offset.
        const TSC_OFFSETTING = 1 << 3;
        /// HLT causes exits.
        const HLT_EXITING = 1 << 7;
        /// INVLPG causes exits.
        const INVLPG_EXITING = 1 << 9;
        /// MWAIT causes exits.
        const MWAIT_EXITING = 1 << 10;
        /// RDPMC causes exits.
        const RDPMC_EXITING = 1 << 11;
        /// RDTSC and RDTSCP cause exits.
        const RDTSC_EXITING = 1 << 12;
        /// MOV to CR3 causes exits.
        const CR3_LOAD_EXITING = 1 << 15;
        /// MOV from CR3 causes exits.
        const CR3_STORE_EXITING = 1 << 16;
        /// MOV to CR8 causes exits.
        const CR8_LOAD_EXITING = 1 << 19;
        /// MOV from CR8 causes exits.
        const CR8_STORE_EXITING = 1 << 20;
        /// CR8 and TPR go to a virtual-APIC page.
        const TPR_SHADOW = 1 << 21;
        /// An exit as soon as the guest can take an NMI.
        const NMI_WINDOW_EXITING = 1 << 22;
        /// MOV DR causes exits.
        const MOV_DR_EXITING = 1 << 23;
        /// Every I/O instruction causes an exit.
        const UNCONDITIONAL_IO_EXITING = 1 << 24;
        /// The I/O bitmaps say which ports cause exits.
        const IO_BITMAPS = 1 << 25;
        /// The MSR bitmaps say which MSRs cause exits.
        const MSR_BITMAPS = 1 << 28;
        /// MONITOR causes exits.
        const MONITOR_EXITING = 1 << 29;
        /// PAUSE causes exits.
        const PAUSE_EXITING = 1 << 30;
        /// The secondary controls count.
        const SECONDARY_CONTROLS = 1 << 31;
    }

    /// Secondary processor-based controls (SDM Vol. 3C, table 25-7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Secondary: u32 {
        /// Guest-physical addresses are translated by EPT.
        const EPT = 1 << 1;
        /// RDTSCP works.
        const RDTSCP = 1 << 3;
        /// TLB entries carry a VPID.
        const VPID = 1 << 5;
        /// WBINVD and WBNOINVD cause exits.
        const WBINVD_EXITING = 1 << 6;
        /// Real mode and unpaged protected mode run natively.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// INVPCID works.
        const INVPCID = 1 << 12;
        /// VMFUNC works.
        const VMFUNC = 1 << 13;
        /// ENCLS leaves cause exits by bitmap.
        const ENCLS_EXITING = 1 << 15;
        /// XSAVES and XRSTORS work.
        const XSAVES = 1 << 20;
    }

    /// VM-exit controls (SDM Vol. 3C, table 25-13).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Exit: u32 {
        /// DR7 and DEBUGCTL are saved.
        const SAVE_DEBUG_CONTROLS = 1 << 2;
        /// The host runs in 64-bit mode.
        const HOST_64_BIT = 1 << 9;
        /// An external interrupt is acknowledged at its exit.
        const ACKNOWLEDGE_INTERRUPT = 1 << 15;
        /// The guest's PAT is saved.
        const SAVE_PAT = 1 << 18;
        /// The host's PAT is loaded.
        const LOAD_PAT = 1 << 19;
        /// The guest's EFER is saved.
        const SAVE_EFER = 1 << 20;
        /// The host's EFER is loaded.
        const LOAD_EFER = 1 << 21;
    }

    /// VM-entry controls (SDM Vol. 3C, table 25-15).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Entry: u32 {
        /// DR7 and DEBUGCTL are loaded.
        const LOAD_DEBUG_CONTROLS = 1 << 2;
        /// The guest is in IA-32e mode.
        const GUEST_IA32E = 1 << 9;
        /// The guest's PAT is loaded.
        const LOAD_PAT = 1 << 14;
        /// The guest's EFER is loaded.
        const LOAD_EFER = 1 << 15;
    }
}

/// What the processor allows of one group of controls, as its capability MSR says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that must be 1.
    pub must: u32,
    /// Bits that may be 1.
    pub may: u32,
}

impl Allowed {
    /// From the MSR: the low half names bits that must be 1, the high half those that
    /// may (SDM Vol. 3D, A.3.1).
    pub const fn from_msr(value: u64) -> Self {
        Self { must: value as u32, may: (value >> 32) as u32 }
    }

    /// The controls to use: all of `required`, those of `optional` that there are, and what
    /// the processor insists on. `Err` holds the required bits that are missing.
    pub const fn choose(&self, required: u32, optional: u32) -> Result<u32, u32> {
        let missing = required & !self.may;
        if missing == 0 { Ok(required | optional & self.may | self.must) } else { Err(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_controls_are_cut_to_what_is_allowed() {
        let allowed = Allowed::from_msr(0x0000_00FF_0000_0016);
        assert_eq!(
            allowed.choose(0x08, 0x100),
            Ok(0x1E),
            "optional beyond the processor's is dropped"
        );
        assert_eq!(allowed.choose(0x08, 0x40), Ok(0x5E));
        assert_eq!(allowed.choose(0x308, 0), Err(0x300), "a missing one is named");
    }
}
