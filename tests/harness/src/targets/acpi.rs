//! The firmware's ACPI tables: any bytes as physical memory.

use bulkhead::control::firmware::Memory;
use bulkhead::control::machine::read;
use bulkhead::memory::HostPhysical;

/// Physical memory from 0 on.
struct Made<'a>(&'a [u8]);

impl Memory for Made<'_> {
    fn bytes(&self, at: u64, length: u64) -> Option<&[u8]> {
        self.0.get(usize::try_from(at).ok()?..)?.get(..usize::try_from(length).ok()?)
    }
}

/// The tables of a memory at whose start the root pointer is are read, or refused with a reason; the same with checksums
/// that fit. What is read is in the tables.
pub fn acpi(data: &[u8]) -> String {
    look(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    look(&mended)
}

fn look(memory: &[u8]) -> String {
    let machine = match read(&Made(memory), HostPhysical::new(0)) {
        Ok(machine) => machine,
        Err(refused) => return format!("refused: {}", refused.0),
    };
    // A processor takes eight bytes at the least, an IOAPIC twelve.
    assert!(machine.processors.len() * 8 + machine.ioapics.len() * 12 <= memory.len());
    assert!(machine.ioapics.windows(2).all(|pair| pair[0] < pair[1]));
    for route in machine.serial.iter().flatten() {
        assert!(machine.ioapics.contains(&route.ioapic));
    }
    // Three bits (ACPI 6.5, 4.8.3.2.1).
    assert!(machine.soft_off.is_none_or(|off| off.sleep_type < 8 && off.port != 0));
    let off = if machine.soft_off.is_some() { "can" } else { "cannot" };
    let (processors, ioapics) = (machine.processors.len(), machine.ioapics.len());
    format!("{processors} processors, {ioapics} IOAPICs, {off} be switched off")
}

/// Makes what looks like a table sum to zero: no fuzzer gets several sums right at once.
fn mend(memory: &mut [u8]) {
    /// The first ones; more would take the time of other inputs.
    const MOST: usize = 16;
    let root = |rest: &[u8]| rest.starts_with(b"RSD PTR ");
    let table = |rest: &[u8]| {
        [b"RSDT", b"XSDT", b"APIC", b"FACP", b"DSDT"].iter().any(|name| rest.starts_with(*name))
    };
    let found = (0..memory.len()).filter(|&at| root(&memory[at..]) || table(&memory[at..]));
    let found: Vec<usize> = found.take(MOST).collect();
    for at in found {
        let rest = &mut memory[at..];
        if root(rest) {
            sum_up(rest, 20, 8);
            sum_up(rest, length(rest, 20), 32);
        } else {
            sum_up(rest, length(rest, 4), 9);
        }
    }
}

fn length(table: &[u8], at: usize) -> usize {
    let field = table.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field) as usize)
}

fn sum_up(table: &mut [u8], length: usize, checksum: usize) {
    let Some(table) = table.get_mut(..length).filter(|table| checksum < table.len()) else {
        return;
    };
    table[checksum] = 0;
    table[checksum] = table.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
}
