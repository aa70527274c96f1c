//! The ACPI tables, as far as a guest without an interpreter can read them.

use crate::boot::BootParams;
use core::slice;

/// RSDP (ACPI 6.5, 5.2.5.3): its bytes, and where the XSDT's address is.
pub const RSDP_LENGTH: usize = 36;
const RSDP_XSDT: usize = 24;
/// Bytes of every table's header (ACPI 6.5, 5.2.6), and where its length is.
const HEADER: usize = 36;
const LENGTH: usize = 4;
/// No table of a guest's is longer.
const LONGEST: u32 = 64 << 10;

/// A processor's entry in the MADT: with an APIC ID of 8 bits, and of 32.
pub const LOCAL_APIC: u8 = 0;
/// An IOAPIC's entry in the MADT.
pub const IOAPIC: u8 = 1;
/// A processor's entry in the MADT, with an APIC ID of 32 bits.
pub const LOCAL_X2APIC: u8 = 9;

/// Memory that holds a part of the tables.
fn bytes(at: u64, len: usize) -> &'static [u8] {
    // SAFETY: the tables are where the loader says, in memory that nobody writes to.
    unsafe { slice::from_raw_parts(at as *const u8, len) }
}

/// A little-endian number of `N` bytes in a table; 0 beyond its end.
pub fn number<const N: usize>(table: &[u8], at: usize) -> u64 {
    let part = table.get(at..at + N).unwrap_or(&[]);
    part.iter().rev().fold(0, |number, &byte| number << u8::BITS | u64::from(byte))
}

/// The RSDP, where the loader says that it is.
pub fn rsdp(boot: &BootParams) -> &'static [u8] {
    bytes(boot.acpi_rsdp(), RSDP_LENGTH)
}

/// The XSDT.
pub fn xsdt(boot: &BootParams) -> &'static [u8] {
    table(number::<8>(rsdp(boot), RSDP_XSDT))
}

/// The table at an address, whole.
pub fn table(at: u64) -> &'static [u8] {
    let length = number::<4>(bytes(at, HEADER), LENGTH) as u32;
    bytes(at, length.clamp(HEADER as u32, LONGEST) as usize)
}

/// The tables that the XSDT lists.
pub fn listed(boot: &BootParams) -> impl Iterator<Item = &'static [u8]> {
    const POINTER: usize = 8;
    xsdt(boot)[HEADER..].chunks_exact(POINTER).map(|pointer| table(number::<8>(pointer, 0)))
}

/// The table with a signature.
pub fn find(boot: &BootParams, signature: &[u8]) -> Option<&'static [u8]> {
    listed(boot).find(|table| table.starts_with(signature))
}

/// The MADT's entries: type, and all bytes of the entry (ACPI 6.5, 5.2.12). One that reaches beyond the
/// table's end ends them, with what is left of it.
pub fn madt_entries(madt: &'static [u8]) -> impl Iterator<Item = (u8, &'static [u8])> {
    const ENTRIES: usize = 44;
    let mut rest = madt.get(ENTRIES..).unwrap_or(&[]);
    core::iter::from_fn(move || {
        let (&[kind, length], _) = rest.split_first_chunk::<2>()?;
        let at = usize::from(length).clamp(2, rest.len());
        let (entry, behind) = rest.split_at(at);
        rest = behind;
        Some((kind, entry))
    })
}

/// The APIC ID in an entry of the MADT, if it is of a processor that can be used.
pub fn processor(kind: u8, entry: &[u8]) -> Option<u64> {
    const ENABLED: u64 = 1;
    let (id, flags) = match kind {
        LOCAL_APIC => (number::<1>(entry, 3), number::<4>(entry, 4)),
        LOCAL_X2APIC => (number::<4>(entry, 4), number::<4>(entry, 8)),
        _ => return None,
    };
    (flags & ENABLED != 0).then_some(id)
}

/// The APIC IDs of the processors that the MADT shows.
pub fn processors(boot: &BootParams) -> impl Iterator<Item = u64> {
    let entries = find(boot, b"APIC").into_iter().flat_map(madt_entries);
    entries.filter_map(|(kind, entry)| processor(kind, entry))
}
