//! Model-specific registers.

use crate::place::Place;
use crate::{Followed, followed, runs};
use bulkhead_guests::apic::register;
use bulkhead_guests::cpu::{self, efer, rdmsr, wrmsr};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::vector::GENERAL_PROTECTION;
use bulkhead_guests::smp::TSC_AUX;
use bulkhead_guests::suite::{Outcome, Shortfall, faults, same};
use bulkhead_guests::{ensure, fail};
use core::ops::RangeInclusive;

runs! { "msr":
    reads_every_register,
    writes_ones_to_every_register,
    writes_high_bits_to_every_register,
    writes_every_register_with_its_own_value,
    reads_registers_beyond_the_bitmaps,
    loads_microcode,
    switches_on_branch_records,
    moves_its_local_apic,
    sets_reserved_bits_of_efer,
    sets_bad_memory_types,
    fills_its_own_registers,
    moves_its_time,
}

const TSC: u32 = 0x10;
const APIC_BASE: u32 = register::BASE;
const TSC_ADJUST: u32 = 0x3B;
const MICROCODE: u32 = 0x79;
const MISC_ENABLE: u32 = 0x1A0;
const DEBUG_CONTROL: u32 = 0x1D9;
const PAT: u32 = 0x277;

/// What a guest may do with a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Both,
}
use Access::{Both, Read, Write};

/// The registers that a guest has, all others are #GP.
const LISTED: &[(RangeInclusive<u32>, Access)] = &[
    (TSC..=TSC, Both),
    // Platform ID.
    (0x17..=0x17, Read),
    (APIC_BASE..=APIC_BASE, Both),
    (TSC_ADJUST..=TSC_ADJUST, Both),
    // Microcode revision.
    (0x8B..=0x8B, Both),
    // SYSENTER.
    (0x174..=0x176, Both),
    (MISC_ENABLE..=MISC_ENABLE, Both),
    (DEBUG_CONTROL..=DEBUG_CONTROL, Both),
    (PAT..=PAT, Both),
    // The local APIC: ID, version; TPR; PPR; EOI; LDR; SVR.
    (0x802..=0x803, Read),
    (0x808..=0x808, Both),
    (0x80A..=0x80A, Read),
    (0x80B..=0x80B, Write),
    (0x80D..=0x80D, Read),
    (0x80F..=0x80F, Both),
    // ISR, TMR, IRR; ESR; LVT of CMCI; ICR; the rest of LVT, and the initial count.
    (0x810..=0x827, Read),
    (0x828..=0x828, Both),
    (0x82F..=0x830, Both),
    (0x832..=0x838, Both),
    // Current count; divider; interrupt to oneself.
    (0x839..=0x839, Read),
    (0x83E..=0x83E, Both),
    (0x83F..=0x83F, Write),
    // EFER, STAR, LSTAR, CSTAR, FMASK; FS and GS bases, KERNEL_GS_BASE, TSC_AUX.
    (0xC000_0080..=0xC000_0084, Both),
    (0xC000_0100..=0xC000_0103, Both),
];

/// What the bitmaps cover, and what the manual calls architectural.
const ALL: [RangeInclusive<u32>; 2] = [0..=0x1FFF, 0xC000_0000..=0xC000_1FFF];

/// All registers, with what a guest may do with each.
fn all() -> impl Iterator<Item = (u32, Option<Access>)> {
    ALL.into_iter().flatten().map(|msr| {
        let listed = LISTED.iter().find(|(range, _)| range.contains(&msr));
        (msr, listed.map(|(_, access)| *access))
    })
}

/// All registers that can be read.
pub fn readable() -> impl Iterator<Item = u32> {
    all().filter(|(_, access)| matches!(access, Some(Read | Both))).map(|(msr, _)| msr)
}

fn reads_every_register(_: &Place) -> Followed {
    let (mut there, mut refused) = (0, 0);
    for (msr, access) in all() {
        let fault = expect_fault(|| _ = rdmsr(msr));
        match (access, fault) {
            (Some(Read | Both), None) => there += 1,
            (Some(Write) | None, Some(fault)) if fault.vector == GENERAL_PROTECTION => refused += 1,
            (_, Some(fault)) => fail!("RDMSR {msr:#x}: {fault}"),
            (_, None) => fail!("RDMSR {msr:#x} gives {:#x}", rdmsr(msr)),
        }
    }
    followed!("{there} have a value, {refused} are #GP")
}

/// Writes a register, with what the guest stands on left alone or put back. Gives whether it took it.
fn takes(msr: u32, value: u64) -> Result<bool, Shortfall> {
    match expect_fault(|| {
        // SAFETY: what the guest stands on is put back by the caller.
        unsafe { wrmsr(msr, value) };
    }) {
        None => Ok(true),
        Some(fault) if fault.vector == GENERAL_PROTECTION && fault.error_code == 0 => Ok(false),
        Some(fault) => fail!("WRMSR {msr:#x} of {value:#x}: {fault}"),
    }
}

/// Writes something to all registers: `value` makes it of what is there, if it can be read.
fn write_all(value: impl Fn(u64) -> u64) -> Followed {
    let (mut took, mut refused) = (0, 0);
    for (msr, access) in all() {
        let readable = matches!(access, Some(Read | Both));
        let before = if readable { rdmsr(msr) } else { 0 };
        let may = matches!(access, Some(Write | Both));
        let took_it = takes(msr, value(before))?;
        ensure!(may || !took_it, "WRMSR {msr:#x} took {:#x}", value(before));
        if took_it {
            took += 1;
            restore(msr, before)?;
        } else {
            refused += 1;
        }
    }
    followed!("{took} took it, {refused} are #GP")
}

/// Puts a register back that has taken a value.
fn restore(msr: u32, before: u64) -> Outcome {
    match msr {
        // The time goes on; and its adjustment follows.
        TSC | TSC_ADJUST => return if takes(TSC_ADJUST, 0)? { Ok(()) } else { fail!("the time") },
        // Write only, or a command, which would be given again.
        register::EOI | register::SELF_IPI | register::ICR => return Ok(()),
        _ => {}
    }
    ensure!(takes(msr, before)?, "{msr:#x} does not take {before:#x} back");
    if ![register::ESR, register::TIMER_INITIAL].contains(&msr) {
        same(format_args!("MSR {msr:#x}"), rdmsr(msr), before)?;
    }
    Ok(())
}

fn writes_ones_to_every_register(_: &Place) -> Followed {
    write_all(|_| u64::MAX)
}

fn writes_high_bits_to_every_register(_: &Place) -> Followed {
    write_all(|_| 1 << 63)
}

fn writes_every_register_with_its_own_value(_: &Place) -> Followed {
    write_all(|own| own)
}

fn reads_registers_beyond_the_bitmaps(_: &Place) -> Followed {
    let hypervisors = (0x4000_0000..0x4000_0200).chain(0x4B56_4D00..0x4B56_4D10);
    let amd = 0xC001_0000..0xC001_0200;
    let bits = (13..32).map(|bit| 1 << bit).chain([u32::MAX, 0x8000_0800, 0xBFFF_FFFF]);
    let mut count = 0;
    for msr in
        hypervisors.chain(amd).chain(bits).filter(|msr| !(0xC000_0000..0xC000_2000).contains(msr))
    {
        faults(format_args!("RDMSR {msr:#x}"), GENERAL_PROTECTION, || _ = rdmsr(msr))?;
        for value in [0, u64::MAX] {
            ensure!(!takes(msr, value)?, "WRMSR {msr:#x} took {value:#x}");
        }
        count += 1;
    }
    followed!("#GP at {count} registers")
}

fn loads_microcode(place: &Place) -> Followed {
    for at in [0x10_0000, place.hypervisor_start(), place.neighbour.start, place.image, 0, u64::MAX]
    {
        ensure!(!takes(MICROCODE, at)?, "an update at {at:#x} is taken");
    }
    followed!("#GP at each")
}

fn switches_on_branch_records(_: &Place) -> Followed {
    for bit in 0..64 {
        ensure!(!takes(DEBUG_CONTROL, 1 << bit)?, "bit {bit} is taken");
    }
    same("DEBUGCTL", rdmsr(DEBUG_CONTROL), 0)?;
    followed!("#GP at each bit")
}

fn moves_its_local_apic(place: &Place) -> Followed {
    let before = rdmsr(APIC_BASE);
    let flags = before & 0xFFF;
    for at in
        [place.hypervisor_start(), place.neighbour.start, 0, 0x10_0000, 0xFEC0_0000, 0xFEE0_1000]
    {
        ensure!(!takes(APIC_BASE, at & !0xFFF | flags)?, "{at:#x} is taken");
    }
    same("APIC_BASE", rdmsr(APIC_BASE), before)?;
    followed!("#GP at each; it is at {:#x}", before & !0xFFF)
}

fn sets_reserved_bits_of_efer(_: &Place) -> Followed {
    /// SCE, LME, LMA, NXE.
    const DEFINED: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
    let before = rdmsr(efer::MSR);
    for bit in (0..64).map(|bit| 1 << bit).filter(|bit| bit & DEFINED == 0) {
        ensure!(!takes(efer::MSR, before | bit)?, "{bit:#x} is taken");
    }
    ensure!(
        !takes(efer::MSR, before & !efer::LME)?,
        "long mode can be switched off with paging on"
    );
    same("EFER", rdmsr(efer::MSR), before)?;
    followed!("#GP at each")
}

fn sets_bad_memory_types(_: &Place) -> Followed {
    const TYPES: [u64; 6] = [0, 1, 4, 5, 6, 7];
    let before = rdmsr(PAT);
    for place in 0..8 {
        for kind in (0..0x100).filter(|kind| !TYPES.contains(kind)) {
            let value = before & !(0xFF << (8 * place)) | kind << (8 * place);
            ensure!(!takes(PAT, value)?, "type {kind:#x} is taken");
        }
    }
    same("PAT", rdmsr(PAT), before)?;
    followed!("#GP at each")
}

fn fills_its_own_registers(_: &Place) -> Followed {
    /// All uncached.
    const UNCACHED: u64 = 0;
    /// A canonical address.
    const ADDRESS: u64 = 0x1234_5678_9000;
    // This code is mapped write-back by the first entry of PAT, which stays; the base of GS is nothing's here.
    let before = [PAT, efer::MSR].map(rdmsr);
    let others = (0x174..=0x176).chain(0xC000_0081..=0xC000_0084).chain(0xC000_0100..=0xC000_0103);
    let held = [(PAT, UNCACHED | before[0] & 0xFF), (efer::MSR, before[1] ^ 1)];
    for (msr, value) in
        held.into_iter().chain(others.clone().map(|msr| (msr, ADDRESS & 0xFFFF_FFFF)))
    {
        ensure!(takes(msr, value)?, "{msr:#x} does not take {value:#x}");
    }
    let host = cpu::host_registers();
    for (msr, value) in
        [(PAT, before[0]), (efer::MSR, before[1])].into_iter().chain(others.map(|msr| (msr, 0)))
    {
        ensure!(takes(msr, value)?, "{msr:#x} does not take {value:#x} back");
    }
    let Some(host) = host else { fail!("the hypervisor does not compare them") };
    ensure!(host.changed == 0, "{} of the host's changed, {:#x} first", host.changed, host.first);
    followed!("all {} of the host's are as at its start", host.compared)
}

fn moves_its_time(_: &Place) -> Followed {
    /// Ticks in which it can be read again.
    const SOON: u64 = 1 << 24;
    for register in [TSC, TSC_ADJUST] {
        for value in [0, 1 << 62, 1 << 63, u64::MAX] {
            ensure!(takes(register, value)?, "{register:#x} does not take {value:#x}");
            let read = rdmsr(register);
            ensure!(read.wrapping_sub(value) < SOON, "{register:#x} is {read:#x} after {value:#x}");
        }
    }
    let before = cpu::rdtsc();
    ensure!(takes(TSC_ADJUST, 0)?, "it cannot be put back");
    ensure!(cpu::rdtsc() != before && rdmsr(TSC_AUX) == 0, "the time stands still");
    followed!("its own time follows")
}
