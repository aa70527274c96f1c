//! Interrupts and exceptions as the VMCS describes them.
//!
//! One format serves three fields: VM-exit interruption information (SDM Vol. 3C, 25.9.2),
//! IDT-vectoring information (25.9.3) and VM-entry interruption information (25.8.3).

use super::{bit, bits};

const KIND_SHIFT: u32 = 8;
const KIND_WIDTH: u32 = 3;
const ERROR_CODE: u32 = 11;
/// In the VM-exit interruption information alone.
const NMI_UNBLOCKING: u32 = 12;
const VALID: u32 = 31;

/// Kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// External interrupt.
    ExternalInterrupt = 0,
    /// NMI.
    Nmi = 2,
    /// Exception raised by the processor.
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
    /// In the VM-entry field alone: not an event that is delivered through the IDT.
    Other = 7,
}

/// An interrupt or exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Vector.
    pub vector: u8,
    /// Kind.
    pub kind: EventKind,
    /// An error code comes with it, in a field of its own.
    pub error_code: bool,
    /// It was an IRET's, which had unblocked NMIs (VM-exit interruption information alone).
    pub nmi_unblocking: bool,
}

impl Event {
    /// Reads a field; `None` when it is not valid, that is when there was no event.
    pub const fn decode(field: u32) -> Option<Self> {
        let field = field as u64;
        let kind = match bits(field, KIND_SHIFT, KIND_WIDTH) {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::HardwareException,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedSoftwareException,
            6 => EventKind::SoftwareException,
            7 => EventKind::Other,
            _ => return None,
        };
        if !bit(field, VALID) {
            return None;
        }
        Some(Self {
            vector: bits(field, 0, u8::BITS) as u8,
            kind,
            error_code: bit(field, ERROR_CODE),
            nmi_unblocking: bit(field, NMI_UNBLOCKING),
        })
    }

    /// The VM-entry interruption information that delivers the event to the guest (again). Bits
    /// that are reserved there stay clear.
    pub const fn entry_field(&self) -> u32 {
        self.vector as u32
            | (self.kind as u32) << KIND_SHIFT
            | (self.error_code as u32) << ERROR_CODE
            | 1 << VALID
    }

    /// Whether delivering it needs the VM-entry instruction length (25.8.3).
    pub const fn needs_instruction_length(&self) -> bool {
        matches!(
            self.kind,
            EventKind::SoftwareInterrupt
                | EventKind::PrivilegedSoftwareException
                | EventKind::SoftwareException
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_has_an_error_code() {
        let event = Event::decode(0x8000_0B0E).unwrap();
        assert_eq!((event.vector, event.kind), (14, EventKind::HardwareException));
        assert!(event.error_code && !event.nmi_unblocking && !event.needs_instruction_length());
        assert_eq!(event.entry_field(), 0x8000_0B0E);
    }

    #[test]
    fn an_event_is_delivered_again_without_the_bits_reserved_at_entry() {
        let event = Event::decode(0x8000_1B0D).unwrap();
        assert!(event.nmi_unblocking);
        assert_eq!(event.entry_field(), 0x8000_0B0D);
        let nmi = Event::decode(0x8000_0202).unwrap();
        assert_eq!((nmi.vector, nmi.kind, nmi.error_code), (2, EventKind::Nmi, false));
        let int3 = Event::decode(0x8000_0603).unwrap();
        assert!(int3.needs_instruction_length());
        assert_eq!(int3.entry_field(), 0x8000_0603);
    }

    #[test]
    fn no_event_and_reserved_kinds_are_none() {
        assert_eq!(Event::decode(0), None);
        assert_eq!(Event::decode(0x0000_0B0E), None);
        assert_eq!(Event::decode(0x8000_0100), None);
    }
}
