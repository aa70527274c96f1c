//! The physical machine, as its firmware's ACPI tables describe it.

use super::power;
use crate::arch::apic::ApicId;
use crate::arch::ioapic::InterruptRoute;
use crate::arch::power::SoftOff;
use crate::memory::HostPhysical;
use crate::memory::address_space::direct;
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use alloc::vec::Vec;
use core::ptr::NonNull;

/// The ISA interrupts of COM1 and COM2.
const SERIAL_IRQS: [u8; 2] = [4, 3];
/// MADT: a processor that may be used.
const PROCESSOR_ENABLED: u32 = 1 << 0;
/// MADT interrupt-source override: polarity and trigger fields, and their values "active low" and "level".
const POLARITY: u16 = 0b11;
const ACTIVE_LOW: u16 = 0b11;
const TRIGGER: u16 = 0b11 << 2;
const LEVEL: u16 = 0b11 << 2;

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

/// Tables are read through the boot loader's map of all physical memory.
#[derive(Clone, Copy)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let mapped = direct(HostPhysical::new(at as u64)).as_u64() as *mut T;
        // SAFETY: the address is not null, as DIRECT is not; the boot loader's tables map all of
        // physical memory there, and they are in force while the tables are read.
        unsafe { PhysicalMapping::new(at, NonNull::new_unchecked(mapped), size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables.
///
/// # Safety
/// All physical memory must be mapped at [`direct`]; `rsdp` is what the firmware gave.
pub unsafe fn read(rsdp: HostPhysical) -> Result<Machine, NoAcpi> {
    // SAFETY: the caller's contract.
    let tables = unsafe { AcpiTables::from_rsdp(DirectMap, rsdp.as_u64() as usize) }
        .map_err(|_| NoAcpi("the RSDP or what it points to is damaged"))?;
    let madt = tables.find_table::<Madt>().map_err(|_| NoAcpi("there is no MADT"))?;
    let mut machine = Machine::default();
    let mut ioapics: Vec<(HostPhysical, u32)> = Vec::new();
    // Without an override ISA interrupts are identity-mapped, edge-triggered, active high.
    let mut serial = SERIAL_IRQS.map(|irq| (u32::from(irq), 0u16));
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(entry) if entry.flags & PROCESSOR_ENABLED != 0 => {
                machine.processors.push(ApicId(entry.apic_id.into()));
            }
            MadtEntry::LocalX2Apic(entry) if entry.flags & PROCESSOR_ENABLED != 0 => {
                machine.processors.push(ApicId(entry.x2apic_id));
            }
            MadtEntry::IoApic(entry) => {
                let at = HostPhysical::new(entry.io_apic_address.into());
                ioapics.push((at, entry.global_system_interrupt_base));
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                for (irq, serial) in SERIAL_IRQS.into_iter().zip(&mut serial) {
                    if entry.irq == irq {
                        *serial = (entry.global_system_interrupt, entry.flags);
                    }
                }
            }
            _ => {}
        }
    }
    machine.serial = serial.map(|(interrupt, flags)| route(&ioapics, interrupt, flags));
    machine.ioapics = ioapics.into_iter().map(|(at, _)| at).collect();
    machine.ioapics.sort_unstable();
    machine.ioapics.dedup();
    machine.soft_off = soft_off(&tables);
    Ok(machine)
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

fn soft_off(tables: &AcpiTables<DirectMap>) -> Option<SoftOff> {
    let fadt = tables.find_table::<Fadt>().ok()?;
    let control = fadt.get().pm1a_control_block().ok()?;
    let dsdt = tables.dsdt().ok()?;
    let at = direct(HostPhysical::new(dsdt.address as u64)).as_u64() as *const u8;
    // SAFETY: the table is mapped, by `read`'s contract, and as long as its header says.
    let aml = unsafe { core::slice::from_raw_parts(at, dsdt.length as usize) };
    let sleep_type = power::find_s5(aml)?;
    let port = u16::try_from(control.address).ok()?;
    Some(SoftOff { port, sleep_type })
}
