//! What can be wrong with a bundle, each in one line that says what would be right.

use crate::descriptor::{BlobIndex, Cores};
use crate::header::{HEADER_LENGTH, VERSION};
use crate::limits::{BLOB_ALIGNMENT, MAX_BLOBS, MAX_DESCRIPTOR, MAX_GUESTS};
use crate::limits::{
    BLOB_NAME_RULE, CLASS_RULE, COMMAND_LINE_RULE, CORES_RULE, MEMORY_RULE, NAME_RULE, OWNER_RULE,
    PURPOSE_RULE,
};
use crate::policy::PolicyFault;
use alloc::string::String;
use core::fmt;
use thiserror::Error;

/// Why bytes are not a bundle, or why a blob of a bundle must not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Fewer bytes than a header has.
    #[error(
        "bundle is truncated: {present} bytes are there, the header alone has {HEADER_LENGTH}; write the image again"
    )]
    NoHeader {
        /// Bytes that are there.
        present: usize,
    },
    /// The bytes do not start with [`MAGIC`](crate::MAGIC).
    #[error("not a bundle: it starts with \"{}\" where \"BULKHEAD\" should be; write the image again", found.escape_ascii())]
    Magic {
        /// The bytes in the magic's place.
        found: [u8; 8],
    },
    /// Written for another version of the format.
    #[error(
        "bundle has format version {found}, this hypervisor reads version {VERSION}; pack it with the same release"
    )]
    Version {
        /// The version in the header.
        found: u32,
    },
    /// Fewer bytes are there than the header announces.
    #[error(
        "bundle is truncated: {present} bytes are there, {total} should be; write the image again"
    )]
    Truncated {
        /// Bytes that are there.
        present: u64,
        /// Bytes that the header announces.
        total: u64,
    },
    /// The descriptor is longer than the bundle or than [`crate::limits::MAX_DESCRIPTOR`].
    #[error(
        "bundle header is damaged: a descriptor of {length} bytes in a bundle of {total}; \
         it fits behind the header and has at most {MAX_DESCRIPTOR} bytes"
    )]
    DescriptorLength {
        /// The descriptor's length according to the header.
        length: u32,
        /// The bundle's length according to the header.
        total: u64,
    },
    /// The descriptor's bytes are not those that were written.
    #[error(
        "bundle descriptor is altered: its BLAKE3 begins {found}, {expected} was recorded; write the image again"
    )]
    DescriptorAltered {
        /// Digest of the bytes that are there.
        found: ShortDigest,
        /// Digest in the header.
        expected: ShortDigest,
    },
    /// The descriptor has the right digest but is not an encoding of one.
    #[error("bundle descriptor cannot be decoded: {0}; pack it with the same release")]
    DescriptorEncoding(postcard::Error),
    /// Bytes follow the descriptor's encoding.
    #[error("bundle descriptor has {0} bytes behind its end; pack it with the same release")]
    DescriptorTrailing(usize),
    /// The descriptor cannot be encoded.
    #[error(
        "bundle descriptor would have {0} bytes, at most {MAX_DESCRIPTOR} are allowed; shorten command lines"
    )]
    DescriptorTooLong(usize),
    /// The operators break a rule.
    #[error("{0}; `cargo xtask passwd` makes operators")]
    Operators(#[from] bulkhead_operators::Fault),
    /// The guests may not be on one machine.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
    /// No guest at all.
    #[error("bundle has no guest; a manifest needs at least one [[guest]]")]
    NoGuests,
    /// More than [`crate::limits::MAX_GUESTS`].
    #[error("bundle has {0} guests, at most {MAX_GUESTS} are allowed")]
    TooManyGuests(usize),
    /// More than [`crate::limits::MAX_BLOBS`].
    #[error("bundle has {0} blobs, at most {MAX_BLOBS} are allowed")]
    TooManyBlobs(usize),
    /// A guest breaks a rule.
    #[error("guest {index} (\"{}\"): {fault}", guest.escape_debug())]
    Guest {
        /// Position in the descriptor, from 0.
        index: usize,
        /// Its name, as far as it has one.
        guest: String,
        /// The rule.
        fault: GuestFault,
    },
    /// A blob's name is empty, too long, or would drive a terminal.
    #[error("blob {index}: its name \"{}\" must be {BLOB_NAME_RULE}", name.escape_debug())]
    BlobName {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
    },
    /// A blob without content.
    #[error("blob {index} (\"{name}\") is empty; a kernel or initramfs has at least one byte")]
    BlobEmpty {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
    },
    /// A blob at an offset that is not a multiple of 4096.
    #[error(
        "blob {index} (\"{name}\") is at offset {offset:#x}, which is not a multiple of {BLOB_ALIGNMENT}"
    )]
    BlobMisaligned {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
        /// Bytes from the start of the bundle.
        offset: u64,
    },
    /// A blob that starts before the end of what comes before it.
    #[error(
        "blob {index} (\"{name}\") is at offset {offset:#x}, before the end of what precedes it at {previous_end:#x}"
    )]
    BlobOverlap {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
        /// Bytes from the start of the bundle.
        offset: u64,
        /// End of the descriptor or of the blob before.
        previous_end: u64,
    },
    /// A blob that ends behind the bundle's end.
    #[error(
        "blob {index} (\"{name}\") has {length} bytes at offset {offset:#x}, but the bundle ends at {total:#x}"
    )]
    BlobOutOfRange {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
        /// Bytes from the start of the bundle.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// The bundle's length in bytes.
        total: u64,
    },
    /// The header's total is not where the last blob ends.
    #[error(
        "bundle header is damaged: a total length of {total} bytes, but the last blob ends at {end}"
    )]
    TotalLength {
        /// The bundle's length according to the header.
        total: u64,
        /// End of the last blob.
        end: u64,
    },
    /// An index that is not from this bundle.
    #[error("there is no blob {index}; this bundle has {blobs}")]
    NoSuchBlob {
        /// The index asked for.
        index: BlobIndex,
        /// How many blobs there are.
        blobs: usize,
    },
    /// A blob's bytes are not those that were packed.
    #[error(
        "blob {index} (\"{name}\") is altered: its BLAKE3 begins {found}, {expected} was recorded; write the image again"
    )]
    BlobAltered {
        /// Which blob.
        index: BlobIndex,
        /// Its name.
        name: String,
        /// Digest of the bytes that are there.
        found: ShortDigest,
        /// Digest in the descriptor.
        expected: ShortDigest,
    },
}

/// Which rule a guest of a bundle breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GuestFault {
    /// See [`crate::limits::is_name`].
    #[error("a name must be {NAME_RULE}")]
    Name,
    /// Two guests of one name.
    #[error("another guest has this name; names are unique")]
    DuplicateName,
    /// See [`crate::limits::is_cores`].
    #[error(
        "cores = {0}, must be a number of cores, {CORES_RULE}, or a list of core numbers, {CORES_RULE}, each once"
    )]
    Cores(Cores),
    /// A core that an earlier guest names, too.
    #[error("core {core} is named by guest \"{other}\" too; a core belongs to one guest")]
    CoreTaken {
        /// The core's number.
        core: u32,
        /// The name of the guest that names it first.
        other: String,
    },
    /// See [`crate::limits::is_memory`].
    #[error("memory = {0} bytes, must be {MEMORY_RULE}")]
    Memory(u64),
    /// See [`crate::limits::is_command_line`].
    #[error("its command line of {0} bytes must be {COMMAND_LINE_RULE}")]
    CommandLine(usize),
    /// See [`crate::limits::is_owner`].
    #[error("its owner must be {OWNER_RULE}")]
    Owner,
    /// See [`crate::limits::is_purpose`].
    #[error("its purpose must be {PURPOSE_RULE}")]
    Purpose,
    /// See [`crate::limits::is_class`].
    #[error("its classification must be {CLASS_RULE}")]
    Classification,
    /// See [`Date`](crate::Date).
    #[error("its expiry is no day")]
    Expiry,
    /// The kernel's index is not that of a blob.
    #[error("its kernel is blob {index}, but there are {blobs} blobs, counted from 0")]
    Kernel {
        /// The index.
        index: BlobIndex,
        /// How many blobs there are.
        blobs: usize,
    },
    /// The initramfs's index is not that of a blob.
    #[error("its initrd is blob {index}, but there are {blobs} blobs, counted from 0")]
    Initrd {
        /// The index.
        index: BlobIndex,
        /// How many blobs there are.
        blobs: usize,
    },
}

/// The first eight bytes of a BLAKE3, enough to compare with what `b3sum` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortDigest(pub u64);

impl From<&[u8; 32]> for ShortDigest {
    fn from(digest: &[u8; 32]) -> Self {
        Self(digest.iter().take(8).fold(0, |all, &byte| all << 8 | u64::from(byte)))
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
