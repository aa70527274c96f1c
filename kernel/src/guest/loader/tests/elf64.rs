//! Tests of the ELF64 loader.

use super::*;
use proptest::prelude::*;

/// A segment of the image: (type, flags, physical address, content, size in memory).
pub(super) type Segment = (u32, u32, u64, &'static [u8], u64);

pub(super) const LOAD: u32 = 1;
const INTERP: u32 = 3;
const EXECUTE: u32 = 1;
pub(super) const TEXT: Segment = (LOAD, EXECUTE, 0x20_0000, b"text", 4);
const DATA: Segment = (LOAD, 0, 0x20_1000, b"data", 0x2000);

/// An executable ELF file, of 64 bits unless `class` is 1.
pub(super) struct Builder {
    pub segments: Vec<Segment>,
    pub entry: u64,
    pub class: u8,
    kind: u16,
    pub machine: u16,
}

impl Builder {
    pub fn new() -> Self {
        let segments = [TEXT, DATA].to_vec();
        Self { segments, entry: TEXT.2 + 1, class: 2, kind: 2, machine: 62 }
    }

    pub fn build(&self) -> Vec<u8> {
        let wide = self.class == 2;
        let (header_size, segment_size) = if wide { (64, 56) } else { (52, 32) };
        // Addresses and offsets are as wide as the class.
        let word = |value: u64| value.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
        let mut file = b"\x7FELF".to_vec();
        file.extend([self.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(word(self.entry));
        file.extend(word(header_size)); // program headers follow at once
        file.extend(word(0)); // no sections
        file.extend(0u32.to_le_bytes());
        for value in [header_size, segment_size, self.segments.len() as u64, 64, 0, 0] {
            file.extend((value as u16).to_le_bytes());
        }
        let mut offset = header_size + segment_size * self.segments.len() as u64;
        for &(kind, flags, address, content, size) in &self.segments {
            file.extend(kind.to_le_bytes());
            if wide {
                file.extend(flags.to_le_bytes());
            }
            let virtual_address = address.wrapping_add(0xFFFF_8000_0000_0000);
            for value in [offset, virtual_address, address, content.len() as u64, size] {
                file.extend(word(value));
            }
            if !wide {
                file.extend(flags.to_le_bytes());
            }
            file.extend(word(4096));
            offset += content.len() as u64;
        }
        for (.., content, _) in &self.segments {
            file.extend(*content);
        }
        file
    }

    pub fn with(segment: Segment) -> Self {
        let mut builder = Self::new();
        builder.segments.push(segment);
        builder
    }

    fn load(&self, ram: u64) -> Result<Entry, LoadError> {
        let image = Image { kernel: &self.build(), initrd: None, command_line: "" };
        load(Kind::Elf64, &image, RamLayout::new(ram), &mut AnyMemory)
    }

    fn error(&self) -> LoadError {
        self.load(8 * MIB).unwrap_err()
    }
}

#[test]
fn segments_go_to_their_physical_addresses_and_bss_is_cleared() {
    let kernel = Builder::new().build();
    let image = Image { kernel: &kernel, initrd: None, command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    assert_eq!(long(entry).0.rip, 0x20_0001);
    // 0xAA is TestMemory's filling: nothing around the segments is touched.
    assert_eq!(&memory.0[0x1F_FFFF..0x20_0005], b"\xAAtext\xAA");
    assert_eq!(&memory.0[0x20_1000..0x20_1004], b"data");
    assert!(memory.0[0x20_1004..0x20_3000].iter().all(|&byte| byte == 0));
    assert_eq!(memory.0[0x20_3000], 0xAA);
}

#[test]
fn boot_params_are_those_of_a_64_bit_linux() {
    let kernel = Builder::new().build();
    let image = Image { kernel: &kernel, initrd: Some(b"disk"), command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    let params = long(entry).1;
    assert_eq!(bytes(&memory, params + 0x1FE), [0x55, 0xAA]);
    assert_eq!(bytes(&memory, params + 0x202), *b"HdrS\x0C\x02");
    assert_eq!(bytes(&memory, params + 0x210), [0xFF, 1]);
    assert_eq!(u32_at(&memory, params + 0x214), 0x20_0001);
    assert_eq!(u64::from(u32_at(&memory, params + 0x218)), 4 * MIB - 4096);
    assert_eq!(u32_at(&memory, params + 0x21C), 4);
    assert_eq!(&memory.0[4 * MIB as usize - 4096..][..4], b"disk");
}

#[test]
fn the_ram_disk_avoids_the_segments() {
    let top = (LOAD, 0, 4 * MIB - 4096, b"top".as_slice(), 4096);
    let kernel = Builder::with(top).build();
    let image = Image { kernel: &kernel, initrd: Some(b"disk"), command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    assert_eq!(u64::from(u32_at(&memory, long(entry).1 + 0x218)), 4 * MIB - 8192);
    assert_eq!(&memory.0[4 * MIB as usize - 4096..][..4], b"top\0");
    let all = (LOAD, 0, 0x20_3000, b"".as_slice(), 4 * MIB - 0x20_3000);
    let kernel = Builder::with(all).build();
    let big = alloc::vec![1; 2 << 20];
    let image = Image { kernel: &kernel, initrd: Some(&big), command_line: "" };
    let error = load_into(Kind::Elf64, &image, 4 * MIB).0.unwrap_err();
    assert_eq!(error, LoadError::InitrdDoesNotFit { size: 2 << 20 });
}

#[test]
fn segments_may_lie_above_4_gib_but_the_entry_may_not() {
    let high: Segment = (LOAD, EXECUTE, 0x1_0000_0000, b"high", 4);
    assert!(Builder::with(high).load(4 << 30).is_ok());
    let mut builder = Builder::with(high);
    builder.entry = high.2;
    assert_eq!(builder.load(4 << 30), Err(LoadError::EntryOutsideSegments(high.2)));
}

#[test]
fn segments_outside_ram_are_refused() {
    for (start, len) in [(8 * MIB - 1, 2), (8 * MIB, 1), (u64::MAX, 1), (u64::MAX - 1, u64::MAX)] {
        let error = Builder::with((LOAD, 0, start, b"", len)).error();
        assert_eq!(error, LoadError::SegmentOutsideRam { start, len });
    }
    assert!(Builder::with((LOAD, 0, 8 * MIB - 1, b"", 1)).load(8 * MIB).is_ok());
}

#[test]
fn segments_over_boot_structures_or_each_other_are_refused() {
    let overlapped = |start, len| match Builder::with((LOAD, 0, start, b"", len)).error() {
        LoadError::SegmentOverlap { what, .. } => what,
        other => panic!("{other}"),
    };
    assert!(overlapped(0, 1).contains("boot_params"));
    assert!(overlapped(0xDFFF, 1).contains("boot_params"));
    assert_eq!(overlapped(0x1_0000, 0x1_0001), "the command line");
    assert_eq!(overlapped(0x9_FC00, 1), "the reserved range below 1 MiB");
    assert_eq!(overlapped(0xF_FFFF, 0x10_0000), "the reserved range below 1 MiB");
    assert_eq!(overlapped(0x20_0003, 1), "another segment");
    assert!(Builder::with((LOAD, 0, 0xE000, b"", 0x1_2000)).load(8 * MIB).is_ok());
    assert!(Builder::with((LOAD, 0, 0x10_0000, b"", 0x10_0000)).load(8 * MIB).is_ok());
}

#[test]
fn other_kinds_of_file_are_refused() {
    let refused = |change: fn(&mut Builder)| {
        let mut builder = Builder::new();
        change(&mut builder);
        builder.error().to_string()
    };
    assert!(refused(|builder| builder.kind = 3).contains("position-independent"));
    assert!(refused(|builder| builder.kind = 1).contains("object file"));
    assert!(refused(|builder| builder.machine = 183).contains("another processor"));
    assert!(refused(|builder| builder.entry = 0x20_0004).contains("0x200004"));
    assert!(refused(|builder| builder.entry = 0x20_1000).contains("executable code"));
    assert!(refused(|builder| builder.segments.clear()).contains("segments"));
    let interpreter: Segment = (INTERP, 0, 0, b"ld.so", 5);
    assert!(Builder::with(interpreter).error().to_string().contains("dynamically"));
    let error = Builder::with((LOAD, 0, 0x30_0000, b"long", 3)).error();
    assert_eq!(error, LoadError::Segments("one is longer in the file than in memory"));
    let many = |count: u64| {
        let mut builder = Builder::new();
        builder.segments.extend((2..count).map(|at| (LOAD, 0, (4 << 20) + at, b"".as_slice(), 1)));
        builder.load(8 * MIB)
    };
    assert!(many(32).is_ok());
    assert_eq!(many(33), Err(LoadError::Segments("there are too many")));
}

#[test]
fn a_32_bit_file_is_named_as_such() {
    let mut builder = Builder::new();
    (builder.class, builder.machine) = (1, 3);
    assert!(builder.error().to_string().contains("32-bit file"));
}

#[test]
fn every_truncation_is_refused() {
    let whole = Builder::new().build();
    for len in 0..whole.len() {
        let image = Image { kernel: &whole[..len], initrd: None, command_line: "" };
        let error = load(Kind::Elf64, &image, RamLayout::new(8 * MIB), &mut AnyMemory);
        assert!(
            matches!(error, Err(LoadError::NotElf | LoadError::Truncated { .. })),
            "{len}: {error:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_file_loads_or_fails_but_never_panics(
        changes in prop::collection::vec((0usize..176, any::<u8>()), 0..8), ram in 0u64..(6 << 30),
    ) {
        let mut file = Builder::new().build();
        for (at, value) in changes {
            file[at] = value;
        }
        let image = Image { kernel: &file, initrd: Some(b"x"), command_line: "" };
        let _ = load(Kind::Elf64, &image, RamLayout::new(ram), &mut AnyMemory);
    }
}
