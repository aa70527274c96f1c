//! Whether a descriptor keeps the rules, so that nobody after this has to ask again.

use crate::descriptor::{BlobIndex, Descriptor, Guest};
use crate::error::{BundleError, GuestFault};
use crate::limits::{self, BLOB_ALIGNMENT, MAX_BLOBS, MAX_GUESTS};
use crate::policy;
use crate::tenure::{Expiry, Tenure};
use alloc::collections::{BTreeMap, BTreeSet};

impl Descriptor {
    /// Everything that can be said without the bundle around it: counts, each guest, unique names, one owner for each core
    /// that is named, indices.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check_guests(&self) -> Result<(), BundleError> {
        if self.guests.is_empty() {
            return Err(BundleError::NoGuests);
        }
        if self.guests.len() > MAX_GUESTS {
            return Err(BundleError::TooManyGuests(self.guests.len()));
        }
        if self.blobs.len() > MAX_BLOBS {
            return Err(BundleError::TooManyBlobs(self.blobs.len()));
        }
        let mut names = BTreeSet::new();
        let mut owners = BTreeMap::new();
        for (index, guest) in self.guests.iter().enumerate() {
            check_guest(guest, self.blobs.len())
                .and_then(|()| {
                    if names.insert(&guest.name) { Ok(()) } else { Err(GuestFault::DuplicateName) }
                })
                .and_then(|()| {
                    for &core in guest.cores.numbers() {
                        if let Some(other) = owners.insert(core, &guest.name) {
                            return Err(GuestFault::CoreTaken { core, other: other.clone() });
                        }
                    }
                    Ok(())
                })
                .map_err(|fault| BundleError::Guest { index, guest: guest.name.clone(), fault })?;
        }
        let subjects = self.guests.iter().map(Guest::subject);
        Ok(policy::check(self.policy.as_ref(), &self.quotas, subjects)?)
    }

    /// Every blob: named, not empty, aligned, behind `start`, in order without overlap, the last one ending at `total`.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check_blobs(&self, start: u64, total: u64) -> Result<(), BundleError> {
        let mut previous_end = start;
        for (index, blob) in (0..).map(BlobIndex).zip(&self.blobs) {
            let (name, offset, length) = (blob.name.clone(), blob.offset, blob.length);
            if !limits::is_blob_name(&name) {
                return Err(BundleError::BlobName { index, name });
            }
            if length == 0 {
                return Err(BundleError::BlobEmpty { index, name });
            }
            if !offset.is_multiple_of(BLOB_ALIGNMENT) {
                return Err(BundleError::BlobMisaligned { index, name, offset });
            }
            if offset < previous_end {
                return Err(BundleError::BlobOverlap { index, name, offset, previous_end });
            }
            previous_end = match offset.checked_add(length) {
                Some(end) if end <= total => end,
                _ => {
                    return Err(BundleError::BlobOutOfRange { index, name, offset, length, total });
                }
            };
        }
        if previous_end != total {
            return Err(BundleError::TotalLength { total, end: previous_end });
        }
        Ok(())
    }
}

fn check_guest(guest: &Guest, blobs: usize) -> Result<(), GuestFault> {
    // `usize` holds a `u32` on every machine this runs on; where it did not, the index would be out of range.
    let known = |index: BlobIndex| usize::try_from(index.0).is_ok_and(|i| i < blobs);
    if !limits::is_name(&guest.name) {
        return Err(GuestFault::Name);
    }
    if !limits::is_cores(&guest.cores) {
        return Err(GuestFault::Cores(guest.cores.clone()));
    }
    if !limits::is_memory(guest.memory) {
        return Err(GuestFault::Memory(guest.memory));
    }
    if !limits::is_command_line(&guest.command_line) {
        return Err(GuestFault::CommandLine(guest.command_line.len()));
    }
    let Tenure { owner, purpose, classification, expires, .. } = &guest.tenure;
    if !limits::is_owner(owner) {
        return Err(GuestFault::Owner);
    }
    if !limits::is_purpose(purpose) {
        return Err(GuestFault::Purpose);
    }
    if !limits::is_class(classification) {
        return Err(GuestFault::Classification);
    }
    if matches!(expires, Expiry::After(date) if !date.is_valid()) {
        return Err(GuestFault::Expiry);
    }
    if !known(guest.kernel) {
        return Err(GuestFault::Kernel { index: guest.kernel, blobs });
    }
    match guest.initrd {
        Some(index) if !known(index) => Err(GuestFault::Initrd { index, blobs }),
        _ => Ok(()),
    }
}
