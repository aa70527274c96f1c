//! The ACPI tables that a guest is given.
//!
//! "ACPI" and a section number in a comment means the ACPI specification, release 6.5.
//!
//! The platform is hardware-reduced (ACPI 4.1): no PM1 registers, no PM timer, no SCI, no legacy interrupt
//! controller. What is left to say is which processors there are, that all interrupts go through
//! one IOAPIC, how to switch off and reset, and where the serial port, the clock and the power button are:
//!
//! ```text
//! RSDP ── XSDT ─┬─ FADT ── DSDT (processors, COM1, RTC, power button, _S5_)
//!               └─ MADT (local APICs, IOAPIC)
//! ```

mod dsdt;

use super::layout;
use crate::device::cmos;
use crate::device::power;
use crate::memory::GuestPhysical;
use acpi_tables::Aml;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use alloc::vec::Vec;
use core::fmt;

const OEM_ID: [u8; 6] = *b"BULKHD";
const OEM_TABLE_ID: [u8; 8] = *b"BULKHEAD";
const OEM_REVISION: u32 = 1;
/// Shown in the FADT: who provides the platform (ACPI 5.2.9).
const VENDOR_IDENTITY: u64 = u64::from_le_bytes(*b"Bulkhead");

/// Bytes that the address of each table is a multiple of; the RSDP's must be 16 (ACPI 5.2.5.1).
const TABLE_ALIGNMENT: usize = 16;
/// The MADT's revision that belongs to ACPI 6.5 (ACPI 5.2.12).
const MADT_REVISION: u8 = 6;
/// MADT flags: no 8259 pair (`PCAT_COMPAT` is clear) (ACPI 5.2.12).
const MADT_FLAGS: u32 = 0;
/// The first APIC ID that a Local APIC structure cannot name, as 255 means all (ACPI 5.2.12.12).
const FIRST_X2APIC_ID: u32 = 255;
/// Type, and length in bytes, of a Processor Local x2APIC structure (ACPI 5.2.12.12).
const LOCAL_X2APIC: [u8; 2] = [9, 16];
/// The only IOAPIC's identity and its first interrupt.
const IOAPIC_ID: u8 = 0;
const IOAPIC_GSI_BASE: u32 = 0;

/// FADT's IA-PC boot architecture flags (ACPI 5.2.9.3): what legacy there is not to probe for.
///
/// Clear are "legacy devices" (all are in the DSDT), "8042", "MSI not supported" and
/// "CMOS RTC not present".
mod boot_architecture {
    pub const VGA_NOT_PRESENT: u16 = 1 << 2;
    pub const NO_PCIE_ASPM: u16 = 1 << 4;
}

/// The tables, ready to be copied to the guest.
pub struct Tables {
    /// What belongs at the start of [`layout::ACPI_TABLES`].
    pub bytes: Vec<u8>,
    /// The address of the RSDP, for `boot_params` and its like.
    pub rsdp: GuestPhysical,
}

/// So many processors have no room in [`layout::ACPI_TABLES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// How many were asked for.
    pub processors: u32,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ACPI tables for {} processors do not fit below 1 MiB", self.processors)
    }
}

/// Builds the tables of a guest with `processors` processors, whose APIC IDs are 0 to `processors` - 1.
pub fn build(processors: u32) -> Result<Tables, TooLarge> {
    if processors > dsdt::MOST_PROCESSORS {
        return Err(TooLarge { processors });
    }
    let mut image = Image::new(layout::ACPI_TABLES.start);
    // The RSDP goes first; its place is taken before what it points to is known.
    let rsdp = image.append(&[0; RSDP_LENGTH]);
    let dsdt = image.append(dsdt::build(processors).as_slice());
    let fadt = image.append(&serialize(&fadt(dsdt)));
    let madt = image.append(madt(processors).as_slice());
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = image.append(&serialize(&xsdt));
    for (place, byte) in image.bytes.iter_mut().zip(serialize(&Rsdp::new(OEM_ID, xsdt))) {
        *place = byte;
    }

    let room = layout::ACPI_TABLES.end - layout::ACPI_TABLES.start;
    if image.bytes.len() as u64 > room {
        return Err(TooLarge { processors });
    }
    Ok(Tables { bytes: image.bytes, rsdp: GuestPhysical::new(rsdp) })
}

const RSDP_LENGTH: usize = size_of::<Rsdp>();

/// Tables one after the other, and where they will be.
struct Image {
    start: u64,
    bytes: Vec<u8>,
}

impl Image {
    fn new(start: u64) -> Self {
        Self { start, bytes: Vec::new() }
    }

    /// Appends a table and returns its guest-physical address.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(TABLE_ALIGNMENT), 0);
        let address = self.start.saturating_add(self.bytes.len() as u64);
        self.bytes.extend_from_slice(table);
        address
    }
}

fn serialize(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A table with `body` behind the common header.
fn table(signature: [u8; 4], revision: u8, body: &[u8]) -> Sdt {
    /// Bytes of the common header (ACPI 5.2.6).
    const HEADER_LENGTH: u32 = 36;
    let mut table =
        Sdt::new(signature, HEADER_LENGTH, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(body);
    table
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        // WBINVD works, as on every processor with VT-x.
        .flag(Flags::Wbinvd)
        // Set means that these are not in fixed hardware; there are none at all.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        // Interrupts name one processor, so that translating a destination is one table look-up.
        .flag(Flags::ForceApicPhysicalDestinationMode);
    fadt.reset_reg = byte_port(power::RESET_PORT);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = byte_port(power::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = byte_port(power::SLEEP_STATUS_PORT);
    fadt.century = cmos::index::CENTURY;
    fadt.iapc_boot_arch =
        (boot_architecture::VGA_NOT_PRESENT | boot_architecture::NO_PCIE_ASPM).into();
    fadt.hypervisor_vendor_identity = VENDOR_IDENTITY.into();
    fadt.finalize()
}

/// The address of a register of one byte at an I/O port.
fn byte_port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, u8::BITS as u8, 0, AccessSize::ByteAccess, port.into())
}

fn madt(processors: u32) -> Sdt {
    let mut body = Vec::new();
    body.extend_from_slice(&(layout::LOCAL_APIC as u32).to_le_bytes());
    body.extend_from_slice(&MADT_FLAGS.to_le_bytes());
    for id in 0..processors {
        local_apic(id, &mut body);
    }
    // ISA interrupts are edge-triggered, active high and pin for pin the IOAPIC's: nothing to override.
    IoApic::new(IOAPIC_ID, layout::IOAPIC as u32, IOAPIC_GSI_BASE).to_aml_bytes(&mut body);
    table(*b"APIC", MADT_REVISION, &body)
}

/// The processor with this number, which is its APIC ID and its `_UID` in the DSDT.
fn local_apic(id: u32, body: &mut Vec<u8>) {
    match u8::try_from(id) {
        Ok(short) if id < FIRST_X2APIC_ID => {
            ProcessorLocalApic::new(short, short, EnabledStatus::Enabled).to_aml_bytes(body);
        }
        _ => {
            body.extend_from_slice(&LOCAL_X2APIC);
            body.extend_from_slice(&[0; 2]);
            body.extend_from_slice(&id.to_le_bytes());
            body.extend_from_slice(&(EnabledStatus::Enabled as u32).to_le_bytes());
            body.extend_from_slice(&id.to_le_bytes());
        }
    }
}

// The MADT has 32 bits for each.
const _: () = assert!(layout::LOCAL_APIC >> u32::BITS == 0);
const _: () = assert!(layout::IOAPIC >> u32::BITS == 0);

#[cfg(test)]
mod tests;
