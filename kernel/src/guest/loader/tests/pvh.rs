//! Tests of the PVH loader.

use super::elf64::{Builder, TEXT};
use super::*;
use proptest::prelude::*;

const NOTE: u32 = 4;
/// A note of another owner with the same type, then Xen's, as Linux has it: 8 bytes that say where
/// TEXT starts, and 4 of them.
const NOTES_64: &[u8] = b"\x04\0\0\0\x02\0\0\0\x12\0\0\0GNU\0\x01\x02\0\0\
    \x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0\x00\x00\x20\0\0\0\0\0";
const NOTES_32: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x02\x00\x20\0";

fn kernel(class: u8, notes: &'static [u8]) -> Builder {
    let mut builder = Builder::with((NOTE, 0, 0, notes, notes.len() as u64));
    builder.class = class;
    // What the ELF header says does not count.
    builder.entry = 0;
    builder
}

fn load_pvh(file: &[u8], initrd: Option<&[u8]>) -> (Result<Entry, LoadError>, TestMemory) {
    let image = Image { kernel: file, initrd, command_line: "quiet" };
    load_into(Kind::Pvh, &image, 4 * MIB)
}

fn error(file: &[u8]) -> LoadError {
    load_pvh(file, None).0.unwrap_err()
}

#[test]
fn a_kernel_is_entered_where_its_note_says() {
    for (class, notes, entry) in [(2, NOTES_64, TEXT.2), (1, NOTES_32, TEXT.2 + 2)] {
        let (loaded, memory) = load_pvh(&kernel(class, notes).build(), None);
        let start = protected(loaded, &[(reg::RBX, 0x7000)]);
        assert_eq!(u64::from(start.eip), entry);
        assert_eq!(u64_at(&memory, BOOT_GDT + u64::from(start.code)), 0x00CF_9B00_0000_FFFF);
        assert_eq!(u64_at(&memory, BOOT_GDT + u64::from(start.data)), 0x00CF_9300_0000_FFFF);
        assert_eq!(&memory.0[TEXT.2 as usize..][..4], b"text");
    }
}

#[test]
fn start_info_says_what_there_is() {
    let (_, memory) = load_pvh(&kernel(2, NOTES_64).build(), Some(b"disk"));
    let info = |offset: u64| u64_at(&memory, 0x7000 + offset);
    assert_eq!((u32_at(&memory, 0x7000), u32_at(&memory, 0x7004)), (0x336E_C578, 1));
    assert_eq!((u32_at(&memory, 0x7008), u32_at(&memory, 0x700C)), (0, 1));
    let module = info(16);
    assert_eq!((u64_at(&memory, module), u64_at(&memory, module + 8)), (4 * MIB - 4096, 4));
    assert_eq!((u64_at(&memory, module + 16), u64_at(&memory, module + 24)), (0, 0));
    assert_eq!(&memory.0[4 * MIB as usize - 4096..][..4], b"disk");
    assert_eq!(&memory.0[info(24) as usize..][..6], b"quiet\0");
    assert_eq!(info(32), ACPI_TABLES.start);
    assert_eq!((u32_at(&memory, 0x7030), u32_at(&memory, 0x7034)), (4, 0));
    let entry = |index: u64| {
        let at = info(40) + index * 24;
        (u64_at(&memory, at), u64_at(&memory, at + 8), u64_at(&memory, at + 16))
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
    let (_, memory) = load_pvh(&kernel(2, NOTES_64).build(), None);
    assert_eq!((u32_at(&memory, 0x700C), u64_at(&memory, 0x7010)), (0, 0));
}

#[test]
fn a_kernel_without_a_good_note_is_refused() {
    assert_eq!(error(&Builder::new().build()), LoadError::NotPvh);
    assert_eq!(error(&kernel(2, &NOTES_64[..20]).build()), LoadError::NotPvh);
    assert_eq!(error(&kernel(2, &NOTES_64[..NOTES_64.len() - 1]).build()), LoadError::NotPvh);
    let short = b"\x04\0\0\0\x02\0\0\0\x12\0\0\0Xen\0\x01\x02\0\0";
    assert!(error(&kernel(2, short).build()).to_string().contains("neither 4 nor 8 bytes"));
    let outside = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x04\x00\x20\0";
    assert_eq!(error(&kernel(2, outside).build()), LoadError::EntryOutsideSegments(0x20_0004));
    assert_eq!(error(b"no ELF file"), LoadError::NotElf);
}

proptest! {
    #[test]
    fn any_file_loads_or_fails_but_never_panics(
        class in 1u8..3, changes in prop::collection::vec((0usize..300, any::<u8>()), 0..8),
        ram in 0u64..(6 << 30),
    ) {
        let mut file = kernel(class, NOTES_64).build();
        for (at, value) in changes {
            let len = file.len();
            file[at % len] = value;
        }
        let image = Image { kernel: &file, initrd: Some(b"x"), command_line: "" };
        let _ = load(Kind::Pvh, &image, RamLayout::new(ram), &mut AnyMemory);
    }
}
