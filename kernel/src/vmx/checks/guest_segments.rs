//! Checks on guest segment registers (SDM Vol. 3C, 27.3.1.2).

use super::{Checker, Field, RESERVED, UPPER_HALF, group};
use crate::arch::cpu::cr0;
use x86::vmx::vmcs::guest;

/// Access rights of a segment (SDM Vol. 3C, table 25-2).
pub(super) mod rights {
    pub const TYPE: u64 = 0xF;
    /// Of a type: accessed.
    pub const ACCESSED: u64 = 1 << 0;
    /// Of a code segment's type: readable.
    pub const READABLE: u64 = 1 << 1;
    /// Of a type: a code segment.
    pub const CODE: u64 = 1 << 3;
    /// Code or data, not a system segment.
    pub const S: u64 = 1 << 4;
    pub const PRESENT: u64 = 1 << 7;
    pub const L: u64 = 1 << 13;
    pub const D_B: u64 = 1 << 14;
    pub const G: u64 = 1 << 15;
    pub const UNUSABLE: u64 = 1 << 16;
    /// Bits 11:8 and 31:17.
    pub const RESERVED: u64 = 0xFFFE_0F00;
    /// What a segment has in virtual-8086 mode.
    pub const VIRTUAL_8086: u64 = 0xF3;
}

/// Types of segments (SDM Vol. 3A, tables 3-1 and 3-2).
mod kind {
    pub const DATA_ACCESSED: u64 = 3;
    pub const DATA_DOWN_ACCESSED: u64 = 7;
    pub const CODE_ACCESSED: u64 = 9;
    pub const CODE_READABLE_ACCESSED: u64 = 11;
    pub const CONFORMING_ACCESSED: u64 = 13;
    pub const CONFORMING_READABLE_ACCESSED: u64 = 15;
    pub const LDT: u64 = 2;
    pub const BUSY_TSS_16: u64 = 3;
    pub const BUSY_TSS: u64 = 11;
}

/// RFLAGS.VM: the guest will be in virtual-8086 mode.
const RFLAGS_VM: u64 = 1 << 17;
/// A selector's RPL.
const RPL: u64 = 0b11;
/// A selector's TI.
const TI: u64 = 1 << 2;

/// The fields of a segment register.
#[derive(Clone, Copy)]
struct Segment {
    selector: Field,
    base: Field,
    limit: Field,
    rights: Field,
}

macro_rules! segment {
    ($name:literal, $selector:ident, $base:ident, $limit:ident, $rights:ident) => {
        Segment {
            selector: Field::new(guest::$selector, concat!("guest ", $name, " selector")),
            base: Field::new(guest::$base, concat!("guest ", $name, " base")),
            limit: Field::new(guest::$limit, concat!("guest ", $name, " limit")),
            rights: Field::new(guest::$rights, concat!("guest ", $name, " access rights")),
        }
    };
}

const CS: Segment = segment!("CS", CS_SELECTOR, CS_BASE, CS_LIMIT, CS_ACCESS_RIGHTS);
const SS: Segment = segment!("SS", SS_SELECTOR, SS_BASE, SS_LIMIT, SS_ACCESS_RIGHTS);
const DS: Segment = segment!("DS", DS_SELECTOR, DS_BASE, DS_LIMIT, DS_ACCESS_RIGHTS);
const ES: Segment = segment!("ES", ES_SELECTOR, ES_BASE, ES_LIMIT, ES_ACCESS_RIGHTS);
const FS: Segment = segment!("FS", FS_SELECTOR, FS_BASE, FS_LIMIT, FS_ACCESS_RIGHTS);
const GS: Segment = segment!("GS", GS_SELECTOR, GS_BASE, GS_LIMIT, GS_ACCESS_RIGHTS);
const TR: Segment = segment!("TR", TR_SELECTOR, TR_BASE, TR_LIMIT, TR_ACCESS_RIGHTS);
const LDTR: Segment = segment!("LDTR", LDTR_SELECTOR, LDTR_BASE, LDTR_LIMIT, LDTR_ACCESS_RIGHTS);

/// Goes through 27.3.1.2.
pub(super) fn check(checker: &mut Checker<'_>) {
    checker.section = "27.3.1.2";
    let virtual_8086 = checker.vmcs.read(guest::RFLAGS) & RFLAGS_VM != 0;
    selectors(checker, virtual_8086);
    bases(checker, virtual_8086);
    if virtual_8086 {
        for segment in [CS, SS, DS, ES, FS, GS] {
            let (limit, access) = (checker.read(segment.limit), checker.read(segment.rights));
            checker.require(limit == 0xFFFF, segment.limit, "must be 0xffff in virtual-8086 mode");
            let holds = access == rights::VIRTUAL_8086;
            checker.require(holds, segment.rights, "must be 0xf3 in virtual-8086 mode");
        }
    } else {
        code(checker);
        stack(checker);
        for segment in [DS, ES, FS, GS] {
            data(checker, segment);
        }
    }
    task(checker);
    local_table(checker);
}

fn usable(checker: &Checker<'_>, segment: Segment) -> bool {
    checker.read(segment.rights) & rights::UNUSABLE == 0
}

/// Descriptor privilege level.
fn dpl(checker: &Checker<'_>, segment: Segment) -> u64 {
    checker.read(segment.rights) >> 5 & 0b11
}

/// Requested privilege level.
fn rpl(checker: &Checker<'_>, segment: Segment) -> u64 {
    checker.read(segment.selector) & RPL
}

/// The guest's privilege level: SS's DPL, usable or not.
pub(super) fn privilege_level(checker: &Checker<'_>) -> u64 {
    dpl(checker, SS)
}

/// Whether the guest's code is 64-bit.
pub(super) fn is_64_bit(checker: &Checker<'_>) -> bool {
    checker.has(group::IA32E_MODE_GUEST) && checker.read(CS.rights) & rights::L != 0
}

fn selectors(checker: &mut Checker<'_>, virtual_8086: bool) {
    checker.zero(TR.selector, TI, "must be 0: the TI flag");
    if usable(checker, LDTR) {
        checker.zero(LDTR.selector, TI, "must be 0: the TI flag");
    }
    if !virtual_8086 && !checker.has(group::UNRESTRICTED_GUEST) {
        let holds = rpl(checker, SS) == rpl(checker, CS);
        checker.require(holds, SS.selector, "must have the RPL of the CS selector");
    }
}

fn bases(checker: &mut Checker<'_>, virtual_8086: bool) {
    if virtual_8086 {
        for segment in [CS, SS, DS, ES, FS, GS] {
            let holds = checker.read(segment.base) == checker.read(segment.selector) << 4;
            let rule = "must be the selector times 16 in virtual-8086 mode";
            checker.require(holds, segment.base, rule);
        }
    }
    for segment in [TR, FS, GS] {
        checker.canonical(segment.base);
    }
    if usable(checker, LDTR) {
        checker.canonical(LDTR.base);
    }
    let upper = !u64::from(u32::MAX);
    checker.zero(CS.base, upper, UPPER_HALF);
    for segment in [SS, DS, ES] {
        if usable(checker, segment) {
            checker.zero(segment.base, upper, UPPER_HALF);
        }
    }
}

/// What holds for every segment that is usable; `system` for TR and LDTR.
fn descriptor(checker: &mut Checker<'_>, segment: Segment, system: bool) {
    let access = segment.rights;
    if system {
        checker.zero(access, rights::S, "must be 0: S, a system segment");
    } else {
        checker.ones(access, rights::S, "must be 1: S, a code or data segment");
    }
    checker.ones(access, rights::PRESENT, "must be 1: P, present");
    checker.zero(access, rights::RESERVED, RESERVED);
    let limit = checker.read(segment.limit);
    if limit & 0xFFF != 0xFFF {
        checker.zero(access, rights::G, "must be 0: G, as the limit's bits 11:0 are not all 1");
    }
    if limit & 0xFFF0_0000 != 0 {
        checker.ones(access, rights::G, "must be 1: G, as the limit's bits 31:20 are not all 0");
    }
}

fn code(checker: &mut Checker<'_>) {
    let access = CS.rights;
    let unrestricted = checker.has(group::UNRESTRICTED_GUEST);
    let (own, stack) = (dpl(checker, CS), dpl(checker, SS));
    match checker.read(access) & rights::TYPE {
        kind::DATA_ACCESSED if unrestricted => {
            checker.require(own == 0, access, "must have DPL 0, as the type is 3");
        }
        kind::CODE_ACCESSED | kind::CODE_READABLE_ACCESSED => {
            let rule = "must have SS's DPL, as the segment is not conforming";
            checker.require(own == stack, access, rule);
        }
        kind::CONFORMING_ACCESSED | kind::CONFORMING_READABLE_ACCESSED => {
            let rule = "must have a DPL that is not above SS's, as the segment is conforming";
            checker.require(own <= stack, access, rule);
        }
        _ if unrestricted => {
            checker.require(false, access, "must have type 3, 9, 11, 13 or 15");
        }
        _ => checker.require(false, access, "must have type 9, 11, 13 or 15"),
    }
    if is_64_bit(checker) {
        checker.zero(access, rights::D_B, "must be 0: D, as L is 1");
    }
    descriptor(checker, CS, false);
}

fn stack(checker: &mut Checker<'_>) {
    let access = SS.rights;
    let level = dpl(checker, SS);
    if !checker.has(group::UNRESTRICTED_GUEST) {
        let holds = level == rpl(checker, SS);
        checker.require(holds, access, "must have the DPL that the SS selector has as RPL");
    }
    // Whether SS is usable or not.
    if checker.read(CS.rights) & rights::TYPE == kind::DATA_ACCESSED {
        checker.require(level == 0, access, "must have DPL 0, as CS's type is 3");
    } else if checker.vmcs.read(guest::CR0) & cr0::PE == 0 {
        checker.require(level == 0, access, "must have DPL 0, as CR0.PE is 0");
    }
    if usable(checker, SS) {
        let of = checker.read(access) & rights::TYPE;
        let holds = of == kind::DATA_ACCESSED || of == kind::DATA_DOWN_ACCESSED;
        checker.require(holds, access, "must have type 3 or 7");
        descriptor(checker, SS, false);
    }
}

/// DS, ES, FS, GS.
fn data(checker: &mut Checker<'_>, segment: Segment) {
    if !usable(checker, segment) {
        return;
    }
    let access = segment.rights;
    let of = checker.read(access) & rights::TYPE;
    checker.ones(access, rights::ACCESSED, "must be 1: accessed");
    if of & rights::CODE != 0 {
        checker.ones(access, rights::READABLE, "must be 1: readable, as it is a code segment");
    }
    if !checker.has(group::UNRESTRICTED_GUEST) && of <= kind::CODE_READABLE_ACCESSED {
        let holds = dpl(checker, segment) >= rpl(checker, segment);
        checker.require(holds, access, "must have a DPL that is not below the selector's RPL");
    }
    descriptor(checker, segment, false);
}

fn task(checker: &mut Checker<'_>) {
    let access = TR.rights;
    let of = checker.read(access) & rights::TYPE;
    if checker.has(group::IA32E_MODE_GUEST) {
        checker.require(of == kind::BUSY_TSS, access, "must have type 11, a busy 64-bit TSS");
    } else {
        let holds = of == kind::BUSY_TSS || of == kind::BUSY_TSS_16;
        checker.require(holds, access, "must have type 3 or 11, a busy TSS");
    }
    descriptor(checker, TR, true);
    checker.zero(access, rights::UNUSABLE, "must be 0: TR must be usable");
}

fn local_table(checker: &mut Checker<'_>) {
    if usable(checker, LDTR) {
        let holds = checker.read(LDTR.rights) & rights::TYPE == kind::LDT;
        checker.require(holds, LDTR.rights, "must have type 2, an LDT");
        descriptor(checker, LDTR, true);
    }
}
