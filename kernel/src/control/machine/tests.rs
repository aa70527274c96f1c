//! Tests with tables made here.

use super::*;
use std::vec;

/// Physical memory from 0 on.
struct Made(Vec<u8>);

impl Memory for Made {
    fn bytes(&self, at: u64, length: u64) -> Option<&[u8]> {
        self.0.get(usize::try_from(at).ok()?..)?.get(..usize::try_from(length).ok()?)
    }
}

/// Makes the bytes sum to zero by one of them.
fn sum_up(bytes: &mut [u8], checksum: usize) {
    bytes[checksum] = 0;
    bytes[checksum] = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
}

fn table(signature: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut table = vec![0; HEADER];
    table[..4].copy_from_slice(signature);
    table.extend_from_slice(content);
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    sum_up(&mut table, 9);
    table
}

const RSDP: HostPhysical = HostPhysical::new(0x10);
const LIST: u32 = 0x100;
const MADT: u32 = 0x200;
const FADT: u32 = 0x400;
const DSDT: u32 = 0x600;

/// Tables of a machine: behind its root pointer of 1.0 or 2.0 a list with MADT and FADT.
fn machine(wide: bool, madt: &[u8], fadt: &[u8]) -> Made {
    let mut memory = vec![0; 0x800];
    let mut put =
        |at: u32, bytes: &[u8]| memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
    let mut root = [0u8; 36];
    root[..8].copy_from_slice(b"RSD PTR ");
    if wide {
        (root[15], root[20]) = (2, 36);
        root[24..28].copy_from_slice(&LIST.to_le_bytes());
    } else {
        root[16..20].copy_from_slice(&LIST.to_le_bytes());
    }
    sum_up(&mut root[..20], 8);
    sum_up(&mut root, 32);
    put(RSDP.as_u64() as u32, &root);
    let entry = |at: u32| at.to_le_bytes().into_iter().chain([0; 4]).take(if wide { 8 } else { 4 });
    let list: Vec<u8> = entry(MADT).chain(entry(FADT)).collect();
    put(LIST, &table(if wide { b"XSDT" } else { b"RSDT" }, &list));
    put(MADT, &table(b"APIC", &[&[0; 8], madt].concat()));
    put(FADT, &table(b"FACP", &fadt[HEADER..]));
    put(DSDT, &table(b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\x00"));
    Made(memory)
}

const ENTRIES: &[u8] = &[
    0, 8, 0, 3, 1, 0, 0, 0, // local APIC 3
    0, 8, 1, 4, 0, 0, 0, 0, // local APIC 4, not to be used
    1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0, // IOAPIC, from interrupt 0 on
    1, 12, 1, 0, 0, 0x10, 0xC0, 0xFE, 24, 0, 0, 0, // IOAPIC, from interrupt 24 on
    2, 10, 0, 3, 25, 0, 0, 0, 0b1111, 0, // COM2 is interrupt 25, level, active low
    4, 6, 0xFF, 0, 0, 1, // an NMI
    9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // local x2APIC 256
];

/// An FADT of ACPI 1.0, or with wide fields behind.
fn fadt(length: usize) -> Vec<u8> {
    let mut fadt = vec![0; length];
    fadt[40..44].copy_from_slice(&DSDT.to_le_bytes());
    fadt[64..68].copy_from_slice(&0xB004u32.to_le_bytes());
    fadt
}

#[test]
fn a_machine_is_read_by_either_root() {
    for wide in [false, true] {
        let machine = read(&machine(wide, ENTRIES, &fadt(116)), RSDP).unwrap();
        assert_eq!(machine.processors, [ApicId(3), ApicId(256)]);
        assert_eq!(machine.ioapics, [0xFEC0_0000, 0xFEC0_1000].map(HostPhysical::new));
        let [first, second] = machine.serial.map(|route| route.unwrap());
        assert_eq!((first.pin, first.active_low, first.level), (4, false, false));
        assert_eq!((second.ioapic.as_u64(), second.pin), (0xFEC0_1000, 1));
        assert!(second.active_low && second.level);
        assert_eq!(machine.soft_off, Some(SoftOff { port: 0xB004, sleep_type: 5 }));
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let good = || machine(true, ENTRIES, &fadt(116));
    let refused = |memory: &Made, at| read(memory, at).unwrap_err().0;
    let root = "the RSDP or what it points to is damaged";
    assert_eq!(refused(&good(), HostPhysical::new(u64::MAX)), root);
    for at in [RSDP.as_u64() as usize + 3, RSDP.as_u64() as usize + 33, LIST as usize + 20] {
        let mut memory = good();
        memory.0[at] ^= 1;
        assert_eq!(refused(&memory, RSDP), root, "{at:#x}");
    }
    let mut memory = good();
    memory.0[MADT as usize + 20] ^= 1;
    assert_eq!(refused(&memory, RSDP), "there is no MADT");
    for cut in 1..=LIST as usize {
        let mut memory = good();
        memory.0.truncate(cut);
        assert_eq!(refused(&memory, RSDP), root);
    }
}

/// An entry that is 0 bytes long would be looked at for ever.
#[test]
fn an_entry_of_a_wrong_length_is_refused() {
    for entry in [
        &[1][..],
        &[0, 0, 0, 3, 1, 0, 0, 0],
        &[0, 1, 0, 3, 1, 0, 0, 0],
        &[0, 9, 0, 3, 1, 0, 0, 0],
        &[0, 7, 0, 3, 1, 0, 0],
        &[1, 8, 0, 0, 0, 0, 0xC0, 0xFE],
        &[2, 8, 0, 3, 25, 0, 0, 0],
        &[9, 8, 0, 0, 0, 1, 0, 0],
    ] {
        let madt = [ENTRIES, entry].concat();
        let refused = read(&machine(false, &madt, &fadt(116)), RSDP).unwrap_err();
        assert_eq!(refused, DAMAGED_MADT, "{entry:?}");
    }
}

/// A table whose length is less than its header's would have a content of less than nothing.
#[test]
fn a_table_shorter_than_its_header_is_none() {
    for at in [MADT, LIST] {
        let mut memory = machine(false, ENTRIES, &fadt(116));
        let table = &mut memory.0[at as usize..][..HEADER - 1];
        table[4] = HEADER as u8 - 1;
        sum_up(table, 9);
        assert!(read(&memory, RSDP).is_err());
    }
    // And without the two fields before its entries a MADT has none.
    let mut memory = machine(false, ENTRIES, &fadt(116));
    let table = &mut memory.0[MADT as usize..][..HEADER + 3];
    table[4] = HEADER as u8 + 3;
    sum_up(table, 9);
    assert!(read(&memory, RSDP).unwrap().processors.is_empty());
}

#[test]
fn the_machine_is_switched_off_by_a_port_alone() {
    let soft_off = |fadt: &[u8]| {
        let machine = read(&machine(true, ENTRIES, fadt), RSDP).unwrap();
        machine.soft_off.map(|off| off.port)
    };
    // Where PM1a control is: space, width, offset, access size, address.
    let put = |fadt: &mut [u8], space: u8, address: u64| {
        fadt[172..176].copy_from_slice(&[space, 16, 0, 0]);
        fadt[176..184].copy_from_slice(&address.to_le_bytes());
    };
    let mut wide = fadt(244);
    assert_eq!(soft_off(&wide), Some(0xB004), "wide fields of zero do not count");
    wide[140..144].copy_from_slice(&DSDT.to_le_bytes());
    wide[40..44].fill(0);
    put(&mut wide, 1, 0x404);
    assert_eq!(soft_off(&wide), Some(0x404));
    put(&mut wide, 0, 0x404);
    assert_eq!(soft_off(&wide), None, "memory");
    put(&mut wide, 1, 0x1_0404);
    assert_eq!(soft_off(&wide), None, "no port has this number");
    let mut without = fadt(116);
    without[64..68].fill(0);
    assert_eq!(soft_off(&without), None, "hardware-reduced");
    assert_eq!(soft_off(&fadt(116)[..64]), None, "it ends before");
}
