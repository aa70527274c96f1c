//! Writing a bundle.

use crate::descriptor::{Blob, BlobIndex, Descriptor, Guest, Options};
use crate::error::BundleError;
use crate::header::{HEADER_LENGTH, Header, MAGIC, VERSION};
use crate::limits::{BLOB_ALIGNMENT, MAX_DESCRIPTOR};
use crate::policy::{Policy, Quota};
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_operators::Operator;

/// Collects guests and blobs, and lays them out as a bundle. The same calls give the same bytes.
#[derive(Clone, Debug)]
pub struct Writer {
    descriptor: Descriptor,
    // In step with `descriptor.blobs`, whose offsets are known only at the end.
    contents: Vec<Vec<u8>>,
}

impl Writer {
    /// A bundle without guests or blobs.
    pub fn new(options: Options) -> Self {
        Self {
            descriptor: Descriptor {
                options,
                operators: Vec::new(),
                policy: None,
                quotas: Vec::new(),
                guests: Vec::new(),
                blobs: Vec::new(),
            },
            contents: Vec::new(),
        }
    }

    /// Adds a blob, or finds the one with the same content, which then keeps its first name.
    pub fn add_blob(&mut self, name: impl Into<String>, content: Vec<u8>) -> BlobIndex {
        let digest: [u8; 32] = blake3::hash(&content).into();
        let blobs = &mut self.descriptor.blobs;
        let position = blobs.iter().position(|blob| blob.digest == digest).unwrap_or_else(|| {
            blobs.push(Blob { name: name.into(), offset: 0, length: content.len() as u64, digest });
            self.contents.push(content);
            blobs.len() - 1
        });
        // More blobs than a `u32` counts do not fit in memory; an index past the end is refused by `finish`.
        BlobIndex(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Adds somebody who may sign in.
    pub fn add_operator(&mut self, operator: Operator) {
        self.descriptor.operators.push(operator);
    }

    /// Says which guests may be together.
    pub fn set_policy(&mut self, policy: Policy) {
        self.descriptor.policy = Some(policy);
    }

    /// Limits what an owner may have.
    pub fn add_quota(&mut self, quota: Quota) {
        self.descriptor.quotas.push(quota);
    }

    /// Adds a guest, whose blobs are to come from [`add_blob`](Self::add_blob) of this writer.
    pub fn add_guest(&mut self, guest: Guest) {
        self.descriptor.guests.push(guest);
    }

    /// The bundle's bytes.
    ///
    /// # Errors
    /// Whatever [`Bundle::parse`](crate::Bundle::parse) would say of the result.
    pub fn finish(self) -> Result<Vec<u8>, BundleError> {
        let Self { mut descriptor, contents } = self;
        bulkhead_operators::check(&descriptor.operators)?;
        descriptor.check_guests()?;
        // Offsets have a fixed width, so that the length is final before they are.
        let length = encode(&descriptor)?.len();
        let descriptor_length = u32::try_from(length)
            .ok()
            .filter(|&length| length <= MAX_DESCRIPTOR)
            .ok_or(BundleError::DescriptorTooLong(length))?;
        let start = (HEADER_LENGTH + length) as u64;
        let mut total_length = start;
        for blob in &mut descriptor.blobs {
            blob.offset = total_length.next_multiple_of(BLOB_ALIGNMENT);
            total_length = blob.offset + blob.length;
        }
        descriptor.check_blobs(start, total_length)?;

        let encoded = encode(&descriptor)?;
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            descriptor_length,
            total_length,
            descriptor_digest: blake3::hash(&encoded).into(),
        };
        let mut bytes = encode(&header)?;
        bytes.reserve_exact((total_length as usize).saturating_sub(bytes.len()));
        bytes.extend_from_slice(&encoded);
        for (blob, content) in descriptor.blobs.iter().zip(&contents) {
            bytes.resize(blob.offset as usize, 0);
            bytes.extend_from_slice(content);
        }
        Ok(bytes)
    }
}

fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, BundleError> {
    postcard::to_allocvec(value).map_err(BundleError::DescriptorEncoding)
}
