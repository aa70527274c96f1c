//! All fields of a VMCS, as they were at one moment: to be looked at on another core.

use super::checks;
use super::vmcs::CurrentVmcs;
use crate::arch::vmx;
use alloc::vec::Vec;

/// Parts of a field's encoding (SDM Vol. 3C, table 25-21): access type in bit 0, index in 9:1, type
/// in 11:10, width in 14:13.
const INDEX_SHIFT: u32 = 1;
const INDICES: u32 = 1 << 9;
const TYPE_SHIFT: u32 = 10;
const TYPES: u32 = 4;
const WIDTH_SHIFT: u32 = 13;
const WIDTHS: u32 = 4;

/// The fields that the processor has, by their encodings for full access.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<(u32, u64)>);

impl Snapshot {
    /// Reads them all. The VM-instruction error is that of the last read that failed.
    pub fn take(_vmcs: &CurrentVmcs) -> Self {
        let widths = 0..WIDTHS;
        let groups = widths.flat_map(|width| (0..TYPES).map(move |kind| (width, kind)));
        let encodings = groups.flat_map(|(width, kind)| {
            (0..INDICES)
                .map(move |index| width << WIDTH_SHIFT | kind << TYPE_SHIFT | index << INDEX_SHIFT)
        });
        let read = |encoding| {
            // SAFETY: the argument stands for a current VMCS.
            unsafe { vmx::vmread_checked(encoding) }.map(|value| (encoding, value))
        };
        Self(encodings.filter_map(read).collect())
    }
}

impl checks::Vmcs for Snapshot {
    /// Zero where the processor has no such field.
    fn read(&self, field: u32) -> u64 {
        let place = self.0.binary_search_by_key(&field, |&(encoding, _)| encoding);
        place.ok().and_then(|place| self.0.get(place)).map_or(0, |&(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use checks::Vmcs;

    #[test]
    fn a_field_is_found_by_its_encoding() {
        let snapshot = Snapshot(std::vec![(0x0800, 8), (0x4402, 12), (0x681E, 0x1000)]);
        assert_eq!([0x0800, 0x4402, 0x681E].map(|field| snapshot.read(field)), [8, 12, 0x1000]);
        assert_eq!(snapshot.read(0x681C), 0);
    }
}
