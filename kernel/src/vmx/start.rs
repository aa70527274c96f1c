//! The states in which a guest's processor starts, written into the VMCS's guest-state area.

use super::vmcs::{CurrentVmcs, RefusedField, put};
use crate::arch::cpu::{self, cr0, cr4, efer};
use x86::vmx::vmcs::{control, guest};

/// How a guest's processor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In 64-bit mode.
    Long(Start64),
    /// In 32-bit protected mode without paging.
    Protected(Start32),
    /// In real mode, as after INIT and a start-up IPI.
    Real {
        /// The IPI's vector: the page, below 1 MiB, whose first byte is the first instruction.
        page: u8,
    },
}

/// What a start in 64-bit mode is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start64 {
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Page tables.
    pub cr3: u64,
    /// GDT's base.
    pub gdt_base: u64,
    /// GDT's limit.
    pub gdt_limit: u16,
    /// Code segment's selector.
    pub code: u16,
    /// Data segments' selector.
    pub data: u16,
}

/// What a start in 32-bit protected mode is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start32 {
    /// First instruction.
    pub eip: u32,
    /// Stack pointer.
    pub esp: u32,
    /// GDT's base.
    pub gdt_base: u32,
    /// GDT's limit.
    pub gdt_limit: u16,
    /// Code segment's selector.
    pub code: u16,
    /// Data segments' selector.
    pub data: u16,
}

/// MSRs that INIT leaves as they are, and what they hold after power-up (SDM Vol. 3A, 10.1 and
/// table 10-1; for the PAT 12.12.4).
pub(super) const KEPT_BY_INIT: [(u32, u64); 4] = [
    (guest::IA32_PAT_FULL, 0x0007_0406_0007_0406),
    (guest::IA32_SYSENTER_CS, 0),
    (guest::IA32_SYSENTER_ESP, 0),
    (guest::IA32_SYSENTER_EIP, 0),
];

/// Writes the guest state, all of it: nothing is left of what the processor ran before, but for
/// the MSRs that INIT keeps, and the TSC offset. No event is injected.
///
/// # Errors
/// The field that the processor lacks.
pub fn set_guest(vmcs: &mut CurrentVmcs, start: &Start) -> Result<(), RefusedField> {
    // MCE is as in root mode: without it a machine check would shut the machine down instead of
    // exiting. The guest sees 0.
    write(start, cpu::read_cr4() & cr4::MCE, put)?;
    vmcs.set_guest_ia32e(matches!(start, Start::Long(_)));
    Ok(())
}

/// A segment register.
#[derive(Clone, Copy)]
struct Segment {
    selector: u16,
    base: u32,
    limit: u32,
    /// In the VMCS's format (SDM Vol. 3C, table 25-2).
    rights: u32,
}

/// Access rights of segments in the VMCS's format.
mod rights {
    /// 64-bit code, execute and read, accessed, present.
    pub const CODE_64: u32 = 0xA09B;
    /// 32-bit code, execute and read, accessed, present, 4-GByte limit.
    pub const CODE_32: u32 = 0xC09B;
    /// Data, read and write, accessed, present, 4-GByte limit.
    pub const DATA: u32 = 0xC093;
    /// 16-bit, read and write, accessed, present: code as well, in real mode.
    pub const REAL: u32 = 0x0093;
    /// LDT, present.
    pub const LDT: u32 = 0x0082;
    /// Busy TSS, present.
    pub const BUSY_TSS: u32 = 0x008B;
    /// Unusable.
    pub const UNUSABLE: u32 = 1 << 16;
}

/// DR7 after reset.
const DR7_RESET: u64 = 0x400;
/// RFLAGS after reset: bit 1 is always set.
const RFLAGS_RESET: u64 = 1 << 1;
/// Limit of a 4-GByte segment.
const FLAT_LIMIT: u32 = 0xFFFF_FFFF;
/// Limit of segments and tables after INIT.
const REAL_LIMIT: u16 = 0xFFFF;
/// Limit of the smallest TSS, of 32 and of 64 bits.
const TSS_LIMIT: u32 = 0x67;
/// "No VMCS is linked" (SDM Vol. 3C, 25.4.2).
const NO_LINK: u64 = u64::MAX;
/// Bytes in a page, as a shift, of a start-up IPI's vector.
const PAGE_SHIFT: u32 = 12;

/// In what the starts differ.
struct State {
    /// CR0 as the guest reads it.
    cr0: u64,
    cr3: u64,
    /// CR4 as the guest reads it.
    cr4: u64,
    efer: u64,
    rip: u64,
    rsp: u64,
    code: Segment,
    /// SS, DS, ES, FS, GS.
    data: Segment,
    ldtr: Segment,
    tr: Segment,
    /// Base and limit.
    gdtr: (u64, u16),
    idt_limit: u16,
}

const fn flat(selector: u16, rights: u32) -> Segment {
    Segment { selector, base: 0, limit: FLAT_LIMIT, rights }
}

/// A segment register with selector and base 0.
const fn null(limit: u32, rights: u32) -> Segment {
    Segment { selector: 0, base: 0, limit, rights }
}

impl State {
    fn of(start: &Start) -> Self {
        match *start {
            Start::Long(start) => Self {
                cr0: cr0::PE | cr0::PG | cr0::ET | cr0::NE,
                cr3: start.cr3,
                cr4: cr4::PAE,
                efer: efer::LME | efer::LMA,
                rip: start.rip,
                rsp: start.rsp,
                code: flat(start.code, rights::CODE_64),
                data: flat(start.data, rights::DATA),
                ldtr: null(0, rights::UNUSABLE),
                tr: null(TSS_LIMIT, rights::BUSY_TSS),
                gdtr: (start.gdt_base, start.gdt_limit),
                idt_limit: 0,
            },
            Start::Protected(start) => Self {
                cr0: cr0::PE | cr0::ET,
                cr3: 0,
                cr4: 0,
                efer: 0,
                rip: start.eip.into(),
                rsp: start.esp.into(),
                code: flat(start.code, rights::CODE_32),
                data: flat(start.data, rights::DATA),
                ldtr: null(0, rights::UNUSABLE),
                tr: null(TSS_LIMIT, rights::BUSY_TSS),
                gdtr: (start.gdt_base.into(), start.gdt_limit),
                idt_limit: 0,
            },
            // SDM Vol. 3A, 9.4.4 and table 10-1. INIT keeps CD and NW: a processor that had turned
            // its cache on would read 0 there. Start-up code has to turn it on in any case.
            Start::Real { page } => Self {
                cr0: cr0::ET | cr0::CD | cr0::NW,
                cr3: 0,
                cr4: 0,
                efer: 0,
                rip: 0,
                rsp: 0,
                code: Segment {
                    selector: u16::from(page) << (PAGE_SHIFT - 4),
                    base: u32::from(page) << PAGE_SHIFT,
                    limit: REAL_LIMIT.into(),
                    rights: rights::REAL,
                },
                data: null(REAL_LIMIT.into(), rights::REAL),
                ldtr: null(REAL_LIMIT.into(), rights::LDT),
                tr: null(REAL_LIMIT.into(), rights::BUSY_TSS),
                gdtr: (0, REAL_LIMIT),
                idt_limit: REAL_LIMIT,
            },
        }
    }
}

/// The fields of a segment register: selector, base, limit, access rights.
type SegmentFields = [u32; 4];

const CS: SegmentFields =
    [guest::CS_SELECTOR, guest::CS_BASE, guest::CS_LIMIT, guest::CS_ACCESS_RIGHTS];
const DATA: [SegmentFields; 5] = [
    [guest::SS_SELECTOR, guest::SS_BASE, guest::SS_LIMIT, guest::SS_ACCESS_RIGHTS],
    [guest::DS_SELECTOR, guest::DS_BASE, guest::DS_LIMIT, guest::DS_ACCESS_RIGHTS],
    [guest::ES_SELECTOR, guest::ES_BASE, guest::ES_LIMIT, guest::ES_ACCESS_RIGHTS],
    [guest::FS_SELECTOR, guest::FS_BASE, guest::FS_LIMIT, guest::FS_ACCESS_RIGHTS],
    [guest::GS_SELECTOR, guest::GS_BASE, guest::GS_LIMIT, guest::GS_ACCESS_RIGHTS],
];
const LDTR: SegmentFields =
    [guest::LDTR_SELECTOR, guest::LDTR_BASE, guest::LDTR_LIMIT, guest::LDTR_ACCESS_RIGHTS];
const TR: SegmentFields =
    [guest::TR_SELECTOR, guest::TR_BASE, guest::TR_LIMIT, guest::TR_ACCESS_RIGHTS];

/// Gives `put` each field and its value. `machine_checks` is CR4.MCE or 0.
pub(super) fn write<E>(
    start: &Start,
    machine_checks: u64,
    mut put: impl FnMut(u32, u64) -> Result<(), E>,
) -> Result<(), E> {
    let state = State::of(start);
    if !matches!(start, Start::Real { .. }) {
        for (field, value) in KEPT_BY_INIT {
            put(field, value)?;
        }
    }
    // 27.3.1.1: NE and VMXE are fixed to 1. CD and NW stay 0, as the caches are everybody's.
    put(guest::CR0, state.cr0 & !(cr0::CD | cr0::NW) | cr0::NE)?;
    put(control::CR0_READ_SHADOW, state.cr0)?;
    put(guest::CR3, state.cr3)?;
    put(guest::CR4, state.cr4 | cr4::VMXE | machine_checks)?;
    put(control::CR4_READ_SHADOW, state.cr4)?;
    put(guest::IA32_EFER_FULL, state.efer)?;
    put(guest::DR7, DR7_RESET)?;
    put(guest::IA32_DEBUGCTL_FULL, 0)?;
    // 27.3.1.2: segments as the mode asks for.
    let registers = [(CS, state.code), (LDTR, state.ldtr), (TR, state.tr)];
    for (fields, segment) in registers.into_iter().chain(DATA.map(|fields| (fields, state.data))) {
        let [selector, base, limit, rights] = fields;
        put(selector, segment.selector.into())?;
        put(base, segment.base.into())?;
        put(limit, segment.limit.into())?;
        put(rights, segment.rights.into())?;
    }
    // 27.3.1.3.
    put(guest::GDTR_BASE, state.gdtr.0)?;
    put(guest::GDTR_LIMIT, state.gdtr.1.into())?;
    put(guest::IDTR_BASE, 0)?;
    put(guest::IDTR_LIMIT, state.idt_limit.into())?;
    // 27.3.1.4.
    put(guest::RIP, state.rip)?;
    put(guest::RSP, state.rsp)?;
    put(guest::RFLAGS, RFLAGS_RESET)?;
    // 27.3.1.5: active, nothing blocked, nothing pending, nothing injected.
    put(guest::ACTIVITY_STATE, 0)?;
    put(guest::INTERRUPTIBILITY_STATE, 0)?;
    put(guest::PENDING_DBG_EXCEPTIONS, 0)?;
    put(guest::LINK_PTR_FULL, NO_LINK)?;
    put(control::VMENTRY_INTERRUPTION_INFO_FIELD, 0)?;
    // 27.3.1.6: no start uses PAE paging.
    for field in [guest::PDPTE0_FULL, guest::PDPTE1_FULL, guest::PDPTE2_FULL, guest::PDPTE3_FULL] {
        put(field, 0)?;
    }
    Ok(())
}
