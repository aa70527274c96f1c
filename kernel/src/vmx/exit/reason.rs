//! Basic exit reasons (SDM Vol. 3D, Appendix C).

use core::fmt;

/// Bit 31 of the exit reason: the exit is a VM entry that failed (SDM Vol. 3C, 25.9.1).
const FAILED_ENTRY: u32 = 1 << 31;
/// Bits 15:0 hold the basic reason.
const BASIC_REASON: u32 = 0xFFFF;

/// Whether the exit-reason field reports a VM entry that failed after the guest state's check.
pub const fn failed_entry(field: u32) -> bool {
    field & FAILED_ENTRY != 0
}

macro_rules! reasons {
    ($($number:literal $variant:ident $name:literal)*) => {
        /// Why the processor left the guest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ExitReason {
            $(#[doc = $name] $variant,)*
            /// A number that the manual does not have (yet).
            Unknown(u16),
        }

        impl ExitReason {
            /// All the reasons known, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number in the exit-reason field.
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Unknown(number) => number,
                }
            }

            /// A name for reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "unknown exit reason",
                }
            }
        }

        impl From<u32> for ExitReason {
            /// Reads the exit-reason field of the VMCS; its upper half is flags.
            #[inline(always)]
            fn from(field: u32) -> Self {
                match (field & BASIC_REASON) as u16 {
                    $($number => Self::$variant,)*
                    number => Self::Unknown(number),
                }
            }
        }
    };
}

reasons! {
    0 ExceptionOrNmi "exception or NMI"
    1 ExternalInterrupt "external interrupt"
    2 TripleFault "triple fault"
    3 Init "INIT signal"
    4 Sipi "start-up IPI"
    5 IoSmi "I/O SMI"
    6 OtherSmi "other SMI"
    7 InterruptWindow "interrupt window"
    8 NmiWindow "NMI window"
    9 TaskSwitch "task switch"
    10 Cpuid "CPUID"
    11 Getsec "GETSEC"
    12 Hlt "HLT"
    13 Invd "INVD"
    14 Invlpg "INVLPG"
    15 Rdpmc "RDPMC"
    16 Rdtsc "RDTSC"
    17 Rsm "RSM"
    18 Vmcall "VMCALL"
    19 Vmclear "VMCLEAR"
    20 Vmlaunch "VMLAUNCH"
    21 Vmptrld "VMPTRLD"
    22 Vmptrst "VMPTRST"
    23 Vmread "VMREAD"
    24 Vmresume "VMRESUME"
    25 Vmwrite "VMWRITE"
    26 Vmxoff "VMXOFF"
    27 Vmxon "VMXON"
    28 ControlRegister "control-register access"
    29 MovDr "MOV DR"
    30 IoInstruction "I/O instruction"
    31 Rdmsr "RDMSR"
    32 Wrmsr "WRMSR"
    33 InvalidGuestState "VM-entry failure: invalid guest state"
    34 MsrLoading "VM-entry failure: MSR loading"
    36 Mwait "MWAIT"
    37 MonitorTrapFlag "monitor trap flag"
    39 Monitor "MONITOR"
    40 Pause "PAUSE"
    41 EntryMachineCheck "VM-entry failure: machine check"
    43 TprBelowThreshold "TPR below threshold"
    44 ApicAccess "APIC access"
    45 VirtualizedEoi "virtualized EOI"
    46 GdtrOrIdtr "access to GDTR or IDTR"
    47 LdtrOrTr "access to LDTR or TR"
    48 EptViolation "EPT violation"
    49 EptMisconfiguration "EPT misconfiguration"
    50 Invept "INVEPT"
    51 Rdtscp "RDTSCP"
    52 PreemptionTimer "VMX-preemption timer"
    53 Invvpid "INVVPID"
    54 Wbinvd "WBINVD or WBNOINVD"
    55 Xsetbv "XSETBV"
    56 ApicWrite "APIC write"
    57 Rdrand "RDRAND"
    58 Invpcid "INVPCID"
    59 Vmfunc "VMFUNC"
    60 Encls "ENCLS"
    61 Rdseed "RDSEED"
    62 PageModificationLogFull "page-modification log full"
    63 Xsaves "XSAVES"
    64 Xrstors "XRSTORS"
    65 Pconfig "PCONFIG"
    66 SubPagePermission "sub-page permission event"
    67 Umwait "UMWAIT"
    68 Tpause "TPAUSE"
    69 Loadiwkey "LOADIWKEY"
    70 Enclv "ENCLV"
    72 EnqcmdPasid "ENQCMD PASID translation"
    73 EnqcmdsPasid "ENQCMDS PASID translation"
    74 BusLock "bus lock"
    75 InstructionTimeout "instruction timeout"
    76 Seamcall "SEAMCALL"
    77 Tdcall "TDCALL"
    78 Rdmsrlist "RDMSRLIST"
    79 Wrmsrlist "WRMSRLIST"
}

impl ExitReason {
    /// One more than the highest known number: the length of a table with an entry per reason.
    pub const COUNT: usize = match Self::ALL.last() {
        Some(last) => last.number() as usize + 1,
        None => 0,
    };
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_number_leads_to_its_reason_and_back() {
        for number in 0..=u32::from(u16::MAX) {
            assert_eq!(u32::from(ExitReason::from(number).number()), number);
        }
        assert!(
            ExitReason::ALL.iter().all(|reason| usize::from(reason.number()) < ExitReason::COUNT)
        );
        assert!(ExitReason::ALL.is_sorted_by(|a, b| a.number() < b.number()));
    }

    #[test]
    fn numbers_are_the_manuals() {
        // Around each gap of Appendix C, so that a line missing from the table shows.
        for (number, name) in [
            (2, "triple fault"),
            (10, "CPUID"),
            (18, "VMCALL"),
            (30, "I/O instruction"),
            (34, "VM-entry failure: MSR loading"),
            (37, "monitor trap flag"),
            (41, "VM-entry failure: machine check"),
            (48, "EPT violation"),
            (55, "XSETBV"),
            (69, "LOADIWKEY"),
            (74, "bus lock"),
            (79, "WRMSRLIST"),
        ] {
            assert_eq!(ExitReason::from(number).name(), name);
        }
        for gap in [35, 38, 42, 71, 80] {
            assert_eq!(ExitReason::from(gap), ExitReason::Unknown(gap as u16));
        }
    }

    #[test]
    fn flags_are_not_part_of_the_reason() {
        let field = 0x8000_0021;
        assert!(failed_entry(field));
        assert_eq!(ExitReason::from(field), ExitReason::InvalidGuestState);
        assert!(!failed_entry(0x0800_0030)); // from enclave mode
        assert_eq!(ExitReason::from(0x0800_0030), ExitReason::EptViolation);
        assert_eq!(ExitReason::Hlt.to_string(), "HLT (12)");
    }
}
