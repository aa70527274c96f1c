//! What is said when a guest is stopped for a fault.

use super::control_registers::CR4_OWNED;
use super::mmio::{CodeSize, MAX_INSTRUCTION};
use super::walk::{self, Paging};
use crate::arch::switch::{Registers, reg};
use crate::memory::GuestMemory;
use crate::vmx::capability::ThisProcessor;
use crate::vmx::checks::{self, Limits};
use crate::vmx::exit::{EptViolation, ExitReason};
use crate::vmx::snapshot::Snapshot;
use crate::vmx::vmcs::{CurrentVmcs, GuestField, InfoField};
use core::fmt;

/// CS.L in a VMCS's access rights (SDM Vol. 3C, table 25-2).
/// The L bit of a code segment's access rights (SDM Vol. 3C, 25.4.1): 64-bit code, in IA-32e mode.
pub const RIGHTS_L: u64 = 1 << 13;
/// CS.D.
const RIGHTS_D: u64 = 1 << 14;

/// The registers that decide how the guest's addresses are translated.
pub fn paging(vmcs: &CurrentVmcs) -> Paging {
    Paging {
        cr0: vmcs.read(GuestField::CR0),
        cr3: vmcs.read(GuestField::CR3),
        cr4: vmcs.read(GuestField::CR4),
        efer: vmcs.read(GuestField::EFER),
    }
}

/// Operand and address size of the guest's code.
pub fn code_size(vmcs: &CurrentVmcs) -> CodeSize {
    let rights = vmcs.read(GuestField::CS_ACCESS_RIGHTS);
    CodeSize::new(vmcs.guest_ia32e(), rights & RIGHTS_L != 0, rights & RIGHTS_D != 0)
}

/// The guest's privilege level: SS's DPL (SDM Vol. 3C, 25.4.1).
pub fn privilege_level(vmcs: &CurrentVmcs) -> u64 {
    vmcs.read(GuestField::SS_ACCESS_RIGHTS) >> 5 & 0b11
}

/// Reads the guest's code at its RIP; returns how many bytes could be had.
pub fn instruction(
    vmcs: &CurrentVmcs,
    memory: &impl GuestMemory,
    into: &mut [u8; MAX_INSTRUCTION],
) -> Result<usize, walk::WalkError> {
    code_at(vmcs, memory, vmcs.read(GuestField::RIP), into)
}

/// The byte of the guest's code before its RIP, if it can be had.
pub fn byte_before(vmcs: &CurrentVmcs, memory: &impl GuestMemory) -> Option<u8> {
    let mut code = [0; MAX_INSTRUCTION];
    let before = vmcs.read(GuestField::RIP).checked_sub(1)?;
    let len = code_at(vmcs, memory, before, &mut code).ok()?;
    code.first().copied().filter(|_| len > 0)
}

fn code_at(
    vmcs: &CurrentVmcs,
    memory: &impl GuestMemory,
    rip: u64,
    into: &mut [u8; MAX_INSTRUCTION],
) -> Result<usize, walk::WalkError> {
    let base = vmcs.read(GuestField::CS_BASE);
    walk::fetch(memory, paging(vmcs), rip, base, code_size(vmcs), into)
}

/// A guest's state at its last exit, to be printed line by line.
#[derive(Clone, Debug)]
pub struct Report {
    /// The processor's virtual APIC ID.
    pub processor: u32,
    /// Exit reason as the processor gave it.
    pub reason: u32,
    /// Its name.
    pub reason_name: &'static str,
    qualification: u64,
    addresses: Addresses,
    registers: Registers,
    rip: u64,
    rsp: u64,
    rflags: u64,
    control: [u64; 4],
    cs: u64,
    code: [u8; MAX_INSTRUCTION],
    code_len: usize,
    /// After a VM entry that failed.
    failed: Option<Snapshot>,
}

/// The addresses that an exit is about. Where it has none, the fields are those of an earlier exit (SDM Vol. 3C, 27.2.1).
#[derive(Clone, Copy, Debug, Default)]
struct Addresses {
    physical: Option<u64>,
    linear: Option<u64>,
}

impl Addresses {
    fn collect(vmcs: &CurrentVmcs, reason: ExitReason) -> Self {
        let physical = || Some(vmcs.info(InfoField::GUEST_PHYSICAL));
        match reason {
            ExitReason::EptViolation => {
                let violation = EptViolation::decode(vmcs.info(InfoField::QUALIFICATION));
                let linear = violation.linear_valid.then(|| vmcs.info(InfoField::GUEST_LINEAR));
                Self { physical: physical(), linear }
            }
            ExitReason::EptMisconfiguration => Self { physical: physical(), linear: None },
            _ => Self::default(),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.physical {
            write!(f, ", guest-physical {at:#x}")?;
        }
        if let Some(at) = self.linear {
            write!(f, ", guest-linear {at:#x}")?;
        }
        Ok(())
    }
}

/// Most violated checks of a failed VM entry that a report names.
const MOST_VIOLATIONS: usize = 8;

impl Report {
    /// Collects the state of the guest that exited on this core.
    pub fn collect(
        vmcs: &CurrentVmcs,
        memory: &impl GuestMemory,
        registers: &Registers,
        processor: u32,
        reason: u32,
        reason_name: &'static str,
    ) -> Self {
        let mut code = [0; MAX_INSTRUCTION];
        let code_len = instruction(vmcs, memory, &mut code).unwrap_or(0);
        Self {
            processor,
            reason,
            reason_name,
            qualification: vmcs.info(InfoField::QUALIFICATION),
            addresses: Addresses::collect(vmcs, ExitReason::from(reason)),
            registers: registers.clone(),
            rip: vmcs.read(GuestField::RIP),
            rsp: vmcs.read(GuestField::RSP),
            rflags: vmcs.read(GuestField::RFLAGS),
            control: [
                vmcs.read(GuestField::CR0),
                vmcs.read(GuestField::CR3),
                vmcs.read(GuestField::CR4) & !CR4_OWNED,
                vmcs.read(GuestField::EFER),
            ],
            cs: vmcs.read(GuestField::CS_SELECTOR),
            code,
            code_len,
            failed: None,
        }
    }

    /// Keeps all fields, so that those which made a VM entry fail can be named.
    pub fn keep_fields(&mut self, vmcs: &CurrentVmcs) {
        self.failed = Some(Snapshot::take(vmcs));
    }

    /// Calls `line` with each line of the report.
    pub fn lines(&self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        if let Some(vmcs) = &self.failed {
            // By the manual's checks, on the core that prints: all cores have the same processor.
            let limits = Limits::read(&ThisProcessor, crate::arch::cpu::cpuid);
            let mut left = MOST_VIOLATIONS;
            checks::find(vmcs, &limits, |violation| {
                if left > 0 {
                    left = left.saturating_sub(1);
                    line(format_args!("invalid: {violation}"));
                }
            });
        }
        line(format_args!(
            "exit reason {} ({}) of processor {}, qualification {:#x}{}",
            self.reason & 0xFFFF,
            self.reason_name,
            self.processor,
            self.qualification,
            self.addresses
        ));
        line(format_args!(
            "rip {:016x}  rsp {:016x}  rflags {:08x}  cs {:04x}",
            self.rip, self.rsp, self.rflags, self.cs
        ));
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        // RSP is in the VMCS.
        let all = NAMES.into_iter().zip(self.registers.0).enumerate();
        let others: heapless::Vec<(&str, u64), 16> =
            all.filter(|(index, _)| *index != reg::RSP).map(|(_, register)| register).collect();
        for group in others.chunks(4) {
            let mut text: heapless::String<128> = heapless::String::new();
            for (name, value) in group {
                use fmt::Write;
                // Four of them fit.
                let _ = write!(text, "{name} {value:016x}  ");
            }
            line(format_args!("{}", text.trim_end()));
        }
        let [cr0, cr3, cr4, efer] = self.control;
        line(format_args!("cr0 {cr0:08x}  cr3 {cr3:016x}  cr4 {cr4:08x}  efer {efer:04x}"));
        let code = self.code.get(..self.code_len).unwrap_or(&self.code);
        if code.is_empty() {
            line(format_args!("instruction bytes: not readable"));
        } else {
            line(format_args!("instruction bytes: {code:02x?}"));
        }
    }
}
