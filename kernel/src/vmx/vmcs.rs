//! The virtual-machine control structure, set up in parts: host and controls here, the guest's
//! state in [`start`].

use super::bitmap::MsrBitmapFrame;
use super::capability::Capabilities;
use super::controls::{Entry as EntryControl, Pin, Primary};
use super::start;
use crate::arch::cpu;
use crate::arch::descriptors::HostSegments;
use crate::arch::msr::Msr;
use crate::arch::vmx::{self, VmFail};
use crate::memory::HostPhysical;
use core::marker::PhantomData;
use x86::vmx::vmcs::{control, guest, host, ro};

/// A field of the guest-state area or of the VM-entry event fields. Whatever is
/// written there can hurt the guest alone, so that writing is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestField(u32);

/// A field that can be read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoField(u32);

macro_rules! fields {
    ($kind:ident: $($(#[$doc:meta])* $name:ident = $encoding:expr;)*) => {
        impl $kind {
            $($(#[$doc])* pub const $name: Self = Self($encoding);)*
        }
    };
}

fields! { GuestField:
    /// Instruction pointer.
    RIP = guest::RIP;
    /// Stack pointer.
    RSP = guest::RSP;
    /// Flags.
    RFLAGS = guest::RFLAGS;
    /// CR0 as it is in force.
    CR0 = guest::CR0;
    /// CR3.
    CR3 = guest::CR3;
    /// CR4 as it is in force.
    CR4 = guest::CR4;
    /// DR7.
    DR7 = guest::DR7;
    /// Extended features.
    EFER = guest::IA32_EFER_FULL;
    /// CR0 as the guest reads it where the mask is set.
    CR0_SHADOW = control::CR0_READ_SHADOW;
    /// CR4 as the guest reads it where the mask is set.
    CR4_SHADOW = control::CR4_READ_SHADOW;
    /// Code segment.
    CS_SELECTOR = guest::CS_SELECTOR;
    /// Code segment's base.
    CS_BASE = guest::CS_BASE;
    /// Code segment's access rights.
    CS_ACCESS_RIGHTS = guest::CS_ACCESS_RIGHTS;
    /// Stack segment's access rights, whose DPL is the privilege level.
    SS_ACCESS_RIGHTS = guest::SS_ACCESS_RIGHTS;
    /// PDPTEs of PAE paging, which the processor takes from here at VM entry.
    PDPTE0 = guest::PDPTE0_FULL;
    /// The second.
    PDPTE1 = guest::PDPTE1_FULL;
    /// The third.
    PDPTE2 = guest::PDPTE2_FULL;
    /// The fourth.
    PDPTE3 = guest::PDPTE3_FULL;
    /// Task register's access rights.
    TR_ACCESS_RIGHTS = guest::TR_ACCESS_RIGHTS;
    /// Whether it is halted.
    ACTIVITY_STATE = guest::ACTIVITY_STATE;
    /// Blocking by STI, MOV SS, NMI.
    INTERRUPTIBILITY = guest::INTERRUPTIBILITY_STATE;
    /// Debug exceptions that are due.
    PENDING_DEBUG = guest::PENDING_DBG_EXCEPTIONS;
    /// Event to inject at entry.
    ENTRY_EVENT = control::VMENTRY_INTERRUPTION_INFO_FIELD;
    /// Its error code.
    ENTRY_ERROR_CODE = control::VMENTRY_EXCEPTION_ERR_CODE;
    /// Length of the instruction behind an injected software event.
    ENTRY_INSTRUCTION_LENGTH = control::VMENTRY_INSTRUCTION_LEN;
    /// What RDTSC adds.
    TSC_OFFSET = control::TSC_OFFSET_FULL;
}

fields! { InfoField:
    /// Why the guest exited.
    EXIT_REASON = ro::EXIT_REASON;
    /// Details, by reason.
    QUALIFICATION = ro::EXIT_QUALIFICATION;
    /// Length of the instruction that exited, in bytes.
    INSTRUCTION_LENGTH = ro::VMEXIT_INSTRUCTION_LEN;
    /// More of the instruction.
    INSTRUCTION_INFO = ro::VMEXIT_INSTRUCTION_INFO;
    /// Event that caused the exit.
    EVENT = ro::VMEXIT_INTERRUPTION_INFO;
    /// Its error code.
    EVENT_ERROR_CODE = ro::VMEXIT_INTERRUPTION_ERR_CODE;
    /// Event during whose delivery the exit happened.
    VECTORING = ro::IDT_VECTORING_INFO;
    /// Its error code.
    VECTORING_ERROR_CODE = ro::IDT_VECTORING_ERR_CODE;
    /// Guest-physical address of an EPT violation.
    GUEST_PHYSICAL = ro::GUEST_PHYSICAL_ADDR_FULL;
    /// Guest-linear address, where the qualification says that it is valid.
    GUEST_LINEAR = ro::GUEST_LINEAR_ADDR;
    /// Why a VMX instruction failed.
    INSTRUCTION_ERROR = ro::VM_INSTRUCTION_ERROR;
}

/// The current VMCS of this core. The value stands for that fact, and so stays
/// on its core.
pub struct CurrentVmcs(PhantomData<*mut ()>);

impl CurrentVmcs {
    /// Makes a fresh VMCS in `region` this core's current one. MSRs of the guest's that INIT keeps
    /// hold what they do after power-up.
    ///
    /// # Safety
    /// The core is in VMX operation; `region` is a zeroed frame, mapped by `mapped`, that is this
    /// VMCS's from now on.
    pub unsafe fn create(
        region: HostPhysical,
        mapped: *mut u32,
        revision: u32,
    ) -> Result<Self, VmFail> {
        // SAFETY: the caller's contract; the revision goes into the first word (SDM Vol. 3C, 25.2).
        unsafe {
            mapped.write(revision);
            vmx::vmclear(region)?;
            vmx::vmptrld(region)?;
        }
        for (field, value) in start::KEPT_BY_INIT {
            // SAFETY: the VMCS is current; these fields hold MSRs of the guest's.
            unsafe { vmx::vmwrite(field, value) };
        }
        Ok(Self(PhantomData))
    }

    /// Reads a field of the guest's state.
    #[inline(always)]
    pub fn read(&self, field: GuestField) -> u64 {
        // SAFETY: `self` stands for a current VMCS.
        unsafe { vmx::vmread(field.0) }
    }

    /// Writes a field of the guest's state.
    #[inline(always)]
    pub fn write(&mut self, field: GuestField, value: u64) {
        // SAFETY: `self` stands for a current VMCS; these fields concern the guest alone.
        unsafe { vmx::vmwrite(field.0, value) };
    }

    /// Reads what the processor says of the last exit.
    #[inline(always)]
    pub fn info(&self, field: InfoField) -> u64 {
        // SAFETY: `self` stands for a current VMCS.
        unsafe { vmx::vmread(field.0) }
    }

    /// Reads any field by its encoding, for a report.
    pub fn read_raw(&self, encoding: u32) -> u64 {
        // SAFETY: `self` stands for a current VMCS; a field that does not exist leaves an
        // unspecified value, no more.
        unsafe { vmx::vmread(encoding) }
    }

    /// Asks for an exit as soon as the guest can take an NMI, or no longer.
    pub fn set_nmi_window(&mut self, on: bool) {
        let bit = u64::from(Primary::NMI_WINDOW_EXITING.bits());
        let controls = self.read_raw(control::PRIMARY_PROCBASED_EXEC_CONTROLS);
        let controls = if on { controls | bit } else { controls & !bit };
        // SAFETY: `self` stands for a current VMCS; the control exists, as was checked, and causes
        // an exit more, never one less.
        unsafe { vmx::vmwrite(control::PRIMARY_PROCBASED_EXEC_CONTROLS, controls) };
    }

    /// Ends what [`vmx::exit_at_next_entry`] began.
    pub fn cancel_exit(&mut self) {
        let timer = u64::from(Pin::PREEMPTION_TIMER.bits());
        let controls = self.read_raw(control::PINBASED_EXEC_CONTROLS);
        // SAFETY: `self` stands for a current VMCS; without the timer there is an exit less, that
        // which was asked for.
        unsafe { vmx::vmwrite(control::PINBASED_EXEC_CONTROLS, controls & !timer) };
    }

    /// Puts another MSR bitmap in force, from the next entry on (SDM Vol. 3C, 25.6.9).
    pub fn set_msr_bitmap(&mut self, bitmap: MsrBitmapFrame) {
        // SAFETY: `self` stands for a current VMCS; the value stands for a bitmap that is the
        // guest's.
        unsafe { vmx::vmwrite(control::MSR_BITMAPS_ADDR_FULL, bitmap.address().as_u64()) };
    }

    /// "IA-32e mode guest" as the processor last saved it.
    pub fn guest_ia32e(&self) -> bool {
        self.read_raw(control::VMENTRY_CONTROLS) as u32 & EntryControl::GUEST_IA32E.bits() != 0
    }

    /// Says whether the guest is in IA-32e mode: that is EFER.LMA.
    pub fn set_guest_ia32e(&mut self, on: bool) {
        let bit = u64::from(EntryControl::GUEST_IA32E.bits());
        let controls = self.read_raw(control::VMENTRY_CONTROLS);
        let controls = if on { controls | bit } else { controls & !bit };
        // SAFETY: `self` stands for a current VMCS; this control describes the guest's mode.
        unsafe { vmx::vmwrite(control::VMENTRY_CONTROLS, controls) };
    }
}

/// What confines a guest.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// EPT pointer.
    pub eptp: u64,
    /// The guest's tag in the TLB, not 0.
    pub vpid: u16,
    /// The MSR bitmap at first.
    pub msr_bitmap: MsrBitmapFrame,
    /// The I/O bitmaps' frames: low ports, high ports.
    pub io_bitmaps: [HostPhysical; 2],
    /// Bits of CR0 that the hypervisor owns.
    pub cr0_mask: u64,
    /// Bits of CR4 that the hypervisor owns.
    pub cr4_mask: u64,
    /// Exceptions that exit, a bit for each vector.
    pub exceptions: u32,
}

/// A write that the processor refused: the field's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedField(pub u32);

/// Writes a field of the current VMCS, for the set-up functions here and in [`start`] alone.
pub(super) fn put(field: u32, value: u64) -> Result<(), RefusedField> {
    // SAFETY: the set-up functions own a current VMCS; what they write is argued there.
    unsafe { vmx::vmwrite_checked(field, value) }.map_err(|_| RefusedField(field))
}

/// Writes the controls (SDM Vol. 3C, 25.6 to 25.8).
///
/// # Safety
/// The bitmaps' and tables' frames must be the guest's own for as long as the VMCS is used, and EPT
/// must map nothing but what the guest owns.
pub unsafe fn set_controls(
    _vmcs: &mut CurrentVmcs,
    capabilities: &Capabilities,
    confinement: &Confinement,
) -> Result<(), RefusedField> {
    put(control::PINBASED_EXEC_CONTROLS, capabilities.pin.into())?;
    put(control::PRIMARY_PROCBASED_EXEC_CONTROLS, capabilities.primary.into())?;
    put(control::SECONDARY_PROCBASED_EXEC_CONTROLS, capabilities.secondary.into())?;
    put(control::VMEXIT_CONTROLS, capabilities.exit.into())?;
    put(control::VMENTRY_CONTROLS, capabilities.entry.into())?;
    put(control::EXCEPTION_BITMAP, confinement.exceptions.into())?;
    // Page faults exit when the bitmap's bit 14 equals (code & mask == match): 0 and 0 make it
    // follow the bit alone (SDM Vol. 3C, 25.6.3).
    put(control::PAGE_FAULT_ERR_CODE_MASK, 0)?;
    put(control::PAGE_FAULT_ERR_CODE_MATCH, 0)?;
    put(control::CR3_TARGET_COUNT, 0)?;
    put(control::VMEXIT_MSR_STORE_COUNT, 0)?;
    put(control::VMEXIT_MSR_LOAD_COUNT, 0)?;
    put(control::VMENTRY_MSR_LOAD_COUNT, 0)?;
    put(control::VMENTRY_INTERRUPTION_INFO_FIELD, 0)?;
    put(control::TSC_OFFSET_FULL, 0)?;
    put(control::MSR_BITMAPS_ADDR_FULL, confinement.msr_bitmap.address().as_u64())?;
    put(control::IO_BITMAP_A_ADDR_FULL, confinement.io_bitmaps[0].as_u64())?;
    put(control::IO_BITMAP_B_ADDR_FULL, confinement.io_bitmaps[1].as_u64())?;
    put(control::CR0_GUEST_HOST_MASK, confinement.cr0_mask)?;
    put(control::CR4_GUEST_HOST_MASK, confinement.cr4_mask)?;
    put(control::EPTP_FULL, confinement.eptp)?;
    put(control::VPID, confinement.vpid.into())?;
    if capabilities.has(super::controls::Secondary::ENCLS_EXITING) {
        put(control::ENCLS_EXITING_BITMAP_FULL, u64::MAX)?;
    }
    Ok(())
}

/// Writes the host state: this core as it is now (SDM Vol. 3C, 25.5, checks in 27.2.2 and 27.2.3).
///
/// # Safety
/// `entry` must be [`exit_point`](crate::arch::switch::exit_point) for the handler that will run, and for
/// this core's processor.
pub unsafe fn set_host(
    _vmcs: &mut CurrentVmcs,
    segments: &HostSegments,
    entry: u64,
) -> Result<(), RefusedField> {
    put(host::CR0, cpu::read_cr0())?;
    put(host::CR3, cpu::read_cr3())?;
    put(host::CR4, cpu::read_cr4())?;
    put(host::CS_SELECTOR, segments.code.into())?;
    for selector in [host::SS_SELECTOR, host::DS_SELECTOR, host::ES_SELECTOR] {
        put(selector, segments.data.into())?;
    }
    put(host::FS_SELECTOR, 0)?;
    put(host::GS_SELECTOR, 0)?;
    put(host::TR_SELECTOR, segments.task.into())?;
    put(host::FS_BASE, 0)?;
    put(host::GS_BASE, Msr::GS_BASE.read())?;
    put(host::TR_BASE, segments.task_base)?;
    put(host::GDTR_BASE, segments.gdt_base)?;
    put(host::IDTR_BASE, crate::arch::interrupts::table_address())?;
    // SYSENTER is not used in root mode: a stray one must not find a guest's values.
    put(host::IA32_SYSENTER_CS, 0)?;
    put(host::IA32_SYSENTER_ESP, 0)?;
    put(host::IA32_SYSENTER_EIP, 0)?;
    put(host::IA32_EFER_FULL, Msr::EFER.read())?;
    put(host::IA32_PAT_FULL, Msr::PAT.read())?;
    put(host::RIP, entry)
}
