use super::*;
use std::string::String;

/// A table of the image, found by its address, with its checksum and length verified.
fn table_at(tables: &Tables, address: u64) -> &[u8] {
    assert_eq!(address % 16, 0);
    let start = (address - layout::ACPI_TABLES.start) as usize;
    let length = u32_at(&tables.bytes[start..], 4) as usize;
    let table = &tables.bytes[start..start + length];
    assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
    assert_eq!(&table[10..16], b"BULKHD");
    table
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

struct Found<'a> {
    fadt: &'a [u8],
    madt: &'a [u8],
    dsdt: &'a [u8],
}

/// Goes the way that a guest goes from the RSDP to each table.
fn find(tables: &Tables) -> Found<'_> {
    let rsdp = &tables.bytes[(tables.rsdp.as_u64() - layout::ACPI_TABLES.start) as usize..][..36];
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!(sum(&rsdp[..20]), 0);
    assert_eq!(sum(rsdp), 0);
    assert_eq!((rsdp[15], u32_at(rsdp, 16), u32_at(rsdp, 20)), (2, 0, 36));
    let xsdt = table_at(tables, u64_at(rsdp, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    assert_eq!(xsdt.len(), 36 + 2 * 8);
    let fadt = table_at(tables, u64_at(xsdt, 36));
    assert_eq!(&fadt[..4], b"FACP");
    let madt = table_at(tables, u64_at(xsdt, 44));
    assert_eq!(&madt[..4], b"APIC");
    let dsdt = table_at(tables, u64_at(fadt, 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    Found { fadt, madt, dsdt }
}

/// A generic address structure: space, width, offset, access size, address.
fn port_at(fadt: &[u8], offset: usize) -> u64 {
    assert_eq!(fadt[offset..offset + 4], [1, 8, 0, 1]);
    u64_at(fadt, offset + 4)
}

#[test]
fn rsdp_is_where_a_guest_would_look_for_it() {
    let tables = build(1).unwrap();
    assert_eq!(tables.rsdp, GuestPhysical::new(0xe_0000));
}

#[test]
fn fadt_describes_a_hardware_reduced_machine() {
    let tables = build(4).unwrap();
    let fadt = find(&tables).fadt;
    assert_eq!((fadt.len(), fadt[8], fadt[131]), (276, 6, 5));
    assert_eq!(u32_at(fadt, 40), 0, "the 32-bit DSDT address is for older systems");
    assert_eq!(fadt[46..108], [0; 62], "no fixed hardware");
    assert_eq!(fadt[108], 0x32, "century");
    assert_eq!(u16_at(fadt, 109), 0x0014, "boot architecture");
    // WBINVD, PWR_BUTTON, SLP_BUTTON, FIX_RTC, RESET_REG_SUP, HEADLESS, physical destinations, HW_REDUCED_ACPI.
    assert_eq!(u32_at(fadt, 112), 1 | 3 << 4 | 1 << 6 | 1 << 10 | 1 << 12 | 1 << 19 | 1 << 20);
    assert_eq!((port_at(fadt, 116), fadt[128]), (0x602, 0x06));
    assert_eq!(port_at(fadt, 244), 0x600);
    assert_eq!(port_at(fadt, 256), 0x601);
    assert_eq!(fadt[148..244], [0; 96], "no fixed hardware in 64 bits either");
    assert_eq!(&fadt[268..], b"Bulkhead");
}

/// The MADT's structures: APIC IDs of the processors, and the IOAPICs.
fn structures(madt: &[u8]) -> (Vec<u32>, Vec<&[u8]>) {
    assert_eq!(u32_at(madt, 36), 0xfee0_0000);
    assert_eq!(u32_at(madt, 40), 0);
    let (mut processors, mut ioapics) = (Vec::new(), Vec::new());
    let mut rest = &madt[44..];
    while !rest.is_empty() {
        let (structure, behind) = rest.split_at(usize::from(rest[1]));
        match (structure[0], structure.len()) {
            (0, 8) => {
                assert_eq!(structure[2], structure[3], "processor ID is APIC ID");
                assert_eq!(u32_at(structure, 4), 1, "enabled");
                processors.push(structure[3].into());
            }
            (9, 16) => {
                assert_eq!(u16_at(structure, 2), 0);
                assert_eq!(u32_at(structure, 4), u32_at(structure, 12));
                assert_eq!(u32_at(structure, 8), 1, "enabled");
                assert!(u32_at(structure, 4) >= 255);
                processors.push(u32_at(structure, 4));
            }
            (1, 12) => ioapics.push(structure),
            other => panic!("unexpected structure {other:?}"),
        }
        rest = behind;
    }
    (processors, ioapics)
}

#[test]
fn madt_lists_each_processor_and_one_ioapic() {
    for count in [1, 2, 254, 255, 256, 300] {
        let tables = build(count).unwrap();
        let (processors, ioapics) = structures(find(&tables).madt);
        assert!(processors.into_iter().eq(0..count));
        assert_eq!(ioapics.len(), 1);
        let (id, address, base) = (ioapics[0][2], u32_at(ioapics[0], 4), u32_at(ioapics[0], 8));
        assert_eq!((id, address, base), (0, 0xfec0_0000, 0));
    }
}

/// A reader for the few AML objects that are used, after ACPI 20.2, which knows nothing of the writer.
struct AmlReader<'a> {
    rest: &'a [u8],
}

impl<'a> AmlReader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// What a PkgLength encloses; it counts itself.
    fn package(&mut self) -> AmlReader<'a> {
        let before = self.rest.len();
        let lead = self.byte();
        let following = usize::from(lead >> 6);
        let mut length = usize::from(if following == 0 { lead & 0x3f } else { lead & 0x0f });
        for index in 0..following {
            length |= usize::from(self.byte()) << (4 + 8 * index);
        }
        let rest = self.take(length - (before - self.rest.len()));
        AmlReader { rest }
    }

    fn name(&mut self) -> String {
        let root = if self.rest[0] == b'\\' { 5 } else { 4 };
        String::from_utf8(self.take(root).to_vec()).unwrap()
    }

    fn integer(&mut self) -> u64 {
        match self.byte() {
            0x00 => 0,
            0x01 => 1,
            0x0a => self.byte().into(),
            0x0b => u16_at(self.take(2), 0).into(),
            0x0c => u32_at(self.take(4), 0).into(),
            other => panic!("no integer: {other:#x}"),
        }
    }

    /// A `Name (expected, …)`, up to its value.
    fn named(&mut self, expected: &str) {
        assert_eq!(self.byte(), 0x08);
        assert_eq!(self.name(), expected);
    }

    fn device(&mut self) -> (String, AmlReader<'a>) {
        assert_eq!(self.take(2), [0x5b, 0x82]);
        let mut body = self.package();
        (body.name(), body)
    }

    /// The three letters and four digits of a compressed EISA ID.
    fn eisa_id(&mut self) -> String {
        assert_eq!(self.byte(), 0x0c);
        let id = u32::from_be_bytes(self.take(4).try_into().unwrap());
        let letter = |shift: u32| char::from(0x40 + (id >> shift & 0x1f) as u8);
        std::format!("{}{}{}{:04X}", letter(26), letter(21), letter(16), id & 0xffff)
    }

    /// The resource descriptors of a `_CRS`, without the end tag.
    fn resources(&mut self) -> &'a [u8] {
        self.named("_CRS");
        assert_eq!(self.byte(), 0x11);
        let mut buffer = self.package();
        assert_eq!(buffer.integer() as usize, buffer.rest.len());
        let (resources, end) = buffer.rest.split_at(buffer.rest.len() - 2);
        assert_eq!(end, [0x79, 0]);
        resources
    }
}

#[test]
fn dsdt_holds_processors_devices_and_power_off() {
    for count in [1, 3, 300] {
        let tables = build(count).unwrap();
        let dsdt = find(&tables).dsdt;
        assert_eq!(dsdt[8], 2);
        let mut aml = AmlReader { rest: &dsdt[36..] };
        assert_eq!(aml.byte(), 0x10);
        let mut devices = aml.package();
        assert_eq!(devices.name(), "\\_SB_");
        for number in 0..count {
            let (name, mut processor) = devices.device();
            assert_eq!(name, std::format!("C{number:03X}"));
            processor.named("_HID");
            assert_eq!(processor.take(10), b"\x0dACPI0007\0");
            processor.named("_UID");
            assert_eq!(processor.integer(), number.into());
            assert!(processor.rest.is_empty());
        }

        let (name, mut port) = devices.device();
        assert_eq!(name, "COM1");
        port.named("_HID");
        assert_eq!(port.eisa_id(), "PNP0501");
        port.named("_UID");
        assert_eq!(port.integer(), 1);
        // Eight ports at 0x3f8; an extended interrupt, consumer, edge, active high, exclusive: 4.
        let resources = [0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x89, 6, 0, 0b0011, 1, 4, 0, 0, 0];
        assert_eq!(port.resources(), resources);

        let (name, mut clock) = devices.device();
        assert_eq!(name, "RTC_");
        clock.named("_HID");
        assert_eq!(clock.eisa_id(), "PNP0B00");
        assert_eq!(clock.resources(), [0x47, 1, 0x70, 0, 0x70, 0, 1, 2]);
        assert!(clock.rest.is_empty());

        let (name, mut button) = devices.device();
        assert_eq!(name, "PWRB");
        button.named("_HID");
        assert_eq!(button.eisa_id(), "PNP0C0C");
        assert!(button.rest.is_empty());

        let (name, mut events) = devices.device();
        assert_eq!(name, "GED_");
        events.named("_HID");
        assert_eq!(events.take(10), b"\x0dACPI0013\0");
        events.named("_UID");
        assert_eq!(events.integer(), 0);
        // The same kind of interrupt as the port's: 9.
        assert_eq!(events.resources(), [0x89, 6, 0, 0b0011, 1, 9, 0, 0, 0]);
        // Method (_EVT, 1, Serialized) { Notify (PWRB, 0x80) }
        assert_eq!(events.byte(), 0x14);
        let mut method = events.package();
        assert_eq!(method.name(), "_EVT");
        assert_eq!(method.byte(), 1 | 1 << 3);
        assert_eq!(method.rest, b"\x86PWRB\x0a\x80");
        assert!(events.rest.is_empty() && devices.rest.is_empty());

        aml.named("\\_S5_");
        assert_eq!(aml.byte(), 0x12);
        let mut package = aml.package();
        assert_eq!((package.byte(), package.integer(), package.integer()), (2, 5, 0));
        assert!(package.rest.is_empty() && aml.rest.is_empty());
    }
}

#[test]
fn the_announced_sleep_type_powers_off() {
    // What Linux makes of `_S5_` and the sleep control register.
    let written = power::S5_SLEEP_TYPE << 2 | 1 << 5;
    assert_eq!(power::write(0, written), Some(power::PowerEvent::PowerOff));
}

#[test]
fn too_many_processors_are_refused() {
    let room = (layout::ACPI_TABLES.end - layout::ACPI_TABLES.start) as usize;
    for count in [u32::MAX, 0x1001, 0x1000] {
        assert_eq!(build(count).err(), Some(TooLarge { processors: count }));
    }
    assert!(build(2048).unwrap().bytes.len() <= room);
}
