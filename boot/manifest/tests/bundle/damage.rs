//! No damage makes reading a bundle panic, and none goes unnoticed where it matters: every truncation, every change of a
//! byte, changes under a digest that was made to agree, and noise.

use crate::common::*;
use bulkhead_manifest::{Bundle, BundleError};

/// Every change that one byte can suffer, or a selection of them that still sets and clears each bit.
fn other_values(byte: u8) -> impl Iterator<Item = u8> {
    (0..8).map(move |bit| byte ^ 1 << bit).chain([
        0x00,
        0x7F,
        0x80,
        0xFF,
        byte.wrapping_add(1),
        byte.wrapping_sub(1),
    ])
}

/// A fixed stream of bytes that look random (splitmix64), so that a failure comes again.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn every_truncation_is_named() {
    let good = small();
    for length in 0..good.len() {
        match Bundle::parse(&good[..length]) {
            Err(BundleError::NoHeader { present }) if length < HEADER => {
                assert_eq!(present, length)
            }
            Err(BundleError::Truncated { present, total }) => {
                assert_eq!((present, total), (length as u64, good.len() as u64));
            }
            other => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn every_changed_byte_is_noticed_unless_it_is_padding() {
    let good = small();
    let content = read_all(&good).expect("a good bundle");
    let end_of_descriptor = {
        let bundle = Bundle::parse(&good).unwrap();
        HEADER + postcard::to_allocvec(bundle.descriptor()).unwrap().len()
    };
    let mut bytes = good.clone();
    for at in 0..good.len() {
        let in_blob = (4096..4096 + 8).contains(&at) || at >= 8192;
        for value in other_values(good[at]).filter(|&value| value != good[at]) {
            bytes[at] = value;
            match read_all(&bytes) {
                Err(BundleError::BlobAltered { .. }) => assert!(in_blob, "byte {at:#x}"),
                Err(_) => assert!(at < end_of_descriptor, "byte {at:#x}"),
                Ok(read) => {
                    assert!(
                        at >= end_of_descriptor && !in_blob,
                        "byte {at:#x} = {value:#x} went unnoticed"
                    );
                    assert_eq!(read, content);
                }
            }
            // What follows the bundle on the ramdisk must not hide a change either.
            if at < HEADER {
                let mut padded = bytes.clone();
                padded.resize(3 * 4096, 0);
                assert!(
                    read_all(&padded).is_err(),
                    "byte {at:#x} = {value:#x} went unnoticed in a longer ramdisk"
                );
            }
        }
        bytes[at] = good[at];
    }
}

#[test]
fn no_descriptor_under_a_good_digest_makes_reading_panic() {
    let good = small();
    let mut length = 0;
    with_descriptor_bytes(&good, |encoded| length = encoded.len());
    let mut accepted = 0;
    for at in 0..length {
        for value in 0..=255 {
            accepted += usize::from(
                read_all(&with_descriptor_bytes(&good, |encoded| encoded[at] = value)).is_ok(),
            );
        }
        assert!(read_all(&with_descriptor_bytes(&good, |encoded| encoded.truncate(at))).is_err());
        let _ = read_all(&with_descriptor_bytes(&good, |encoded| encoded.insert(at, 0xFF)));
    }
    // Another letter in a name or a command line, for instance: the tests do reach past the digest.
    assert!(accepted > length);
}

#[test]
fn noise_is_no_bundle() {
    let good = small();
    let mut noise = Noise(1);
    for round in 0..20_000 {
        let count = noise.next() as usize % 200;
        assert!(Bundle::parse(&noise.bytes(count)).is_err());
        // Behind a good header's first fields, and as a descriptor under a good digest.
        let mut bytes = good[..12].to_vec();
        bytes.extend(noise.bytes(count));
        assert!(Bundle::parse(&bytes).is_err());
        let descriptor = noise.bytes(count);
        assert!(
            read_all(&with_descriptor_bytes(&good, |encoded| *encoded = descriptor)).is_err(),
            "round {round}"
        );
    }
}

#[test]
fn several_changes_at_once() {
    let good = small();
    let mut noise = Noise(2);
    for _ in 0..50_000 {
        let _ = read_all(&with_descriptor_bytes(&good, |encoded| {
            for _ in 0..1 + noise.next() % 6 {
                let at = noise.next() as usize % encoded.len();
                encoded[at] = noise.next() as u8;
            }
        }));
    }
}
