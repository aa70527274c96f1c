//! Reading a bundle.

use crate::descriptor::{Blob, BlobIndex, Descriptor, Guest, Options};
use crate::error::{BundleError, ShortDigest};
use crate::header::{HEADER_LENGTH, Header, MAGIC, VERSION};
use crate::limits::{MAX_BLOBS, MAX_CLASSES, MAX_DESCRIPTOR, MAX_GUESTS, MAX_QUOTAS};
use crate::policy::Quota;
use alloc::string::String;
use bulkhead_operators::{MAX_OPERATORS, Operator};

/// Bytes hashed between two reports of progress.
const PROGRESS_STEP: usize = 1 << 20;

/// A bundle whose header and descriptor have been checked. Blobs come out of it only through their digests.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    descriptor: Descriptor,
}

/// Least bytes of what there can be several of in a descriptor: what is never left out.
const LEAST_OPERATOR: usize = 3;
const LEAST_QUOTA: usize = 4;
const LEAST_GUEST: usize = 16;
const LEAST_BLOB: usize = 8 + 8 + 32;
/// Bytes of memory for each byte that a descriptor has of texts and lists: a core's number is one byte at the least there,
/// four in memory.
const GROWTH: usize = 4;

/// Bytes of heap that [`Bundle::parse`] uses at the most, as the header tells before anything is parsed: for whoever has to
/// find the memory first. 0 where there is no header.
pub fn heap_to_parse(bytes: &[u8]) -> usize {
    let header = bytes.get(..HEADER_LENGTH).and_then(|bytes| postcard::from_bytes(bytes).ok());
    let Some(Header { magic: MAGIC, version: VERSION, descriptor_length, .. }) = header else {
        return 0;
    };
    let length = descriptor_length.min(MAX_DESCRIPTOR) as usize;
    // Each byte is of one thing: no more than the largest in memory for what it takes there.
    let dearest = [
        size_of::<Operator>().div_ceil(LEAST_OPERATOR),
        size_of::<Quota>().div_ceil(LEAST_QUOTA),
        size_of::<Guest>().div_ceil(LEAST_GUEST),
        size_of::<Blob>().div_ceil(LEAST_BLOB),
        // A class is a text, its length one byte at the least.
        size_of::<String>(),
    ];
    let dearest = dearest.into_iter().max().unwrap_or_default();
    // And there are no more of them than may be.
    let most = MAX_OPERATORS * size_of::<Operator>()
        + MAX_QUOTAS * size_of::<Quota>()
        + MAX_GUESTS * size_of::<Guest>()
        + MAX_BLOBS * size_of::<Blob>()
        + MAX_CLASSES * (size_of::<String>() + size_of::<u32>());
    (dearest * length).min(most) + GROWTH * length
}

impl<'a> Bundle<'a> {
    /// Reads header and descriptor, and checks them against every rule. Costs one digest of the descriptor; blobs are not
    /// touched. `bytes` may be longer than the bundle, as ramdisks come in whole sectors or pages.
    ///
    /// # Errors
    /// The first thing that is wrong. No input makes this panic, nor allocate more than in proportion to the descriptor.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LENGTH>()
            .ok_or(BundleError::NoHeader { present: bytes.len() })?;
        let header: Header =
            postcard::from_bytes(header).map_err(BundleError::DescriptorEncoding)?;
        if header.magic != MAGIC {
            return Err(BundleError::Magic { found: header.magic });
        }
        if header.version != VERSION {
            return Err(BundleError::Version { found: header.version });
        }
        let total = header.total_length;
        let bytes = usize::try_from(total)
            .ok()
            .and_then(|length| bytes.get(..length))
            .ok_or(BundleError::Truncated { present: bytes.len() as u64, total })?;

        let start = HEADER_LENGTH as u64 + u64::from(header.descriptor_length);
        let encoded = usize::try_from(header.descriptor_length)
            .ok()
            .filter(|_| start <= total && header.descriptor_length <= MAX_DESCRIPTOR)
            .and_then(|length| rest.get(..length))
            .ok_or(BundleError::DescriptorLength { length: header.descriptor_length, total })?;
        let found: [u8; 32] = blake3::hash(encoded).into();
        if found != header.descriptor_digest {
            return Err(BundleError::DescriptorAltered {
                found: ShortDigest::from(&found),
                expected: ShortDigest::from(&header.descriptor_digest),
            });
        }
        let (descriptor, trailing): (Descriptor, _) =
            postcard::take_from_bytes(encoded).map_err(BundleError::DescriptorEncoding)?;
        if !trailing.is_empty() {
            return Err(BundleError::DescriptorTrailing(trailing.len()));
        }
        bulkhead_operators::check(&descriptor.operators)?;
        descriptor.check_guests()?;
        descriptor.check_blobs(start, total)?;
        Ok(Self { bytes, descriptor })
    }

    /// What the bundle says about itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// What holds for the whole machine.
    pub fn options(&self) -> &Options {
        &self.descriptor.options
    }

    /// Who may sign in.
    pub fn operators(&self) -> &[Operator] {
        &self.descriptor.operators
    }

    /// The guests, in the order in which they start.
    pub fn guests(&self) -> &[Guest] {
        &self.descriptor.guests
    }

    /// Length of the bundle in bytes, without what the ramdisk holds behind it.
    pub fn total_length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Name, place and digest of a blob.
    ///
    /// # Errors
    /// [`BundleError::NoSuchBlob`] for an index that is not from this bundle.
    pub fn blob(&self, index: BlobIndex) -> Result<&Blob, BundleError> {
        let blobs = &self.descriptor.blobs;
        usize::try_from(index.0)
            .ok()
            .and_then(|i| blobs.get(i))
            .ok_or(BundleError::NoSuchBlob { index, blobs: blobs.len() })
    }

    /// The bytes of a blob, once their digest is what the descriptor says.
    ///
    /// # Errors
    /// [`BundleError::BlobAltered`], or [`BundleError::NoSuchBlob`] for an index that is not from this bundle.
    pub fn verify_blob(&self, index: BlobIndex) -> Result<&'a [u8], BundleError> {
        self.verify_blob_with(index, |_| ())
    }

    /// As [`verify_blob`](Self::verify_blob), calling `progress` with the bytes hashed so far, at least once and after
    /// every MiB: hashing takes seconds in an emulator.
    ///
    /// # Errors
    /// The same.
    pub fn verify_blob_with(
        &self,
        index: BlobIndex,
        mut progress: impl FnMut(u64),
    ) -> Result<&'a [u8], BundleError> {
        let blob = self.blob(index)?;
        let out_of_range = || BundleError::BlobOutOfRange {
            index,
            name: blob.name.clone(),
            offset: blob.offset,
            length: blob.length,
            total: self.total_length(),
        };
        // `parse` has checked the range; asking again costs nothing and leaves no way to panic.
        let start = usize::try_from(blob.offset).map_err(|_| out_of_range())?;
        let length = usize::try_from(blob.length).map_err(|_| out_of_range())?;
        let bytes =
            self.bytes.get(start..).and_then(|rest| rest.get(..length)).ok_or_else(out_of_range)?;

        let mut hash = blake3::Hasher::new();
        let mut done = 0;
        for piece in bytes.chunks(PROGRESS_STEP) {
            hash.update(piece);
            done += piece.len() as u64;
            progress(done);
        }
        let found: [u8; 32] = hash.finalize().into();
        if found != blob.digest {
            return Err(BundleError::BlobAltered {
                index,
                name: blob.name.clone(),
                found: ShortDigest::from(&found),
                expected: ShortDigest::from(&blob.digest),
            });
        }
        Ok(bytes)
    }
}
