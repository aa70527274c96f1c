//! One virtual processor: what each exit means.

use super::apic::{Command, Delivery, Shadow};
use super::clock::Clock;
use super::control_registers::{self, GeneralProtection, Mode};
use super::cpuid::{self, GuestCpu};
use super::event::{self, Exception};
use super::mmio::{self, MAX_INSTRUCTION};
use super::msr::{Accessor, Effect};
use super::report::{self, Report};
use super::shared::Shared;
use super::statistics::Statistics;
use super::stop::{Fault, Stop};
use super::string_io;
use crate::arch::apic::send_fixed;
use crate::arch::cpu::{self, cr4, rdtsc};
use crate::arch::switch::{ExitHandler, Next, Registers, reg};
use crate::arch::{apic as hardware_apic, vector};
use crate::device::platform::{Outcome, Width};
use crate::device::power::PowerEvent;
use crate::memory::{GuestPhysical, GuestRam};
use crate::vmx::capability::Capabilities;
use crate::vmx::controls::Secondary;
use crate::vmx::exit::{
    ControlRegisterAccess, ControlRegisterOperation, EptViolation, Event, EventKind, ExitReason,
    IoDirection, IoInstruction, failed_entry,
};
use crate::vmx::vmcs::{CurrentVmcs, GuestField, InfoField};
use alloc::sync::Arc;

/// Interruptibility: blocking by STI, and by MOV SS (SDM Vol. 3C, table 25-3).
const BLOCKED_BY_STI_OR_MOV_SS: u64 = 0b11;
/// Interruptibility: blocking by NMI.
const BLOCKED_BY_NMI: u64 = 1 << 3;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;
/// Pending debug exceptions: single step.
const PENDING_SINGLE_STEP: u64 = 1 << 14;
/// DR7.GD.
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// DR6's bits that say which breakpoint was met.
const DR6_BREAKPOINTS: u64 = 0xF;
/// DR6's bits that a debug exception's qualification may set: breakpoints, BD, BS.
const DR6_CAUSES: u64 = 0x600F;
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

/// RAX of the hypercall that panics: "panic" in ASCII.
#[cfg(feature = "inject-panic")]
const INJECT_PANIC: u64 = 0x70_616e_6963;

/// How an exit was served.
pub(super) enum Served {
    /// The instruction is done: go on behind it.
    Done,
    /// Go on where the guest stands.
    Again,
    /// The guest gets an exception.
    Inject(Exception),
    /// The guest does not go on.
    Stop(Stop),
}

impl From<GeneralProtection> for Served {
    fn from(_: GeneralProtection) -> Self {
        Self::Inject(Exception::GeneralProtection)
    }
}

/// A virtual processor on the core that runs it.
pub struct Vcpu {
    pub(super) vmcs: CurrentVmcs,
    pub(super) ram: GuestRam,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    id: u32,
    apic: Shadow,
    permitted_xcr0: u64,
    xcr0: u64,
    rdtscp: bool,
    invpcid: bool,
    /// The guest has sent itself an NMI that it has not taken.
    nmi_pending: bool,
    /// Exits and their cost.
    pub statistics: Statistics,
    /// NMIs of the machine's that came while the guest ran.
    pub nmis: u64,
    stop: Option<Stop>,
}

impl Vcpu {
    /// A processor as after reset. The VMCS must be set up.
    pub fn new(
        vmcs: CurrentVmcs,
        ram: GuestRam,
        shared: Arc<Shared>,
        clock: Clock,
        id: u32,
        capabilities: &Capabilities,
    ) -> Self {
        Self {
            vmcs,
            ram,
            shared,
            clock,
            id,
            apic: Shadow::new(),
            permitted_xcr0: cpuid::permitted_xcr0(cpu::cpuid),
            xcr0: vector::XCR0_X87,
            rdtscp: capabilities.has(Secondary::RDTSCP),
            invpcid: capabilities.has(Secondary::INVPCID),
            nmi_pending: false,
            statistics: Statistics::new(),
            nmis: 0,
            stop: None,
        }
    }

    /// Why the guest stopped, and its RAM.
    pub fn into_parts(self) -> (Option<Stop>, GuestRam, Statistics) {
        (self.stop, self.ram, self.statistics)
    }

    /// Notes that VMLAUNCH or VMRESUME itself failed.
    pub fn entry_failed(&mut self) {
        let number = self.vmcs.info(InfoField::INSTRUCTION_ERROR) as u32;
        self.stop(Fault::EntryRefused(number), &Registers::default(), 0);
    }

    fn stop(&mut self, fault: Fault, registers: &Registers, field: u32) {
        let name = ExitReason::from(field).name();
        let mut report = Report::collect(&self.vmcs, &self.ram, registers, field, name);
        if matches!(fault, Fault::EntryRefused(_) | Fault::EntryFailed) {
            report.add_violations(&self.vmcs);
        }
        self.stop = Some(Stop::Fault(fault, report.into()));
    }

    fn fault(&mut self, fault: Fault, registers: &Registers, field: u32) -> Served {
        self.stop(fault, registers, field);
        // `stop` has put the reason there.
        self.stop.take().map_or(Served::Again, Served::Stop)
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
                #[cfg(feature = "inject-panic")]
                assert_ne!(registers.0[reg::RAX], INJECT_PANIC, "a panic was asked for");
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
            | ExitReason::Encls => Served::Inject(Exception::InvalidOpcode),
            ExitReason::NmiWindow => {
                self.vmcs.set_nmi_window(false);
                Served::Again
            }
            ExitReason::TripleFault => self.fault(Fault::TripleFault, registers, field),
            _ => self.fault(Fault::UnexpectedExit, registers, field),
        }
    }

    fn cpuid(&mut self, registers: &mut Registers) -> Served {
        let cr4 = self.vmcs.read(GuestField::CR4);
        let guest = GuestCpu {
            apic_id: self.id,
            processors: self.shared.processors(),
            tsc_hz: self.clock.rates.tsc_hz,
            apic_timer_hz: self.clock.rates.apic_timer_hz,
            osxsave: cr4 & cr4::OSXSAVE != 0,
            xcr0: self.xcr0,
            rdtscp: self.rdtscp,
            invpcid: self.invpcid,
        };
        let (leaf, subleaf) = (registers.0[reg::RAX] as u32, registers.0[reg::RCX] as u32);
        let result = cpuid::filter(leaf, subleaf, cpu::cpuid, &guest);
        registers.0[reg::RAX] = result.eax.into();
        registers.0[reg::RBX] = result.ebx.into();
        registers.0[reg::RCX] = result.ecx.into();
        registers.0[reg::RDX] = result.edx.into();
        Served::Done
    }

    fn rdmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        match (Accessor { id: self.id, apic: &mut self.apic }).read(msr) {
            Ok(value) => {
                registers.0[reg::RAX] = value & u64::from(u32::MAX);
                registers.0[reg::RDX] = value >> 32;
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    fn wrmsr(&mut self, registers: &mut Registers) -> Served {
        let msr = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        match (Accessor { id: self.id, apic: &mut self.apic }).write(msr, value) {
            Ok(Effect::None) => Served::Done,
            Ok(Effect::Interrupt(icr)) => self.interrupt_command(icr),
            Ok(Effect::Apic(register, value)) => {
                // SAFETY: the value was judged by `apic::lvt_write`: a plain vector of the guest's
                // for its own core.
                unsafe { hardware_apic::write(register, value) };
                Served::Done
            }
            Ok(Effect::Tsc(value)) => {
                let offset = value.wrapping_sub(rdtsc());
                self.vmcs.write(GuestField::TSC_OFFSET, offset);
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    /// An IPI: to the physical cores behind the virtual IDs, one by one.
    fn interrupt_command(&mut self, icr: u64) -> Served {
        let command = Command::decode(icr, self.id, self.shared.processors());
        if command.delivery == Delivery::Refused {
            return GeneralProtection.into();
        }
        for id in command.targets.iter() {
            let Some(&core) = self.shared.cores.get(id as usize) else { continue };
            match command.delivery {
                Delivery::Fixed(vector) => send_fixed(core, vector),
                // A real one would arrive here, in root mode: it is injected instead.
                Delivery::Nmi => self.nmi_pending = true,
                // A guest has one processor, which runs already: there is nobody to start, and
                // INIT to oneself is not sent by any system.
                Delivery::Init | Delivery::Startup(_) | Delivery::Nothing | Delivery::Refused => {}
            }
        }
        Served::Done
    }

    /// Carries out what a device access caused.
    pub(super) fn finish_access(&mut self, outcome: Outcome) -> Served {
        if let Some(message) = outcome.message {
            self.shared.deliver(&message);
        }
        if outcome.console {
            (self.shared.doorbell)();
        }
        match outcome.power {
            None => Served::Done,
            Some(PowerEvent::PowerOff) => Served::Stop(Stop::PowerOff),
            Some(PowerEvent::Reset) => Served::Stop(Stop::Reset),
        }
    }

    fn io(&mut self, registers: &mut Registers, field: u32) -> Served {
        let qualification = self.vmcs.info(InfoField::QUALIFICATION);
        let Some(access) = IoInstruction::decode(qualification) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        let Some(width) = Width::from_bytes(access.size.into()) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        if access.string {
            return string_io::serve(self, registers, &access, width);
        }
        let now = self.clock.now();
        let rax = &mut registers.0[reg::RAX];
        match access.direction {
            IoDirection::In => {
                let value = self.shared.platform.lock().port_read(access.port, width, &now);
                let ones = u64::from(width.ones());
                // A 32-bit result clears the upper half, others leave the rest as it is.
                let keep = if width == Width::Dword { 0 } else { !ones };
                *rax = *rax & keep | u64::from(value) & ones;
                Served::Done
            }
            IoDirection::Out => {
                let value = *rax as u32 & width.ones();
                let outcome =
                    self.shared.platform.lock().port_write(access.port, width, value, &now);
                self.finish_access(outcome)
            }
        }
    }

    fn ept_violation(&mut self, registers: &mut Registers, field: u32) -> Served {
        let violation = EptViolation::decode(self.vmcs.info(InfoField::QUALIFICATION));
        let at = GuestPhysical::new(self.vmcs.info(InfoField::GUEST_PHYSICAL));
        if self.ram.layout().offset_of(at, 1).is_some() {
            return self.fault(Fault::RamViolation, registers, field);
        }
        if violation.fetch {
            return self.fault(Fault::FetchOutsideRam, registers, field);
        }
        // The access was not the instruction's own: delivery of an event, or a walk of the
        // guest's page tables, went to memory that is not there.
        if event::interrupted_delivery(&self.vmcs) || !violation.translated {
            return self.fault(Fault::StructureOutsideRam, registers, field);
        }
        let mut code = [0; MAX_INSTRUCTION];
        let access = match report::instruction(&self.vmcs, &self.ram, &mut code) {
            Ok(len) => mmio::decode(&code[..len], report::code_size(&self.vmcs)),
            Err(_) => Err(mmio::DecodeError::Truncated),
        };
        let access = match access {
            Ok(access) => access,
            Err(error) => return self.fault(Fault::Undecodable(error), registers, field),
        };
        if violation.nmi_unblocking {
            self.block_nmis_again();
        }
        registers.0[reg::RSP] = self.vmcs.read(GuestField::RSP);
        let served = match access.written(&registers.0) {
            Some(value) => self.mmio_write(at, access.size, value),
            None => {
                let value = self.mmio_read(at, access.size);
                access.complete_read(&mut registers.0, value);
                self.vmcs.write(GuestField::RSP, registers.0[reg::RSP]);
                Served::Done
            }
        };
        match served {
            // The exit's instruction-length field is not defined for EPT violations.
            Served::Done => {
                self.advance(access.length.into());
                Served::Again
            }
            other => other,
        }
    }

    fn mmio_read(&mut self, at: GuestPhysical, size: u8) -> u64 {
        let mut platform = self.shared.platform.lock();
        match Width::from_bytes(size.into()) {
            Some(width) => platform.mmio_read(at, width).into(),
            // Eight bytes: two accesses, as a 32-bit bus does it.
            None => {
                let low = platform.mmio_read(at, Width::Dword);
                let high =
                    at.checked_add(4).map_or(u32::MAX, |at| platform.mmio_read(at, Width::Dword));
                u64::from(high) << 32 | u64::from(low)
            }
        }
    }

    fn mmio_write(&mut self, at: GuestPhysical, size: u8, value: u64) -> Served {
        let parts = match Width::from_bytes(size.into()) {
            Some(width) => [Some((at, width, value as u32 & width.ones())), None],
            None => [
                Some((at, Width::Dword, value as u32)),
                at.checked_add(4).map(|at| (at, Width::Dword, (value >> 32) as u32)),
            ],
        };
        for (at, width, value) in parts.into_iter().flatten() {
            let outcome = self.shared.platform.lock().mmio_write(at, width, value);
            match self.finish_access(outcome) {
                Served::Done => {}
                other => return other,
            }
        }
        Served::Done
    }

    fn exception(&mut self, registers: &Registers, field: u32) -> Served {
        let Some(event) = Event::decode(self.vmcs.info(InfoField::EVENT) as u32) else {
            return self.fault(Fault::UnexpectedExit, registers, field);
        };
        if event.nmi_unblocking {
            self.block_nmis_again();
        }
        match (event.kind, event.vector) {
            // An NMI of the machine's: the guest's own come to it without an exit.
            (EventKind::Nmi, _) => {
                self.nmis += 1;
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

    /// Does what the processor would have done before delivering #DB (SDM Vol. 3C, 28.2.1: DR6
    /// and DR7 are as before when #DB exits), then has it delivered.
    fn debug_exception(&mut self, event: &Event) -> Served {
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
    fn block_nmis_again(&mut self) {
        if !event::interrupted_delivery(&self.vmcs) {
            let state = self.vmcs.read(GuestField::INTERRUPTIBILITY);
            self.vmcs.write(GuestField::INTERRUPTIBILITY, state | BLOCKED_BY_NMI);
        }
    }

    fn control_register(&mut self, registers: &Registers) -> Served {
        let access = ControlRegisterAccess::decode(self.vmcs.info(InfoField::QUALIFICATION));
        let (0, ControlRegisterOperation::MoveTo { from }) = (access.register, access.operation)
        else {
            // Of CR4, only bits that no guest may set are trapped; CR3 and CR8 are not.
            return GeneralProtection.into();
        };
        let value = match usize::from(from) {
            reg::RSP => self.vmcs.read(GuestField::RSP),
            index => registers.0[index % registers.0.len()],
        };
        let owned = control_registers::CR0_OWNED;
        let mode = Mode {
            cr0: self.vmcs.read(GuestField::CR0) & !owned
                | self.vmcs.read(GuestField::CR0_SHADOW) & owned,
            cr4: self.vmcs.read(GuestField::CR4),
            efer: self.vmcs.read(GuestField::EFER),
            cs_long: report::code_size(&self.vmcs) == mmio::CodeSize::Bits64,
        };
        match control_registers::write_cr0(value, &mode) {
            Ok(write) => {
                self.vmcs.write(GuestField::CR0, write.cr0);
                self.vmcs.write(GuestField::CR0_SHADOW, write.shadow);
                if write.efer != mode.efer {
                    self.vmcs.write(GuestField::EFER, write.efer);
                    self.vmcs.set_guest_ia32e(write.efer & cpu::efer::LMA != 0);
                }
                Served::Done
            }
            Err(fault) => fault.into(),
        }
    }

    fn xsetbv(&mut self, registers: &Registers) -> Served {
        let index = registers.0[reg::RCX] as u32;
        let value = registers.0[reg::RDX] << 32 | registers.0[reg::RAX] & u64::from(u32::MAX);
        if index != 0 || !cpuid::valid_xcr0(value, self.permitted_xcr0) {
            return GeneralProtection.into();
        }
        // SAFETY: the value was checked against what the processor supports, and root mode has
        // CR4.OSXSAVE set.
        unsafe { vector::write_xcr0(value) };
        self.xcr0 = value;
        Served::Done
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
        if self.vmcs.read(GuestField::RFLAGS) & TRAP_FLAG != 0 {
            let pending = self.vmcs.read(GuestField::PENDING_DEBUG);
            self.vmcs.write(GuestField::PENDING_DEBUG, pending | PENDING_SINGLE_STEP);
        }
    }
}

impl ExitHandler for Vcpu {
    extern "C" fn handle(&mut self, registers: &mut Registers) -> Next {
        let start = rdtsc();
        let field = self.vmcs.info(InfoField::EXIT_REASON) as u32;
        let served = self.serve(field, registers);
        let next = match served {
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
            Served::Stop(stop) => {
                self.stop = Some(stop);
                Next::Leave
            }
        };
        if self.nmi_pending {
            self.nmi_pending = !event::inject_nmi(&mut self.vmcs);
            self.vmcs.set_nmi_window(self.nmi_pending);
        }
        self.statistics.record(field & 0xFFFF, rdtsc().wrapping_sub(start));
        next
    }
}
