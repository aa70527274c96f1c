//! The bundle format that the packer writes and the hypervisor reads.
//!
//! A bundle is one contiguous piece of bytes that the boot loader hands over as a ramdisk:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, [`MAGIC`] |
//! | 8 | 4 | format version, [`VERSION`] |
//! | 12 | 4 | length of the descriptor in bytes |
//! | 16 | 8 | total length of the bundle in bytes |
//! | 24 | 32 | BLAKE3 of the descriptor's bytes |
//! | 56 | | the [`Descriptor`], encoded with `postcard` |
//! | multiples of 4096 | | the blobs: kernels and initramfs images |
//!
//! Integers are little-endian. The descriptor's own digest and the digest of each blob in it detect damage; they are no
//! signature, and say nothing about who wrote the bundle.
//!
//! [`Bundle::parse`] makes no assumption about its input: whatever the bytes are, the answer is a bundle that keeps every
//! rule in [`limits`], or a [`BundleError`] that says in one line what is wrong and what would be right. [`Writer`] is the
//! other side; it refuses to write what `parse` would refuse to read.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bundle;
mod check;
mod descriptor;
mod error;
mod fits;
mod header;
pub mod limits;
pub mod policy;
mod size;
mod tenure;
mod writer;

pub use bulkhead_operators::{Operator, Role};
pub use bundle::{Bundle, heap_to_parse};
pub use descriptor::{
    Blob, BlobIndex, Cores, Descriptor, Guest, KernelKind, Options, Restart, Start, Suspicion,
};
pub use error::{BundleError, GuestFault, ShortDigest};
pub use fits::{DoesNotFit, Requirements};
pub use header::{HEADER_LENGTH, MAGIC, VERSION};
pub use policy::{Policy, PolicyFault, Quota, Subject};
pub use size::{MEMORY_EXAMPLES, Size, parse_memory};
pub use tenure::{Date, Expiry, NoDate, OnExpiry, Tenure};
pub use writer::Writer;

/// The BLAKE3 of some bytes, as of a blob's.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}
