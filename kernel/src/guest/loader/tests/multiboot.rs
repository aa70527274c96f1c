//! Tests of the Multiboot loader.

use super::elf64::{Builder, LOAD, Segment};
use super::*;
use proptest::prelude::*;

const MAGIC: u32 = 0x1BAD_B002;

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A header that requires and announces these flags, and what follows it.
fn header(flags: u32, rest: &[u32]) -> Vec<u8> {
    let checksum = 0u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    [words(&[MAGIC, flags, checksum]), words(rest)].concat()
}

/// An ELF file of a class whose code starts with a header.
fn elf(class: u8, flags: u32) -> Vec<u8> {
    let code: Segment = (LOAD, 1, 0x20_0000, header(flags, &[0x90]).leak(), 0x100);
    let mut builder = Builder::new();
    builder.segments.remove(0);
    builder.segments.push(code);
    (builder.class, builder.entry) = (class, 0x20_000C);
    builder.machine = if class == 1 { 3 } else { 62 };
    builder.build()
}

/// A file without ELF headers: 8 bytes that are not loaded, 4 that are, the header, code.
fn flat(addresses: [u32; 5]) -> Vec<u8> {
    let header = header(1 << 16, &addresses);
    [b"skipped!data".as_slice(), &header, b"code", &[0; 8]].concat()
}

/// Header, start, end of data, end of BSS, entry.
const ADDRESSES: [u32; 5] = [0x10_0004, 0x10_0000, 0x10_0028, 0x10_1000, 0x10_0024];

fn load_multiboot(file: &[u8], initrd: Option<&[u8]>) -> (Result<Entry, LoadError>, TestMemory) {
    let image = Image { kernel: file, initrd, command_line: "quiet" };
    load_into(Kind::Multiboot, &image, 4 * MIB)
}

fn error(file: &[u8]) -> LoadError {
    load_multiboot(file, None).0.unwrap_err()
}

const REGISTERS: [(usize, u64); 2] = [(reg::RAX, 0x2BAD_B002), (reg::RBX, 0x7000)];

#[test]
fn an_elf_kernel_of_either_class_is_entered_in_protected_mode() {
    for class in [1, 2] {
        let (entry, memory) = load_multiboot(&elf(class, 3), None);
        assert_eq!(protected(entry, &REGISTERS).eip, 0x20_000C);
        assert_eq!(u32_at(&memory, 0x20_0000), MAGIC);
        assert!(memory.0[0x20_0010..0x20_0100].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn the_header_may_say_itself_what_goes_where() {
    let (entry, memory) = load_multiboot(&flat(ADDRESSES), None);
    assert_eq!(protected(entry, &REGISTERS).eip, 0x10_0024);
    assert_eq!(&memory.0[0x10_0000..][..4], b"data");
    assert_eq!(&memory.0[0x10_0024..][..5], b"code\0");
    assert!(memory.0[0x10_0028..0x10_1000].iter().all(|&byte| byte == 0));
    assert_eq!(memory.0[0x10_1000], 0xAA); // TestMemory's filling
    // Without ends: the whole file, and no BSS.
    let (entry, memory) = load_multiboot(&flat([0x10_0004, 0x10_0000, 0, 0, 0x10_0024]), None);
    assert_eq!(protected(entry, &REGISTERS).eip, 0x10_0024);
    assert_eq!((memory.0[0x10_002F], memory.0[0x10_0030]), (0, 0xAA));
}

#[test]
fn addresses_that_make_no_sense_are_refused() {
    for (field, value) in
        [(0, 0xF_FFFF), (0, 0x11_0000), (2, 0xF_FFFF), (3, 0xF_FFFF), (3, 0x10_0010)]
    {
        let mut addresses = ADDRESSES;
        addresses[field] = value;
        let message = error(&flat(addresses)).to_string();
        assert!(message.contains("contradict"), "{addresses:x?}: {message}");
    }
    let with = |field: usize, value: u32| {
        let mut addresses = ADDRESSES;
        addresses[field] = value;
        error(&flat(addresses))
    };
    assert_eq!(with(2, 0x10_0031), LoadError::Truncated { needed: 0x39, len: 0x38 });
    assert_eq!(with(4, 0x10_1000), LoadError::EntryOutsideSegments(0x10_1000));
    let outside = LoadError::SegmentOutsideRam { start: 0x10_0000, len: 0x40_0000 };
    assert_eq!(with(3, 0x50_0000), outside);
    let low = error(&flat(ADDRESSES.map(|address| address - 0x10_0000))).to_string();
    assert!(low.contains("overlaps the boot GDT"), "{low}");
}

#[test]
fn what_the_kernel_requires_must_be_there() {
    assert_eq!(error(&elf(1, 0b111)), LoadError::MultibootFlag(2));
    assert_eq!(error(&elf(1, 1 << 15)), LoadError::MultibootFlag(15));
    // A flag from 16 on is no requirement.
    assert!(load_multiboot(&elf(1, 1 << 31), None).0.is_ok());
}

#[test]
fn the_header_must_be_found() {
    let place = |at: usize| {
        let mut file = alloc::vec![0; at];
        file.extend(header(1 << 16, &[0x10_0000, 0x10_0000, 0, 0, 0x10_0000]));
        load_multiboot(&file, None).0
    };
    assert!(place(0).is_ok() && place(8192 - 12).is_ok());
    for at in [2, 8192 - 8, 8192] {
        assert_eq!(place(at), Err(LoadError::NotMultiboot), "{at}");
    }
    let mut wrong = elf(1, 0);
    let at = wrong.windows(4).position(|window| window == MAGIC.to_le_bytes()).unwrap();
    wrong[at + 8] ^= 1;
    assert_eq!(error(&wrong), LoadError::NotMultiboot);
    let file = flat(ADDRESSES);
    for len in 0..0x38 - 8 {
        let error = error(&file[..len]);
        assert!(matches!(error, LoadError::NotMultiboot | LoadError::Truncated { .. }), "{error}");
    }
}

#[test]
fn the_information_says_what_there_is() {
    let (_, memory) = load_multiboot(&elf(1, 3), Some(b"disk"));
    let info = |offset: u64| u32_at(&memory, 0x7000 + offset);
    assert_eq!(info(0), 0b10_0100_1101);
    assert_eq!((info(4), info(8)), (639, 3 << 10));
    assert_eq!(&memory.0[info(16) as usize..][..6], b"quiet\0");
    assert_eq!(&memory.0[info(64) as usize..][..9], b"Bulkhead\0");
    assert_eq!(info(20), 1);
    let module = u64::from(info(24));
    let last = 4 * MIB as u32 - 4096;
    assert_eq!((u32_at(&memory, module), u32_at(&memory, module + 4)), (last, last + 4));
    assert_eq!(u64_at(&memory, module + 8), 0);
    assert_eq!(info(44), 4 * 24);
    let entry = |index: u64| {
        let at = u64::from(info(48)) + index * 24;
        assert_eq!(u32_at(&memory, at), 20);
        (u64_at(&memory, at + 4), u64_at(&memory, at + 12), u32_at(&memory, at + 20))
    };
    assert_eq!(
        [0, 1, 2, 3].map(entry),
        [
            (0, 0x9_FC00, 1),
            (0x9_FC00, MIB - 0x9_FC00, 2),
            (MIB, 3 * MIB, 1),
            (0xFEC0_0000, 0x20_1000, 2),
        ]
    );
    let (_, memory) = load_multiboot(&elf(1, 3), None);
    assert_eq!(u32_at(&memory, 0x7014), 0);
}

proptest! {
    #[test]
    fn any_file_loads_or_fails_but_never_panics(
        elf_class in 0u8..3, addresses: [u32; 5],
        changes in prop::collection::vec((0usize..200, any::<u8>()), 0..8), ram in 0u64..(6 << 30),
    ) {
        let mut file = if elf_class == 0 { flat(addresses) } else { elf(elf_class, 0) };
        for (at, value) in changes {
            let len = file.len();
            file[at % len] = value;
        }
        let image = Image { kernel: &file, initrd: Some(b"x"), command_line: "" };
        let _ = load(Kind::Multiboot, &image, RamLayout::new(ram), &mut AnyMemory);
    }
}
