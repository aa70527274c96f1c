//! Why a guest stopped.

use super::mmio::DecodeError;
use super::report::Report;
use crate::vmx::exit::instruction_error;
use alloc::boxed::Box;
use core::fmt;

/// A guest's run has ended.
#[derive(Clone, Debug)]
pub enum Stop {
    /// It powered itself off.
    PowerOff,
    /// It asked to be restarted.
    Reset,
    /// The operator has stopped it.
    Ordered,
    /// The hypervisor failed on one of its cores.
    Abandoned,
    /// It did what it cannot go on from, or what it may not do.
    Fault(Fault, Box<Report>),
}

/// What a guest was stopped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An exception while delivering a double fault.
    TripleFault,
    /// An exit that should not happen with the controls in force.
    UnexpectedExit,
    /// VMLAUNCH or VMRESUME failed, with this VM-instruction error.
    EntryRefused(u32),
    /// The processor refused the guest's state.
    EntryFailed,
    /// EPT refused an access to the guest's own RAM: a defect of the hypervisor's.
    RamViolation,
    /// Code was to be fetched from where there is no RAM.
    FetchOutsideRam,
    /// A page table or an event's stack is where there is no RAM.
    StructureOutsideRam,
    /// The instruction behind an MMIO access is not one that is emulated.
    Undecodable(DecodeError),
    /// The machine reported a hardware error.
    MachineCheck,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TripleFault => f.write_str("triple fault"),
            Self::UnexpectedExit => f.write_str("unexpected exit"),
            Self::EntryRefused(number) => {
                write!(f, "failed VM entry: error {number}, {}", instruction_error(*number))
            }
            Self::EntryFailed => f.write_str("failed VM entry"),
            Self::RamViolation => f.write_str("EPT violation inside its own RAM"),
            Self::FetchOutsideRam => f.write_str("instruction fetch from where there is no RAM"),
            Self::StructureOutsideRam => {
                f.write_str("page table or stack of an event where there is no RAM")
            }
            Self::Undecodable(error) => write!(f, "access to a device: {error}"),
            Self::MachineCheck => f.write_str("machine check"),
        }
    }
}
