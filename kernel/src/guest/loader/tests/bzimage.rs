//! Tests of the bzImage loader.

use super::*;
use proptest::prelude::*;

/// A bzImage with the fields of a Debian kernel, small.
#[derive(Clone)]
struct Builder {
    file: Vec<u8>,
}

/// Bytes of the protected-mode part.
const PAYLOAD: usize = 0x1000;
/// `setup_sects` of the image.
const SETUP_SECTS: u8 = 27;
const PREF_ADDRESS: u64 = 16 * MIB;
const INIT_SIZE: u32 = 3 << 20;

impl Builder {
    fn new() -> Self {
        let mut file = alloc::vec![0; (usize::from(SETUP_SECTS) + 1) * 512];
        // 0xEE: must not reach boot_params, as it lies outside the setup header.
        file[..0x1F1].fill(0xEE);
        file[0x270..0x300].fill(0xEE);
        file.extend((0..PAYLOAD).map(|index| (index % 251) as u8));
        Self { file }
            .set(0x1F1, &[SETUP_SECTS])
            .set(0x1F4, &(PAYLOAD as u32 / 16).to_le_bytes())
            .set(0x1FE, &[0x55, 0xAA, 0xEB, 0x6A]) // the header ends at 0x202 + 0x6A
            .set(0x202, b"HdrS\x0F\x02")
            .set(0x211, &[0x81]) // LOADED_HIGH and, to be cleared, CAN_USE_HEAP
            .set(0x22C, &0x7FFF_FFFFu32.to_le_bytes())
            .set(0x230, &0x20_0000u32.to_le_bytes())
            .set(0x234, &[1, 21])
            .set(0x236, &0x3Fu16.to_le_bytes())
            .set(0x238, &2047u32.to_le_bytes())
            .set(0x258, &PREF_ADDRESS.to_le_bytes())
            .set(0x260, &INIT_SIZE.to_le_bytes())
            .set(0x264, b"handover")
    }

    fn set(mut self, at: usize, value: &[u8]) -> Self {
        self.file[at..at + value.len()].copy_from_slice(value);
        self
    }

    fn load(&self, initrd: Option<&[u8]>, ram: u64) -> (Result<Entry, LoadError>, TestMemory) {
        let image = Image { kernel: &self.file, initrd, command_line: "quiet" };
        load_into(Kind::BzImage, &image, ram)
    }

    fn error(&self) -> LoadError {
        self.load(None, 32 * MIB).0.unwrap_err()
    }
}

#[test]
fn a_kernel_is_entered_at_its_preferred_address() {
    let builder = Builder::new();
    let (entry, memory) = builder.load(None, 32 * MIB);
    let (start, rsi) = long(entry);
    assert_eq!((start.rip, rsi), (PREF_ADDRESS + 0x200, 0x7000));
    let payload = &builder.file[builder.file.len() - PAYLOAD..];
    assert_eq!(&memory.0[PREF_ADDRESS as usize..][..PAYLOAD], payload);
}

#[test]
fn boot_params_are_the_setup_header_and_what_the_loader_says() {
    let (entry, memory) = Builder::new().load(None, 32 * MIB);
    let params = long(entry).1;
    assert_eq!(bytes(&memory, params + 0x1F1), [SETUP_SECTS]);
    assert_eq!(bytes(&memory, params + 0x202), *b"HdrS\x0F\x02");
    assert_eq!(u64_at(&memory, params + 0x258), PREF_ADDRESS);
    assert_eq!(bytes(&memory, params + 0x264), *b"handover");
    assert_eq!(bytes(&memory, params + 0x210), [0xFF, 0x01]); // loader, loadflags
    assert_eq!(u64::from(u32_at(&memory, params + 0x214)), PREF_ADDRESS);
    assert_eq!(u32_at(&memory, params + 0x228), 0x2_0000);
    assert_eq!((u32_at(&memory, params + 0x218), u32_at(&memory, params + 0x21C)), (0, 0));
    // All outside the header is zero: screen_info, the sentinel at 0x1EF, what follows the header.
    assert_eq!(bytes(&memory, params), [0; 0x70]);
    assert_eq!(bytes(&memory, params + 0x1E9), [0; 8]);
    assert_eq!(bytes(&memory, params + 0x270), [0; 0x60]);
    assert_eq!(bytes(&memory, params + 0x2D0 + 5 * 20), [0; 0xCCC]);
    assert_eq!(&memory.0[0x2_0000..][..6], b"quiet\0");
}

#[test]
fn a_kernel_without_a_64_bit_entry_is_entered_by_the_32_bit_protocol() {
    let builder = Builder::new().set(0x236, &[0xFE]);
    let (entry, memory) = builder.load(None, 32 * MIB);
    let start = protected(entry, &[(reg::RSI, BOOT_PARAMS)]);
    assert_eq!((u64::from(start.eip), start.code, start.data), (PREF_ADDRESS, 0x10, 0x18));
    assert_eq!(u64_at(&memory, BOOT_GDT + 0x10), 0x00CF_9B00_0000_FFFF);
    assert_eq!(u64::from(u32_at(&memory, BOOT_PARAMS + 0x214)), PREF_ADDRESS);
    assert_eq!(&memory.0[0x2_0000..][..6], b"quiet\0");
}

#[test]
fn a_relocatable_kernel_is_aligned() {
    let odd = PREF_ADDRESS + 0x1000;
    let builder = Builder::new().set(0x258, &odd.to_le_bytes());
    assert_eq!(long(builder.load(None, 32 * MIB).0).0.rip, PREF_ADDRESS + 2 * MIB + 0x200);
    // One that prefers 0 goes above 1 MiB.
    let builder = Builder::new().set(0x258, &0u64.to_le_bytes());
    assert_eq!(long(builder.load(None, 32 * MIB).0).0.rip, 2 * MIB + 0x200);
    // One that cannot move stays where it has to be.
    let fixed = Builder::new().set(0x234, &[0]).set(0x258, &odd.to_le_bytes());
    assert_eq!(long(fixed.load(None, 32 * MIB).0).0.rip, odd + 0x200);
    let low = Builder::new().set(0x234, &[0]).set(0x258, &0x1_0000u64.to_le_bytes());
    assert_eq!(low.error(), LoadError::Header("it has to run below 1 MiB"));
}

#[test]
fn init_size_decides_whether_a_kernel_fits() {
    let end = PREF_ADDRESS + u64::from(INIT_SIZE);
    assert!(Builder::new().load(None, end).0.is_ok());
    let error = Builder::new().load(None, end - 4096).0.unwrap_err();
    assert_eq!(error, LoadError::DoesNotFit { needed: end, have: end - 4096 });
    // A lie about it does not make the payload go beyond RAM.
    let liar = Builder::new().set(0x260, &0u32.to_le_bytes());
    let error = liar.load(None, PREF_ADDRESS + 0x800).0.unwrap_err();
    let needed = PREF_ADDRESS + PAYLOAD as u64;
    assert_eq!(error, LoadError::DoesNotFit { needed, have: PREF_ADDRESS + 0x800 });
}

#[test]
fn the_ram_disk_is_high_but_within_its_limits() {
    let initrd: Vec<u8> = (0..5000u32).map(|index| (index % 249) as u8).collect();
    let place = |builder: &Builder, ram: u64| {
        let (entry, memory) = builder.load(Some(&initrd), ram);
        entry.map(|_| {
            let start = u32_at(&memory, BOOT_PARAMS + 0x218);
            assert_eq!(u32_at(&memory, BOOT_PARAMS + 0x21C), 5000);
            assert_eq!(memory.0[start as usize..][..5000], initrd);
            u64::from(start)
        })
    };
    assert_eq!(place(&Builder::new(), 32 * MIB), Ok(32 * MIB - 8192));
    let limited = Builder::new().set(0x22C, &(24 * MIB as u32 - 1).to_le_bytes());
    assert_eq!(place(&limited, 32 * MIB), Ok(24 * MIB - 8192));
    // The only room is below the kernel.
    let end = PREF_ADDRESS + u64::from(INIT_SIZE);
    assert_eq!(place(&Builder::new(), end + 4096), Ok(PREF_ADDRESS - 8192));
    let limited = Builder::new().set(0x22C, &(MIB as u32).to_le_bytes());
    assert_eq!(place(&limited, 32 * MIB), Err(LoadError::InitrdDoesNotFit { size: 5000 }));
}

#[test]
fn guests_above_the_hole_keep_the_ram_disk_below_it() {
    let builder = Builder::new().set(0x22C, &u32::MAX.to_le_bytes());
    let image = Image { kernel: &builder.file, initrd: Some(&[1; 4096]), command_line: "" };
    assert!(load(Kind::BzImage, &image, RamLayout::new(8 << 30), &mut AnyMemory).is_ok());
}

#[test]
fn files_that_are_not_bzimages_are_refused() {
    let new = Builder::new;
    assert_eq!(new().set(0x202, b"hdrs").error(), LoadError::NotBzImage);
    assert_eq!(new().set(0x1FE, &[0]).error(), LoadError::NotBzImage);
    assert_eq!(new().set(0x206, &[0x0B, 0x02]).error(), LoadError::ProtocolTooOld(0x020B));
    assert_eq!(new().set(0x211, &[0]).error(), LoadError::NotLoadedHigh);
    let error = new().set(0x1F4, &[0x20, 0, 0, 0]).error();
    assert_eq!(error, LoadError::Header("its size leaves no room for code"));
    let error = new().set(0x230, &[3, 0, 0, 0]).error();
    assert_eq!(error, LoadError::Header("its alignment is not a power of two"));
    let error = new().set(0x258, &[0xFF; 8]).error();
    assert_eq!(error, LoadError::Header("its preferred address or size is out of range"));
    let error = new().set(0x238, &[4, 0, 0, 0]).error();
    assert_eq!(error, LoadError::CommandLineTooLong { len: 5, most: 4 });
}

#[test]
fn every_truncation_is_refused() {
    let whole = Builder::new().file;
    // The header counts in units of 16 bytes, of which the last need not be full.
    for len in 0..whole.len() - 15 {
        let image = Image { kernel: &whole[..len], initrd: None, command_line: "" };
        let error = load(Kind::BzImage, &image, RamLayout::new(32 * MIB), &mut AnyMemory);
        let expected = match len {
            0..0x206 => LoadError::NotBzImage,
            _ => match error {
                Err(LoadError::Truncated { needed, len: reported }) => {
                    assert!(needed > len as u64 && reported == len as u64);
                    continue;
                }
                _ => LoadError::Truncated { needed: whole.len() as u64, len: len as u64 },
            },
        };
        assert_eq!(error, Err(expected));
    }
}

#[test]
fn the_last_paragraph_need_not_be_full() {
    let mut builder = Builder::new();
    builder.file.truncate(builder.file.len() - 15);
    let (entry, memory) = builder.load(None, 32 * MIB);
    entry.unwrap();
    assert_eq!(memory.0[PREF_ADDRESS as usize + PAYLOAD - 15], 0xAA); // TestMemory's filling
}

#[test]
fn a_signature_behind_the_kernel_is_not_loaded() {
    let mut builder = Builder::new();
    builder.file.extend([0x77; 600]);
    let (entry, memory) = builder.load(None, 32 * MIB);
    entry.unwrap();
    assert_eq!(memory.0[PREF_ADDRESS as usize + PAYLOAD], 0xAA); // TestMemory's filling
}

proptest! {
    #[test]
    fn any_header_loads_or_fails_but_never_panics(
        changes in prop::collection::vec((0x1F1usize..0x268, any::<u8>()), 0..12),
        ram in 0u64..(6 << 30), initrd in 0usize..9000,
    ) {
        let mut builder = Builder::new();
        for (at, value) in changes {
            builder.file[at] = value;
        }
        let initrd = alloc::vec![0; initrd];
        let image = Image { kernel: &builder.file, initrd: Some(&initrd), command_line: "a" };
        let _ = load(Kind::BzImage, &image, RamLayout::new(ram), &mut AnyMemory);
    }
}
