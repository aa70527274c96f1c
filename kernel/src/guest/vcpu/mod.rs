//! One virtual processor: what each exit means.

mod access;
mod event;
mod exceptions;
mod local_apic;
mod processor;
mod quick;
mod string_io;
#[cfg(feature = "testing")]
mod testing;

use super::apic::LocalApic;
use super::clock::Clock;
use super::control_registers::GeneralProtection;
use super::cpuid::{self, Answers};
use super::examine::{self, Answer, Question};
use super::mmio;
use super::msr;
use super::report::{self, Report};
use super::run::Prepared;
use super::shared::{Shared, Slot, Wanted};
use super::stop::{Fault, Stop};
use super::tsc::Tsc;
use crate::arch::cpu::{self, rdtsc};
use crate::arch::switch::{ExitHandler, Next, Registers, reg};
use crate::arch::{apic, vector, vmx};
use crate::memory::{GuestMemory, RamView};
use crate::vmx::capability::Capabilities;
use crate::vmx::controls::Secondary;
use crate::vmx::exit::{ExitReason, failed_entry};
use crate::vmx::start::{self, Start};
use crate::vmx::vmcs::{CurrentVmcs, GuestField, InfoField, RefusedField};
use alloc::boxed::Box;
use alloc::sync::Arc;
use bitflags::bitflags;
use event::Exception;

/// Interruptibility: blocking by STI, and by MOV SS (SDM Vol. 3C, table 25-3).
const BLOCKED_BY_STI_OR_MOV_SS: u64 = 0b11;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;
/// RFLAGS.RF.
const RESUME_FLAG: u64 = 1 << 16;
/// Pending debug exceptions: single step.
const PENDING_SINGLE_STEP: u64 = 1 << 14;
/// #DB, #AC and #MC.
mod exception_vector {
    pub const DEBUG: u8 = 1;
    pub const ALIGNMENT_CHECK: u8 = 17;
    pub const MACHINE_CHECK: u8 = 18;
}

/// Exceptions that exit: #DB and #AC, whose delivery can loop for ever inside the
/// processor when the handler's own stack raises them again, and #MC, which is the machine's.
pub const INTERCEPTED: u32 = 1 << exception_vector::DEBUG
    | 1 << exception_vector::ALIGNMENT_CHECK
    | 1 << exception_vector::MACHINE_CHECK;

/// What VMCALL answers: "no such call", as KVM's guests expect it (-KVM_ENOSYS).
const NO_SUCH_CALL: u64 = -1000i64 as u64;

bitflags! {
    /// What has to be seen to before the next entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Due: u8 {
        /// This processor is to look at what is wanted of it.
        const ATTEND = 1 << 0;
        /// The guest has sent it an NMI that it has not taken.
        const NMI = 1 << 1;
    }
}

/// How an exit was served. Fits a register: on the path of every exit.
#[derive(Clone, Copy)]
enum Served {
    /// The instruction is done: go on behind it.
    Done,
    /// Go on where the guest stands.
    Again,
    /// The guest gets an exception.
    Inject(Exception),
    /// The guest has ended: its processors leave.
    Leave,
}

impl From<GeneralProtection> for Served {
    fn from(_: GeneralProtection) -> Self {
        Self::Inject(Exception::GeneralProtection)
    }
}

/// A virtual processor on the core that runs it.
pub struct Vcpu {
    vmcs: CurrentVmcs,
    bitmaps: msr::Bitmaps,
    ram: RamView,
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    clock: Clock,
    id: u32,
    apic: LocalApic,
    tsc: Tsc,
    misc_enable: u64,
    answers: Answers,
    permitted_xcr0: u64,
    xcr0: u64,
    rdtscp: bool,
    invpcid: bool,
    due: Due,
}

impl Vcpu {
    /// A processor as after reset. The VMCS must be set up.
    pub fn new(
        vmcs: CurrentVmcs,
        prepared: &Prepared,
        shared: Arc<Shared>,
        slot: Arc<Slot>,
        clock: Clock,
        capabilities: &Capabilities,
    ) -> Self {
        let mut vcpu = Self {
            vmcs,
            bitmaps: prepared.bitmaps,
            ram: prepared.ram,
            clock,
            id: slot.id,
            apic: LocalApic::new(slot.id),
            tsc: Tsc::new(msr::tsc_adjust()),
            misc_enable: msr::misc_enable(),
            shared,
            slot,
            answers: Answers::NONE,
            permitted_xcr0: cpuid::permitted_xcr0(cpu::cpuid),
            xcr0: vector::XCR0_X87,
            rdtscp: capabilities.has(Secondary::RDTSCP),
            invpcid: capabilities.has(Secondary::INVPCID),
            due: Due::empty(),
        };
        vcpu.choose_msr_bitmap();
        vcpu.prepare_cpuid();
        vcpu
    }

    /// Ends the guest because VMLAUNCH or VMRESUME itself failed.
    pub fn entry_failed(&mut self) {
        let number = self.vmcs.info(InfoField::INSTRUCTION_ERROR) as u32;
        let (fault, report) = self.report(Fault::EntryRefused(number), &Registers::default(), 0);
        self.stop(Stop::Fault(fault, report));
    }

    fn report(&self, fault: Fault, registers: &Registers, field: u32) -> (Fault, Box<Report>) {
        let name = ExitReason::from(field).name();
        let mut report = Report::collect(&self.vmcs, &self.ram, registers, self.id, field, name);
        if matches!(fault, Fault::EntryRefused(_) | Fault::EntryFailed) {
            report.keep_fields(&self.vmcs);
        }
        (fault, report.into())
    }

    /// The guest does not go on, for this reason.
    #[cold]
    fn stop(&mut self, why: Stop) -> Served {
        self.shared.end(Ok(why));
        Served::Leave
    }

    #[cold]
    fn fault(&mut self, fault: Fault, registers: &Registers, field: u32) -> Served {
        let (fault, report) = self.report(fault, registers, field);
        // What failed at the entry, or in the machine, is nothing that the guest could go on from.
        let kept = !matches!(fault, Fault::EntryFailed | Fault::MachineCheck);
        let ends = if kept { self.shared.keep(fault, report) } else { Some((fault, report)) };
        match ends {
            Some((fault, report)) => self.stop(Stop::Fault(fault, report)),
            None => {
                // It stands still before the instruction, and tries again if it is let go on.
                self.due |= Due::ATTEND;
                Served::Again
            }
        }
    }

    /// Does what others want of this processor: stands still, starts anew, takes an NMI. Says
    /// whether it is to go on in the guest.
    #[cold]
    pub fn attend(&mut self, registers: &mut Registers) -> bool {
        loop {
            match self.shared.attend(&self.slot) {
                Wanted::Leave => return false,
                Wanted::Answer(question) => self.answer(question, registers),
                Wanted::Start(page) => {
                    if let Err(field) = self.start(page, registers) {
                        self.shared.end(Err(field.into()));
                    }
                }
                Wanted::Go => break,
            }
        }
        if self.slot.take_nmi() {
            self.due |= Due::NMI;
        }
        true
    }

    /// Looks into this guest, which stands still, for the service core.
    #[cold]
    fn answer(&self, question: Question, registers: &Registers) {
        let answer = match question {
            Question::Registers => {
                let field = self.vmcs.info(InfoField::EXIT_REASON) as u32;
                let name = ExitReason::from(field).name();
                let (vmcs, ram) = (&self.vmcs, &self.ram);
                let report = Report::collect(vmcs, ram, registers, self.id, field, name);
                Answer::Registers(report.into())
            }
            Question::Memory(at) => {
                let mut bytes = [0; examine::BYTES];
                Answer::Memory(self.ram.read(at, &mut bytes).map(|()| bytes))
            }
            Question::Piece(from) => {
                Answer::Piece(examine::scan(&self.ram, self.ram.layout(), from.as_u64()))
            }
        };
        self.shared.answer(self.id, question, answer);
    }

    /// Brings this processor to the state after INIT and a start-up IPI (SDM Vol. 3A, table 10-1).
    /// Vector state, XCR0, the TSC and most MSRs stay.
    fn start(&mut self, page: u8, registers: &mut Registers) -> Result<(), RefusedField> {
        // SAFETY: root mode uses none of what is reset; the interrupt table is loaded, and no lock is
        // held; the core is in VMX operation.
        unsafe {
            apic::drain();
            apic::reset_for_guest();
            cpu::reset_debug_state();
            // An entry with a VPID drops no translation (SDM Vol. 3C, 29.4.3.1), and paging is off
            // now, as after a write to CR0, which would.
            vmx::invvpid_all();
        }
        self.apic.init(&self.shared.identities);
        self.due.remove(Due::NMI);
        self.slot.take_nmi();
        self.vmcs.set_nmi_window(false);
        start::set_guest(&mut self.vmcs, &Start::Real { page })?;
        *registers = Registers::default();
        // The processor's signature, as in CPUID.1:EAX.
        registers.0[reg::RDX] = cpu::cpuid(1, 0).eax.into();
        // If not, there has been another INIT meanwhile.
        self.slot.activity.started(page);
        Ok(())
    }

    #[inline(always)]
    fn serve(&mut self, field: u32, registers: &mut Registers) -> Served {
        if failed_entry(field) {
            return self.fault(Fault::EntryFailed, registers, field);
        }
        match ExitReason::from(field) {
            ExitReason::Cpuid => self.cpuid(registers),
            ExitReason::Wrmsr => self.wrmsr(registers),
            ExitReason::Rdmsr => self.rdmsr(registers),
            ExitReason::IoInstruction => self.io(registers, field),
            ExitReason::EptViolation => self.ept_violation(registers, field),
            ExitReason::ExceptionOrNmi => self.exception(registers, field),
            ExitReason::ControlRegister => self.control_register(registers),
            ExitReason::Xsetbv => self.xsetbv(registers),
            ExitReason::Vmcall => {
                #[cfg(feature = "testing")]
                if self.test_call(registers) {
                    return Served::Done;
                }
                registers.0[reg::RAX] = NO_SUCH_CALL;
                Served::Done
            }
            // Guests share the last-level cache: one may not flush it for all. Their memory is
            // coherent without it.
            ExitReason::Wbinvd | ExitReason::Invd => Served::Done,
            ExitReason::Rdpmc => Served::Inject(Exception::GeneralProtection),
            ExitReason::Mwait
            | ExitReason::Monitor
            | ExitReason::Getsec
            | ExitReason::Vmclear
            | ExitReason::Vmlaunch
            | ExitReason::Vmptrld
            | ExitReason::Vmptrst
            | ExitReason::Vmread
            | ExitReason::Vmresume
            | ExitReason::Vmwrite
            | ExitReason::Vmxoff
            | ExitReason::Vmxon
            | ExitReason::Invept
            | ExitReason::Invvpid
            | ExitReason::Vmfunc
            | ExitReason::Encls
            | ExitReason::Enclv
            | ExitReason::Pconfig
            | ExitReason::Loadiwkey
            | ExitReason::Umwait
            | ExitReason::Tpause
            // These two exit on a processor with TDX whatever the controls say.
            | ExitReason::Seamcall
            | ExitReason::Tdcall => Served::Inject(Exception::InvalidOpcode),
            ExitReason::PreemptionTimer => {
                self.vmcs.cancel_exit();
                self.due |= Due::ATTEND;
                Served::Again
            }
            ExitReason::NmiWindow => {
                self.vmcs.set_nmi_window(false);
                Served::Again
            }
            ExitReason::TripleFault => self.fault(Fault::TripleFault, registers, field),
            _ => self.fault(Fault::UnexpectedExit, registers, field),
        }
    }

    /// What has to be seen to before the next entry, and is not there at most exits.
    #[cold]
    fn prepare_entry(&mut self, next: Next, registers: &mut Registers) -> Next {
        let attend = self.due.contains(Due::ATTEND);
        self.due.remove(Due::ATTEND);
        if attend && next == Next::Resume && !self.attend(registers) {
            return Next::Leave;
        }
        if self.due.contains(Due::NMI) {
            let waits = !event::inject_nmi(&mut self.vmcs);
            self.due.set(Due::NMI, waits);
            self.vmcs.set_nmi_window(waits);
        }
        next
    }

    /// Moves RIP past an instruction that was carried out for the guest.
    #[inline(always)]
    fn advance(&mut self, length: u64) {
        let rip = self.vmcs.read(GuestField::RIP);
        let mut next = rip.wrapping_add(length);
        // Outside 64-bit mode RIP has 32 bits.
        if (rip ^ next) >> 32 != 0 && report::code_size(&self.vmcs) != mmio::CodeSize::Bits64 {
            next &= u64::from(u32::MAX);
        }
        self.vmcs.write(GuestField::RIP, next);
        let state = self.vmcs.read(GuestField::INTERRUPTIBILITY);
        if state & BLOCKED_BY_STI_OR_MOV_SS != 0 {
            self.vmcs.write(GuestField::INTERRUPTIBILITY, state & !BLOCKED_BY_STI_OR_MOV_SS);
        }
        let flags = self.vmcs.read(GuestField::RFLAGS);
        if flags & (TRAP_FLAG | RESUME_FLAG) != 0 {
            // An instruction that completes clears RF, and is a step.
            self.vmcs.write(GuestField::RFLAGS, flags & !RESUME_FLAG);
            if flags & TRAP_FLAG != 0 {
                let pending = self.vmcs.read(GuestField::PENDING_DEBUG);
                self.vmcs.write(GuestField::PENDING_DEBUG, pending | PENDING_SINGLE_STEP);
            }
        }
    }
}

impl ExitHandler for Vcpu {
    extern "C" fn handle(&mut self, registers: &mut Registers) -> Next {
        let start = ticks();
        let field = self.vmcs.info(InfoField::EXIT_REASON) as u32;
        let done = match field {
            quick::CPUID => self.quick_cpuid(registers),
            quick::RDMSR => self.quick_rdmsr(registers),
            quick::VMCALL => self.quick_vmcall(registers),
            quick::WRMSR => return self.handle_wrmsr(registers, start),
            quick::IO => return self.handle_io(registers, start),
            _ => false,
        };
        if done {
            self.finish_quick(registers, field, start)
        } else {
            self.handle_rare(registers, field, start)
        }
    }
}

/// The lower half of the TSC: an exit takes less than 2³² ticks.
#[inline(always)]
fn ticks() -> u32 {
    rdtsc() as u32
}

impl Vcpu {
    // These two are apart from the other quick exits, for which the handler would otherwise save the
    // registers that these need.

    /// Serves WRMSR.
    #[inline(never)]
    fn handle_wrmsr(&mut self, registers: &mut Registers, start: u32) -> Next {
        if self.quick_wrmsr(registers) {
            self.finish_quick(registers, quick::WRMSR, start)
        } else {
            self.handle_rare(registers, quick::WRMSR, start)
        }
    }

    /// Serves an I/O instruction.
    #[inline(never)]
    fn handle_io(&mut self, registers: &mut Registers, start: u32) -> Next {
        if self.quick_io(registers) {
            self.finish_quick(registers, quick::IO, start)
        } else {
            self.handle_rare(registers, quick::IO, start)
        }
    }

    /// Ends an exit that was served quickly.
    #[inline(always)]
    fn finish_quick(&mut self, registers: &mut Registers, field: u32, start: u32) -> Next {
        self.advance(self.vmcs.info(InfoField::INSTRUCTION_LENGTH));
        self.slot.statistics.record(field, ticks().wrapping_sub(start));
        if self.due.is_empty() { Next::Resume } else { self.prepare_entry(Next::Resume, registers) }
    }

    /// Serves an exit that is not quick.
    #[inline(never)]
    fn handle_rare(&mut self, registers: &mut Registers, field: u32, start: u32) -> Next {
        let served = self.serve(field, registers);
        let mut next = match served {
            Served::Done => {
                self.advance(self.vmcs.info(InfoField::INSTRUCTION_LENGTH));
                Next::Resume
            }
            Served::Again => {
                if event::interrupted_delivery(&self.vmcs) {
                    event::redeliver(&mut self.vmcs);
                }
                Next::Resume
            }
            Served::Inject(exception) => {
                event::inject(&mut self.vmcs, exception);
                Next::Resume
            }
            Served::Leave => Next::Leave,
        };
        // Before a pause, or a wait to be started: those are no cost of the exit's.
        self.slot.statistics.record(field & 0xFFFF, ticks().wrapping_sub(start));
        if !self.due.is_empty() {
            next = self.prepare_entry(next, registers);
        }
        next
    }
}
