//! Round trip, and for each thing that can be wrong with a bundle its exact message.

use crate::common::*;
use bulkhead_manifest::{
    Blob, BlobIndex, Bundle, BundleError, Cores, Descriptor, Expiry, Guest, KernelKind, OnExpiry,
    Operator, Options, Policy, Quota, Restart, Role, Tenure, Writer,
};

fn message(bytes: &[u8]) -> String {
    read_all(bytes).expect_err("a bad bundle").to_string()
}

/// The message for the small bundle with its descriptor changed.
fn edited(edit: impl FnOnce(&mut Descriptor)) -> String {
    message(&with_descriptor(&small(), edit))
}

#[test]
fn what_is_written_is_read() {
    let bytes = small();
    assert_eq!(bytes.len(), 2 * 4096 + 3);
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(*bundle.options(), Options { framebuffer_log: true });
    assert_eq!(bundle.total_length(), bytes.len() as u64);
    let [linux, probe] = bundle.guests() else { panic!("two guests") };
    assert_eq!(*linux, guest("linux", BlobIndex(0), Some(BlobIndex(1))));
    assert_eq!(
        (probe.kind, probe.restart, probe.tenure.expires),
        (KernelKind::Elf64, Restart::OnReset, Expiry::Never)
    );
    assert_eq!((linux.cores.count(), probe.cores.numbers()), (1, [3, 2].as_slice()));
    assert_eq!(bundle.verify_blob(linux.kernel).unwrap(), b"a kernel");
    assert_eq!(bundle.verify_blob(BlobIndex(1)).unwrap(), b"rd!");
    assert_eq!(bundle.blob(BlobIndex(1)).unwrap().offset, 8192);
}

#[test]
fn a_ramdisk_may_be_longer_than_its_bundle() {
    let mut bytes = small();
    let total = bytes.len() as u64;
    bytes.resize(20_000, 0xAA);
    assert_eq!(Bundle::parse(&bytes).unwrap().total_length(), total);
    assert_eq!(read_all(&bytes).unwrap(), read_all(&small()).unwrap());
}

#[test]
fn the_same_content_is_stored_once() {
    let mut writer = Writer::new(Options::default());
    let first = writer.add_blob("one", vec![7; 100]);
    assert_eq!(writer.add_blob("two", vec![7; 100]), first);
    assert_ne!(writer.add_blob("three", vec![7; 101]), first);
}

#[test]
fn progress_is_told_after_every_mebibyte() {
    let mut writer = Writer::new(Options::default());
    let kernel = writer.add_blob("big", vec![1; (2 << 20) + 5]);
    writer.add_guest(guest("linux", kernel, None));
    let bytes = writer.finish().unwrap();
    let mut steps = Vec::new();
    Bundle::parse(&bytes).unwrap().verify_blob_with(kernel, |done| steps.push(done)).unwrap();
    assert_eq!(steps, [1 << 20, 2 << 20, (2 << 20) + 5]);
}

#[test]
fn truncated() {
    assert_eq!(
        message(&small()[..10]),
        "bundle is truncated: 10 bytes are there, the header alone has 56; write the image again"
    );
    assert_eq!(
        message(&small()[..5000]),
        "bundle is truncated: 5000 bytes are there, 8195 should be; write the image again"
    );
}

#[test]
fn altered() {
    let mut bytes = small();
    bytes[60] ^= 1;
    let text = message(&bytes);
    assert!(text.starts_with("bundle descriptor is altered: its BLAKE3 begins "), "{text}");

    let mut bytes = small();
    bytes[8193] ^= 1;
    // As printed by `printf 'rd!' | b3sum`, and the same of `re!`.
    assert_eq!(
        message(&bytes),
        "blob 1 (\"initramfs\") is altered: its BLAKE3 begins 230338f1a9fbf032, b0b06af669532d0c was recorded; \
         write the image again"
    );
}

#[test]
fn not_a_bundle() {
    assert_eq!(
        message(&[0; 100]),
        "not a bundle: it starts with \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\" where \"BULKHEAD\" should be; \
         write the image again"
    );
    let mut bytes = small();
    bytes[8] = 9;
    assert_eq!(
        message(&bytes),
        "bundle has format version 9, this hypervisor reads version 5; pack it with the same release"
    );
}

#[test]
fn damaged_header() {
    let mut bytes = small();
    bytes[DESCRIPTOR_LENGTH].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        message(&bytes),
        "bundle header is damaged: a descriptor of 4294967295 bytes in a bundle of 8195; \
         it fits behind the header and has at most 1048576 bytes"
    );
    let mut bytes = small();
    bytes[TOTAL_LENGTH].copy_from_slice(&8196_u64.to_le_bytes());
    bytes.push(0);
    assert_eq!(
        message(&bytes),
        "bundle header is damaged: a total length of 8196 bytes, but the last blob ends at 8195"
    );
    let bytes = with_descriptor_bytes(&small(), |encoded| encoded.extend([1, 2, 3]));
    assert_eq!(
        message(&bytes),
        "bundle descriptor has 3 bytes behind its end; pack it with the same release"
    );
}

#[test]
fn blobs_out_of_place() {
    let blob = |edit: fn(&mut Blob)| edited(|d| edit(&mut d.blobs[1]));
    assert_eq!(
        blob(|b| b.offset = 8200),
        "blob 1 (\"initramfs\") is at offset 0x2008, which is not a multiple of 4096"
    );
    assert_eq!(
        blob(|b| b.offset = 4096),
        "blob 1 (\"initramfs\") is at offset 0x1000, before the end of what precedes it at 0x1008"
    );
    let beyond =
        "blob 1 (\"initramfs\") has 4 bytes at offset 0x2000, but the bundle ends at 0x2003";
    assert_eq!(blob(|b| b.length = 4), beyond);
    assert!(blob(|b| b.length = u64::MAX).contains("has 18446744073709551615 bytes"));
    assert!(blob(|b| b.offset = u64::MAX - 4095).contains("but the bundle ends at 0x2003"));
    assert_eq!(
        blob(|b| b.length = 0),
        "blob 1 (\"initramfs\") is empty; a kernel or initramfs has at least one byte"
    );
    assert_eq!(
        blob(|b| b.name = "\x1b[2J".into()),
        "blob 1: its name \"\\u{1b}[2J\" must be 1 to 255 bytes without control characters"
    );
    assert!(
        edited(|d| d.blobs[0].offset = 0)
            .contains("is at offset 0x0, before the end of what precedes it")
    );
}

#[test]
fn guests_against_the_rules() {
    let guest = |edit: fn(&mut Guest)| edited(|d| edit(&mut d.guests[1]));
    for (text, expected) in [
        (
            guest(|g| g.name = "Pro be".into()),
            "guest 1 (\"Pro be\"): a name must be 1 to 31 characters from a-z, 0-9 and '-', the first not '-'",
        ),
        (
            guest(|g| g.name = "linux".into()),
            "guest 1 (\"linux\"): another guest has this name; names are unique",
        ),
        (
            guest(|g| g.cores = Cores::Count(64)),
            "guest 1 (\"probe\"): cores = 64, must be a number of cores, 1 to 63, \
             or a list of core numbers, 1 to 63, each once",
        ),
        (
            guest(|g| g.cores = Cores::Numbers(vec![2, 0])),
            "guest 1 (\"probe\"): cores = [2, 0], must be a number of cores, 1 to 63, \
             or a list of core numbers, 1 to 63, each once",
        ),
        (
            guest(|g| g.memory = 3 << 20),
            "guest 1 (\"probe\"): memory = 3145728 bytes, must be a multiple of 2 MiB from 4 MiB to 512 GiB",
        ),
        (
            guest(|g| g.command_line = "x".repeat(2048)),
            "guest 1 (\"probe\"): its command line of 2048 bytes must be at most 2047 bytes, none of them NUL",
        ),
        (
            guest(|g| g.tenure.owner = String::new()),
            "guest 1 (\"probe\"): its owner must be 1 to 63 bytes without control characters",
        ),
        (
            guest(|g| g.tenure.purpose = "x".repeat(128)),
            "guest 1 (\"probe\"): its purpose must be 1 to 127 bytes without control characters",
        ),
        (
            guest(|g| g.tenure.classification = "Top secret".into()),
            "guest 1 (\"probe\"): its classification must be 1 to 31 characters from a-z, 0-9 and '-', the first not '-'",
        ),
        (
            guest(|g| g.kernel = BlobIndex(2)),
            "guest 1 (\"probe\"): its kernel is blob 2, but there are 2 blobs, counted from 0",
        ),
        (
            guest(|g| g.initrd = Some(BlobIndex(u32::MAX))),
            "guest 1 (\"probe\"): its initrd is blob 4294967295, but there are 2 blobs, counted from 0",
        ),
    ] {
        assert_eq!(text, expected);
    }
    assert_eq!(
        edited(|d| d.guests[0].cores = Cores::Numbers(vec![1, 2])),
        "guest 1 (\"probe\"): core 2 is named by guest \"linux\" too; a core belongs to one guest"
    );
    assert_eq!(
        edited(|d| {
            d.policy =
                Some(Policy { classes: vec!["public".into(), "secret".into()], together: vec![] });
            d.guests[1].tenure.classification = "secret".into();
        }),
        "guests \"linux\" (public) and \"probe\" (secret) may not be on one machine: policy: no set of together has both \"public\" and \"secret\""
    );
    let quota = Quota { owner: "web team".into(), cores: Some(2), memory: None, guests: None };
    assert_eq!(
        edited(|d| d.quotas.push(quota)),
        "guest \"probe\" is too much for its owner \"web team\": 3 cores would be in use, and the quota is 2 cores"
    );
    assert_eq!(
        edited(|d| d.operators.push(Operator {
            name: "A".into(),
            role: Role::Viewer,
            hash: "x".into()
        })),
        "operator \"A\": a name must be 1 to 31 characters from a-z, 0-9, '-' and '.', the first a letter; `cargo xtask passwd` makes operators"
    );
    assert_eq!(
        edited(|d| d.guests.clear()),
        "bundle has no guest; a manifest needs at least one [[guest]]"
    );
    assert_eq!(
        edited(|d| d.guests = vec![d.guests[0].clone(); 255]),
        "bundle has 255 guests, at most 254 are allowed"
    );
    assert_eq!(
        edited(|d| d.blobs = vec![d.blobs[0].clone(); 509]),
        "bundle has 509 blobs, at most 508 are allowed"
    );
}

#[test]
fn an_index_of_another_bundle() {
    let bytes = small();
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(
        bundle.verify_blob(BlobIndex(7)).unwrap_err().to_string(),
        "there is no blob 7; this bundle has 2"
    );
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    assert_eq!(Writer::new(Options::default()).finish(), Err(BundleError::NoGuests));
    let mut writer = Writer::new(Options::default());
    let kernel = writer.add_blob("empty", Vec::new());
    writer.add_guest(guest("linux", kernel, None));
    assert!(matches!(writer.finish(), Err(BundleError::BlobEmpty { .. })));
}

/// As many guests as there may be, each with the longest strings, still make a descriptor of allowed length.
#[test]
fn the_largest_descriptor() {
    let mut writer = Writer::new(Options::default());
    for i in 0..254_u32 {
        let kernel = writer.add_blob("k".repeat(255), i.to_le_bytes().to_vec());
        let initrd = writer.add_blob("i".repeat(255), (i + 1000).to_le_bytes().to_vec());
        let quota = Quota {
            owner: format!("{i:063}"),
            cores: Some(u32::MAX),
            memory: Some(u64::MAX),
            guests: Some(u32::MAX),
        };
        writer.add_quota(quota);
        writer.add_guest(Guest {
            tenure: Tenure {
                owner: "o".repeat(63),
                purpose: "p".repeat(127),
                classification: "c".repeat(31),
                expires: "9999-12-31".parse().map(Expiry::After).unwrap(),
                on_expiry: OnExpiry::Stop,
            },
            command_line: "c".repeat(2047),
            cores: if i == 0 { Cores::Numbers((1..=63).collect()) } else { Cores::Count(63) },
            ..guest(&format!("{i:031}"), kernel, Some(initrd))
        });
    }
    assert_eq!(read_all(&writer.finish().unwrap()).unwrap().len(), 508);
}
