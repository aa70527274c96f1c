//! The physical machine, as its firmware's ACPI tables describe it.

use super::firmware::{HEADER, Memory, Tables, field, u32_at, u64_at};
use super::power;
use crate::arch::apic::ApicId;
use crate::arch::ioapic::InterruptRoute;
use crate::arch::power::SoftOff;
use crate::memory::HostPhysical;
use alloc::vec::Vec;

/// The ISA interrupts of COM1 and COM2.
const SERIAL_IRQS: [u8; 2] = [4, 3];

/// Where the MADT's entries begin: behind the local APIC's address and flags (ACPI 6.5, 5.2.12).
const MADT_ENTRIES: usize = HEADER + 8;
/// Types of the entries that are read.
mod entry {
    pub const LOCAL_APIC: u8 = 0;
    pub const IOAPIC: u8 = 1;
    pub const SOURCE_OVERRIDE: u8 = 2;
    pub const LOCAL_X2APIC: u8 = 9;
}
/// A processor that may be used.
const PROCESSOR_ENABLED: u32 = 1 << 0;
/// Interrupt-source override: polarity and trigger fields, and their values "active low" and "level".
const POLARITY: u16 = 0b11;
const ACTIVE_LOW: u16 = 0b11;
const TRIGGER: u16 = 0b11 << 2;
const LEVEL: u16 = 0b11 << 2;

/// Offsets into the FADT (5.2.9). Old ones end before the wide fields, which count where they are not zero.
mod fadt {
    pub const DSDT: usize = 40;
    pub const PM1A_CONTROL: usize = 64;
    pub const X_DSDT: usize = 140;
    pub const X_PM1A_CONTROL: usize = 172;
}
/// A generic address: its space, and the address behind width, offset and access size (5.2.3.2).
const SPACE_PORTS: u8 = 1;
const ADDRESS: usize = 4;

/// What the tables say.
#[derive(Debug, Default)]
pub struct Machine {
    /// APIC IDs of the processors that may be used, as listed.
    pub processors: Vec<ApicId>,
    /// Host-physical addresses of all IOAPICs.
    pub ioapics: Vec<HostPhysical>,
    /// Where the interrupts of COM1 and COM2 arrive.
    pub serial: [Option<InterruptRoute>; 2],
    /// How the machine is switched off.
    pub soft_off: Option<SoftOff>,
}

/// Why the tables could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAcpi(pub &'static str);

/// Reads the tables. `rsdp` is what the firmware gave.
///
/// # Errors
/// If they are damaged. An IOAPIC that is not known would be one whose pins are not masked, so what cannot be read
/// is not passed over.
pub fn read(memory: &impl Memory, rsdp: HostPhysical) -> Result<Machine, NoAcpi> {
    let tables =
        Tables::find(memory, rsdp).ok_or(NoAcpi("the RSDP or what it points to is damaged"))?;
    let madt = tables.get(b"APIC").ok_or(NoAcpi("there is no MADT"))?;
    let mut machine = Machine::default();
    let mut ioapics: Vec<(HostPhysical, u32)> = Vec::new();
    // Without an override ISA interrupts are identity-mapped, edge-triggered, active high.
    let mut serial = SERIAL_IRQS.map(|irq| (u32::from(irq), 0u16));
    let mut rest = madt.get(MADT_ENTRIES..).unwrap_or_default();
    while !rest.is_empty() {
        let (entry, behind) = split_entry(rest).ok_or(DAMAGED_MADT)?;
        read_entry(entry, &mut machine.processors, &mut ioapics, &mut serial)
            .ok_or(DAMAGED_MADT)?;
        rest = behind;
    }
    machine.serial = serial.map(|(interrupt, flags)| route(&ioapics, interrupt, flags));
    machine.ioapics = ioapics.into_iter().map(|(at, _)| at).collect();
    machine.ioapics.sort_unstable();
    machine.ioapics.dedup();
    machine.soft_off = soft_off(&tables);
    Ok(machine)
}

const DAMAGED_MADT: NoAcpi = NoAcpi("the MADT has an entry of a wrong length");

/// The MADT's first entry, and what is behind it. Its second byte is its length, itself included.
fn split_entry(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[_, length, ..] = entries else { return None };
    entries.split_at_checked(length.into()).filter(|(entry, _)| entry.len() >= 2)
}

/// Reads an entry of the MADT (5.2.12.2 to 5.2.12.12). `None` if it is shorter than its type.
fn read_entry(
    entry: &[u8],
    processors: &mut Vec<ApicId>,
    ioapics: &mut Vec<(HostPhysical, u32)>,
    serial: &mut [(u32, u16); 2],
) -> Option<()> {
    match *entry.first()? {
        entry::LOCAL_APIC => {
            let ([id], flags) = (field(entry, 3)?, u32_at(entry, 4)?);
            if flags & PROCESSOR_ENABLED != 0 {
                processors.push(ApicId(u8::into(id)));
            }
        }
        entry::LOCAL_X2APIC => {
            let (id, flags) = (u32_at(entry, 4)?, u32_at(entry, 8)?);
            if flags & PROCESSOR_ENABLED != 0 {
                processors.push(ApicId(id));
            }
        }
        entry::IOAPIC => {
            let (at, base) = (u32_at(entry, 4)?, u32_at(entry, 8)?);
            ioapics.push((HostPhysical::new(at.into()), base));
        }
        entry::SOURCE_OVERRIDE => {
            let ([of], interrupt) = (field::<1>(entry, 3)?, u32_at(entry, 4)?);
            let flags = u16::from_le_bytes(field(entry, 8)?);
            for (irq, serial) in SERIAL_IRQS.into_iter().zip(serial) {
                if irq == of {
                    *serial = (interrupt, flags);
                }
            }
        }
        _ => {}
    }
    Some(())
}

/// Where a global system interrupt arrives: at the IOAPIC with the highest base that is not above its number.
fn route(ioapics: &[(HostPhysical, u32)], interrupt: u32, flags: u16) -> Option<InterruptRoute> {
    let below = ioapics.iter().filter(|&&(_, base)| base <= interrupt);
    let &(ioapic, base) = below.max_by_key(|&&(_, base)| base)?;
    Some(InterruptRoute {
        ioapic,
        pin: u8::try_from(interrupt - base).ok()?,
        active_low: flags & POLARITY == ACTIVE_LOW,
        level: flags & TRIGGER == LEVEL,
    })
}

fn soft_off(tables: &Tables<'_, impl Memory>) -> Option<SoftOff> {
    let fadt = tables.get(b"FACP")?;
    let wide = u64_at(fadt, fadt::X_DSDT).filter(|&at| at != 0);
    let dsdt = tables.at(wide.or(u32_at(fadt, fadt::DSDT).map(u64::from))?, b"DSDT")?;
    let sleep_type = power::find_s5(dsdt.get(HEADER..)?)?;
    Some(SoftOff { port: pm1a_control(fadt)?, sleep_type })
}

/// The port of PM1a control. `None` if it is no port, or there is none: then the machine is one without (5.2.9, 3.11.1).
fn pm1a_control(fadt: &[u8]) -> Option<u16> {
    let wide = fadt.get(fadt::X_PM1A_CONTROL..);
    let wide = wide.and_then(|wide| Some((*wide.first()?, u64_at(wide, ADDRESS)?)));
    let address = match wide {
        Some((space, address)) if address != 0 => Some(address).filter(|_| space == SPACE_PORTS),
        _ => u32_at(fadt, fadt::PM1A_CONTROL).map(u64::from),
    };
    u16::try_from(address?).ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests;
