//! The ACPI tables.

use bulkhead_guests::acpi::{self, number};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::suite::{Outcome, Test, same};
use bulkhead_guests::{ensure, fail};

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

/// RSDP (ACPI 6.5, 5.2.5.3): bytes that the first checksum is of, and where the revision is.
const RSDP_FIRST_PART: usize = 20;
const RSDP_REVISION: usize = 15;

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte)).into()
}

fn rsdp(boot: &BootParams) -> Outcome {
    let at = boot.acpi_rsdp();
    ensure!(at != 0, "acpi_rsdp_addr is 0");
    let rsdp = acpi::rsdp(boot);
    ensure!(rsdp.starts_with(b"RSD PTR "), "no signature at {at:#x}");
    same("checksum", sum(&rsdp[..RSDP_FIRST_PART]), 0)?;
    same("extended checksum", sum(rsdp), 0)?;
    same("revision", rsdp[RSDP_REVISION].into(), 2)
}

fn checksums(boot: &BootParams) -> Outcome {
    const DSDT: usize = 140;
    const SIGNATURE: usize = 4;
    same("checksum of XSDT", sum(acpi::xsdt(boot)), 0)?;
    for table in acpi::listed(boot) {
        let name = str::from_utf8(&table[..SIGNATURE]).unwrap_or("?");
        same(format_args!("checksum of {name}"), sum(table), 0)?;
    }
    let Some(fadt) = acpi::find(boot, b"FACP") else { fail!("no FADT") };
    let dsdt = acpi::table(number::<8>(fadt, DSDT));
    ensure!(dsdt.starts_with(b"DSDT"), "no DSDT where the FADT says");
    same("checksum of DSDT", sum(dsdt), 0)
}

fn madt(boot: &BootParams) -> Outcome {
    const LENGTH: usize = 1;
    const IOAPIC_PAGE: u64 = 0xFEC0_0000;
    let Some(madt) = acpi::find(boot, b"APIC") else { fail!("no MADT") };
    let (mut processors, mut first, mut ioapics) = (0, 0, 0);
    for (kind, entry) in acpi::madt_entries(madt) {
        same("an entry's length", number::<1>(entry, LENGTH), entry.len() as u64)?;
        if let Some(id) = acpi::processor(kind, entry) {
            processors += 1;
            first += u64::from(id == 0);
        }
        if kind == acpi::IOAPIC {
            ioapics += 1;
            same("the IOAPIC's address", number::<4>(entry, 4), IOAPIC_PAGE)?;
            same("the IOAPIC's first interrupt", number::<4>(entry, 8), 0)?;
        }
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
    let Some(fadt) = acpi::find(boot, b"FACP") else { fail!("no FADT") };
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
