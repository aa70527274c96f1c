//! Exceptions and NMIs that exit.

use super::super::report;
use super::super::stop::Fault;
use super::event::{self, Exception};
use super::{
    BLOCKED_BY_STI_OR_MOV_SS, Due, PENDING_SINGLE_STEP, Served, TRAP_FLAG, Vcpu, exception_vector,
};
use crate::arch::switch::Registers;
use crate::arch::{cpu, nmi};
use crate::vmx::exit::{Event, EventKind};
use crate::vmx::vmcs::{GuestField, InfoField};

/// DR7.GD.
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// Activity state: HLT (SDM Vol. 3C, 24.4.2).
const HALTED: u64 = 1;
/// DR6's bits that say which breakpoint was met.
const DR6_BREAKPOINTS: u64 = 0xF;
/// DR6's bits that a debug exception's qualification may set: breakpoints, BD, BS.
const DR6_CAUSES: u64 = 0x600F;

impl Vcpu {
    #[inline(never)]
    pub(super) fn exception(&mut self, registers: &Registers, field: u32) -> Served {
        let Some(event) = Event::decode(self.vmcs.info(InfoField::EVENT) as u32) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        if event.nmi_unblocking {
            self.block_nmis_again();
        }
        // A #DB that its own delivery raises comes before an NMI and before the preemption timer (SDM Vol.
        // 3A, table 6-2, and Vol. 3C, 26.5.1): a guest can keep both from ever exiting.
        self.due |= Due::ATTEND;
        match (event.kind, event.vector) {
            // The guest's own NMIs are injected: another core wants something of this one, or it
            // is the machine's.
            (EventKind::Nmi, _) => {
                nmi::unblock();
                self.slot.looked_at(|| self.was_halted());
                Served::Again
            }
            // The interrupt is delivered again; the exception comes again with it.
            (_, exception_vector::DEBUG | exception_vector::ALIGNMENT_CHECK)
                if event::interrupted_interrupt(&self.vmcs) =>
            {
                Served::Again
            }
            (_, exception_vector::DEBUG) => self.debug_exception(&event),
            (_, exception_vector::ALIGNMENT_CHECK) => Served::Inject(Exception::AlignmentCheck),
            (_, exception_vector::MACHINE_CHECK) => {
                self.fault(Fault::MachineCheck, registers, field)
            }
            _ => self.fault(Fault::UnexpectedExit, registers, field),
        }
    }

    /// Whether an NMI has interrupted the guest's HLT. Where the processor has forgotten that, as Bochs has, which leaves the
    /// state before it takes the NMI, the instruction behind a HLT is taken for it.
    fn was_halted(&self) -> bool {
        const HLT: u8 = 0xF4;
        self.vmcs.read(GuestField::ACTIVITY_STATE) == HALTED
            || report::byte_before(&self.vmcs, &self.ram) == Some(HLT)
    }

    /// Does what the processor would have done before delivering #DB (SDM Vol. 3C, 28.2.1: DR6
    /// and DR7 are as before when #DB exits), then has it delivered.
    pub(super) fn debug_exception(&mut self, event: &Event) -> Served {
        if event.kind == EventKind::PrivilegedSoftwareException {
            // INT1 is delivered as what it is: behind the instruction.
            let length = self.vmcs.info(InfoField::INSTRUCTION_LENGTH);
            self.vmcs.write(GuestField::ENTRY_INSTRUCTION_LENGTH, length);
            self.vmcs.write(GuestField::ENTRY_EVENT, event.entry_field().into());
            return Served::Again;
        }
        let causes = self.vmcs.info(InfoField::QUALIFICATION) & DR6_CAUSES;
        // SAFETY: a debug exception is about to be injected.
        unsafe { cpu::write_dr6(cpu::read_dr6() & !DR6_BREAKPOINTS | causes) };
        let dr7 = self.vmcs.read(GuestField::DR7);
        self.vmcs.write(GuestField::DR7, dr7 & !DR7_GENERAL_DETECT);
        // Blocking by STI or MOV SS with TF set needs a pending single step (SDM Vol. 3C, 27.3.1.5).
        let blocked = self.vmcs.read(GuestField::INTERRUPTIBILITY) & BLOCKED_BY_STI_OR_MOV_SS != 0;
        if blocked && self.vmcs.read(GuestField::RFLAGS) & TRAP_FLAG != 0 {
            let pending = self.vmcs.read(GuestField::PENDING_DEBUG);
            self.vmcs.write(GuestField::PENDING_DEBUG, pending | PENDING_SINGLE_STEP);
        }
        Served::Inject(Exception::Debug)
    }

    /// An IRET that unblocked NMIs will run again: until then they stay blocked (SDM Vol. 3C, 28.2.3).
    pub(super) fn block_nmis_again(&mut self) {
        if !event::interrupted_delivery(&self.vmcs) {
            let state = self.vmcs.read(GuestField::INTERRUPTIBILITY);
            self.vmcs.write(GuestField::INTERRUPTIBILITY, state | event::BLOCKED_BY_NMI);
        }
    }
}
