//! The ACPI tables, as far as a guest without an interpreter can read them.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, fail};
use core::slice;

pub const TESTS: &[Test] = &[
    Test {
        title: "ACPI: boot_params lead to an RSDP",
        what: "acpi_rsdp_addr: signature, both checksums, revision",
        run: rsdp,
    },
    Test {
        title: "ACPI: every table's checksum is right",
        what: "XSDT, what it lists, DSDT",
        run: checksums,
    },
    Test {
        title: "ACPI: MADT shows this processor and one IOAPIC",
        what: "MADT: entries of types 0, 1 and 9",
        run: madt,
    },
    Test {
        title: "ACPI: FADT is hardware-reduced, with sleep and reset registers",
        what: "FADT: flags, SLEEP_CONTROL_REG, RESET_REG",
        run: fadt,
    },
];

/// RSDP (ACPI 6.5, 5.2.5.3): bytes in all, and those that the first checksum is of.
const RSDP_LENGTH: usize = 36;
const RSDP_FIRST_PART: usize = 20;
const RSDP_REVISION: usize = 15;
const RSDP_XSDT: usize = 24;
/// Bytes of every table's header (ACPI 6.5, 5.2.6), and where its length is.
const HEADER: usize = 36;
const LENGTH: usize = 4;
/// No table of a guest's is longer.
const LONGEST: u32 = 64 << 10;

/// Memory that holds a part of the tables.
fn bytes(at: u64, len: usize) -> &'static [u8] {
    // SAFETY: the tables are where the loader says, in memory that nobody writes to.
    unsafe { slice::from_raw_parts(at as *const u8, len) }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)).into()
}

/// A little-endian number in a table; 0 beyond its end.
fn number<const N: usize>(table: &[u8], at: usize) -> u64 {
    let part = table.get(at..at + N).unwrap_or(&[]);
    part.iter().rev().fold(0, |number, &byte| number << u8::BITS | u64::from(byte))
}

/// The table at an address, whole.
fn table(at: u64) -> &'static [u8] {
    let length = number::<4>(bytes(at, HEADER), LENGTH) as u32;
    bytes(at, length.clamp(HEADER as u32, LONGEST) as usize)
}

/// The tables that the XSDT lists.
fn listed(boot: &BootParams) -> impl Iterator<Item = &'static [u8]> {
    const POINTER: usize = 8;
    let rsdp = bytes(boot.acpi_rsdp(), RSDP_LENGTH);
    let xsdt = table(number::<8>(rsdp, RSDP_XSDT));
    xsdt[HEADER..].chunks_exact(POINTER).map(|pointer| table(number::<8>(pointer, 0)))
}

fn find(boot: &BootParams, signature: &[u8]) -> Option<&'static [u8]> {
    listed(boot).find(|table| table.starts_with(signature))
}

fn rsdp(boot: &BootParams) -> Outcome {
    let at = boot.acpi_rsdp();
    ensure!(at != 0, "acpi_rsdp_addr is 0");
    let rsdp = bytes(at, RSDP_LENGTH);
    ensure!(rsdp.starts_with(b"RSD PTR "), "no signature at {at:#x}");
    same("checksum", sum(&rsdp[..RSDP_FIRST_PART]), 0)?;
    same("extended checksum", sum(rsdp), 0)?;
    same("revision", rsdp[RSDP_REVISION].into(), 2)
}

fn checksums(boot: &BootParams) -> Outcome {
    const DSDT: usize = 140;
    let rsdp = bytes(boot.acpi_rsdp(), RSDP_LENGTH);
    same("checksum of XSDT", sum(table(number::<8>(rsdp, RSDP_XSDT))), 0)?;
    for table in listed(boot) {
        let name = str::from_utf8(&table[..LENGTH]).unwrap_or("?");
        same(format_args!("checksum of {name}"), sum(table), 0)?;
    }
    let Some(fadt) = find(boot, b"FACP") else { fail!("no FADT") };
    let dsdt = table(number::<8>(fadt, DSDT));
    ensure!(dsdt.starts_with(b"DSDT"), "no DSDT where the FADT says");
    same("checksum of DSDT", sum(dsdt), 0)
}

fn madt(boot: &BootParams) -> Outcome {
    /// Where the entries begin, and their types (ACPI 6.5, 5.2.12).
    const ENTRIES: usize = 44;
    const LOCAL_APIC: u8 = 0;
    const IOAPIC: u8 = 1;
    const LOCAL_X2APIC: u8 = 9;
    const ENABLED: u64 = 1;
    const IOAPIC_PAGE: u64 = 0xFEC0_0000;
    let Some(madt) = find(boot, b"APIC") else { fail!("no MADT") };
    let (mut processors, mut first, mut ioapics) = (0, 0, 0);
    let mut rest = madt.get(ENTRIES..).unwrap_or(&[]);
    while let [kind, length, ..] = *rest {
        let Some((entry, behind)) = rest.split_at_checked(usize::from(length).max(2)) else {
            fail!("an entry reaches beyond the table's end")
        };
        let (id, flags) = match kind {
            LOCAL_APIC => (number::<1>(entry, 3), number::<4>(entry, 4)),
            LOCAL_X2APIC => (number::<4>(entry, 4), number::<4>(entry, 8)),
            _ => (0, 0),
        };
        if flags & ENABLED != 0 {
            processors += 1;
            first += u64::from(id == 0);
        }
        if kind == IOAPIC {
            ioapics += 1;
            same("the IOAPIC's address", number::<4>(entry, 4), IOAPIC_PAGE)?;
            same("the IOAPIC's first interrupt", number::<4>(entry, 8), 0)?;
        }
        rest = behind;
    }
    ensure!(processors >= 1, "no processor");
    same("the number of processors with ID 0", first, 1)?;
    same("the number of IOAPICs", ioapics, 1)
}

fn fadt(boot: &BootParams) -> Outcome {
    /// Offsets and flags (ACPI 6.5, table 5.9).
    const FLAGS: usize = 112;
    const RESET_REGISTER: usize = 116;
    const RESET_VALUE: usize = 128;
    const SLEEP_CONTROL: usize = 244;
    const RESET_SUPPORTED: u64 = 1 << 10;
    const HARDWARE_REDUCED: u64 = 1 << 20;
    /// A generic address: its space is I/O ports; the address follows after four bytes.
    const IO_SPACE: u64 = 1;
    const ADDRESS: usize = 4;
    let Some(fadt) = find(boot, b"FACP") else { fail!("no FADT") };
    let needed = RESET_SUPPORTED | HARDWARE_REDUCED;
    same("FADT's flags, of those needed,", number::<4>(fadt, FLAGS) & needed, needed)?;
    for (name, at, port) in
        [("SLEEP_CONTROL_REG", SLEEP_CONTROL, 0x600), ("RESET_REG", RESET_REGISTER, 0x602)]
    {
        same(format_args!("{name}'s space"), number::<1>(fadt, at), IO_SPACE)?;
        same(name, number::<8>(fadt, at + ADDRESS), port)?;
    }
    same("RESET_VALUE", number::<1>(fadt, RESET_VALUE), 6)
}
