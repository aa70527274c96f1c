//! Exit qualifications (SDM Vol. 3C, 28.2.1).
//!
//! The processor writes them, so a value outside the tables is a defect or a newer manual: it is
//! reported as `None` rather than guessed at.

use super::{bit, bits};

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDirection {
    /// OUT, OUTS: from the guest.
    Out,
    /// IN, INS: to the guest.
    In,
}

/// Qualification of an I/O instruction (table 28-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoInstruction {
    /// The port.
    pub port: u16,
    /// Bytes accessed: 1, 2 or 4.
    pub size: u8,
    /// IN or OUT.
    pub direction: IoDirection,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
}

impl IoInstruction {
    /// Port and direction (true: IN) of the plainest kind: a byte, neither string nor REP.
    #[inline(always)]
    pub const fn byte(qualification: u64) -> Option<(u16, bool)> {
        /// Bits 2:0, 4 and 5: size, string, REP.
        const KIND: u64 = 0b11_0111;
        const IN: u64 = 1 << 3;
        if qualification & KIND != 0 {
            return None;
        }
        Some(((qualification >> 16) as u16, qualification & IN != 0))
    }

    /// Reads the exit qualification.
    pub const fn decode(qualification: u64) -> Option<Self> {
        let size = match bits(qualification, 0, 3) {
            0 => 1,
            1 => 2,
            3 => 4,
            _ => return None,
        };
        Some(Self {
            port: bits(qualification, 16, 16) as u16,
            size,
            direction: if bit(qualification, 3) { IoDirection::In } else { IoDirection::Out },
            string: bit(qualification, 4),
            rep: bit(qualification, 5),
        })
    }
}

/// What is done with a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegisterOperation {
    /// MOV to the control register.
    MoveTo {
        /// General register it comes from, in hardware numbering.
        from: u8,
    },
    /// MOV from the control register.
    MoveFrom {
        /// General register it goes to, in hardware numbering.
        to: u8,
    },
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW.
    LoadMachineStatusWord {
        /// The operand.
        source: u16,
        /// The operand was in memory (whose address is the guest-linear-address field).
        memory: bool,
    },
}

/// Qualification of a control-register access (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegisterAccess {
    /// Number of the control register: 0, 3, 4 or 8.
    pub register: u8,
    /// What is done with it.
    pub operation: ControlRegisterOperation,
}

impl ControlRegisterAccess {
    /// Reads the exit qualification.
    pub const fn decode(qualification: u64) -> Self {
        let general = bits(qualification, 8, 4) as u8;
        // Two bits, and all four values are taken.
        let operation = match bits(qualification, 4, 2) {
            0 => ControlRegisterOperation::MoveTo { from: general },
            1 => ControlRegisterOperation::MoveFrom { to: general },
            2 => ControlRegisterOperation::ClearTaskSwitched,
            _ => ControlRegisterOperation::LoadMachineStatusWord {
                source: bits(qualification, 16, 16) as u16,
                memory: bit(qualification, 6),
            },
        };
        Self { register: bits(qualification, 0, 4) as u8, operation }
    }
}

/// Qualification of an EPT violation (table 28-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptViolation {
    /// A data read (with A/D flags also the processor's own access to a guest page table).
    pub read: bool,
    /// A data write (likewise).
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// The EPT entries allow reads.
    pub readable: bool,
    /// The EPT entries allow writes.
    pub writable: bool,
    /// The EPT entries allow fetches.
    pub executable: bool,
    /// The guest-linear-address field is valid.
    pub linear_valid: bool,
    /// The access was to the translated address, not to a paging structure on the way; means
    /// nothing unless `linear_valid`.
    pub translated: bool,
    /// The exit came during an IRET that unblocked NMIs, which have to be blocked again.
    pub nmi_unblocking: bool,
}

impl EptViolation {
    /// Reads the exit qualification.
    pub const fn decode(qualification: u64) -> Self {
        Self {
            read: bit(qualification, 0),
            write: bit(qualification, 1),
            fetch: bit(qualification, 2),
            readable: bit(qualification, 3),
            writable: bit(qualification, 4),
            executable: bit(qualification, 5),
            linear_valid: bit(qualification, 7),
            translated: bit(qualification, 8),
            nmi_unblocking: bit(qualification, 12),
        }
    }

    /// Nothing is mapped there: what an access to emulated MMIO looks like.
    pub const fn unmapped(&self) -> bool {
        !self.readable && !self.writable && !self.executable
    }
}

/// How the APIC-access page was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicAccessKind {
    /// Data read by a linear address.
    Read,
    /// Data write by a linear address.
    Write,
    /// Instruction fetch.
    Fetch,
    /// By the delivery of an event, through a linear address.
    EventDelivery,
    /// By the delivery of an event, through a guest-physical address.
    PhysicalEventDelivery,
    /// By an instruction or its fetch, through a guest-physical address.
    PhysicalInstruction,
}

/// Qualification of an APIC access (table 28-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicAccess {
    /// Offset into the page; valid for linear accesses.
    pub offset: u16,
    /// How it was accessed.
    pub kind: ApicAccessKind,
}

impl ApicAccess {
    /// Reads the exit qualification.
    pub const fn decode(qualification: u64) -> Option<Self> {
        let kind = match bits(qualification, 12, 4) {
            0 => ApicAccessKind::Read,
            1 => ApicAccessKind::Write,
            2 => ApicAccessKind::Fetch,
            3 => ApicAccessKind::EventDelivery,
            10 => ApicAccessKind::PhysicalEventDelivery,
            15 => ApicAccessKind::PhysicalInstruction,
            _ => return None,
        };
        Some(Self { offset: bits(qualification, 0, 12) as u16, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_instructions() {
        let expected = IoInstruction {
            port: 0x3F8,
            size: 1,
            direction: IoDirection::Out,
            string: false,
            rep: false,
        };
        assert_eq!(IoInstruction::decode(0x03F8_0000), Some(expected));
        // rep insd from 0xCFC, immediate bit set.
        let expected = IoInstruction {
            port: 0xCFC,
            size: 4,
            direction: IoDirection::In,
            string: true,
            rep: true,
        };
        assert_eq!(IoInstruction::decode(0x0CFC_007B), Some(expected));
        assert_eq!(IoInstruction::decode(1).map(|io| io.size), Some(2));
        for size in [2, 4, 5, 6, 7] {
            assert_eq!(IoInstruction::decode(size), None);
        }
    }

    #[test]
    fn control_registers() {
        use ControlRegisterOperation::*;
        let decode = |qualification| {
            let access = ControlRegisterAccess::decode(qualification);
            (access.register, access.operation)
        };
        assert_eq!(decode(0x0C04), (4, MoveTo { from: 12 }));
        assert_eq!(decode(0x0313), (3, MoveFrom { to: 3 }));
        assert_eq!(decode(0x0020), (0, ClearTaskSwitched));
        assert_eq!(
            decode(0xFFF1_0030),
            (0, LoadMachineStatusWord { source: 0xFFF1, memory: false })
        );
        assert_eq!(decode(0x0001_0070), (0, LoadMachineStatusWord { source: 1, memory: true }));
    }

    #[test]
    fn ept_violations() {
        let mmio_write = EptViolation::decode(0x182);
        assert!(mmio_write.write && !mmio_write.read && !mmio_write.fetch);
        assert!(mmio_write.unmapped() && mmio_write.linear_valid && mmio_write.translated);
        let fetch = EptViolation::decode(1 << 12 | 0b011_100);
        assert!(fetch.fetch && fetch.readable && fetch.writable && !fetch.executable);
        assert!(!fetch.unmapped() && fetch.nmi_unblocking && !fetch.linear_valid);
        assert!(EptViolation::decode(1 << 5).executable && EptViolation::decode(1).read);
    }

    #[test]
    fn apic_accesses() {
        let write = ApicAccess { offset: 0x0B0, kind: ApicAccessKind::Write };
        assert_eq!(ApicAccess::decode(0x10B0), Some(write));
        let kind = |number: u64| ApicAccess::decode(number << 12).map(|access| access.kind);
        assert_eq!(kind(10), Some(ApicAccessKind::PhysicalEventDelivery));
        assert_eq!(kind(15), Some(ApicAccessKind::PhysicalInstruction));
        assert_eq!(kind(4), None);
    }
}
