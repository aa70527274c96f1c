//! The firmware's ACPI tables: found, and checked to be whole (ACPI 6.5, 5.2).
//!
//! They are the firmware's claim. A length that leads out of memory, an entry without a length or a wrong checksum
//! is a table that is not there, and no reason to hang or to panic before anybody is told why.

use crate::memory::HostPhysical;
use crate::memory::address_space::direct;

/// Signature, first bytes with a checksum of their own, and offsets of the root pointer (5.2.5.3).
const RSDP_SIGNATURE: &[u8] = b"RSD PTR ";
const RSDP_FIRST: u64 = 20;
const RSDP_REVISION: usize = 15;
const RSDP_RSDT: usize = 16;
const RSDP_LENGTH: usize = 20;
const RSDP_XSDT: usize = 24;
/// The revision from which on it is longer, and may name an XSDT.
const REVISION_WITH_XSDT: u8 = 2;

/// Bytes of a table's header, and where its length is (5.2.6).
pub const HEADER: usize = 36;
const LENGTH: usize = 4;

/// Physical memory, as far as it can be read.
pub trait Memory {
    /// `length` bytes at a host-physical address. `None` unless all of them can be read.
    fn bytes(&self, at: u64, length: u64) -> Option<&[u8]>;
}

/// Physical memory at [`direct`], from 0 on.
pub struct Mapped {
    end: HostPhysical,
}

impl Mapped {
    /// Memory that ends at `end`.
    ///
    /// # Safety
    /// All of it must be mapped at [`direct`] as long as this or a part of it is used, and nobody may write where
    /// the firmware has its tables.
    pub unsafe fn new(end: HostPhysical) -> Self {
        Self { end }
    }
}

impl Memory for Mapped {
    fn bytes(&self, at: u64, length: u64) -> Option<&[u8]> {
        at.checked_add(length).filter(|&end| end <= self.end.as_u64())?;
        let bytes = direct(HostPhysical::new(at)).as_u64() as *const u8;
        // SAFETY: by `new`'s contract it is mapped and stays as it is; the pointer is not null, as DIRECT is not.
        Some(unsafe { core::slice::from_raw_parts(bytes, usize::try_from(length).ok()?) })
    }
}

/// The list of all tables.
pub struct Tables<'a, M> {
    memory: &'a M,
    /// The tables' addresses, each of so many bytes.
    list: &'a [u8],
    width: usize,
}

impl<'a, M: Memory> Tables<'a, M> {
    /// Follows the root pointer. `None` if it or the list is damaged.
    pub fn find(memory: &'a M, rsdp: HostPhysical) -> Option<Self> {
        let first = memory.bytes(rsdp.as_u64(), RSDP_FIRST)?;
        if !first.starts_with(RSDP_SIGNATURE) || !sums_to_zero(first) {
            return None;
        }
        if *first.get(RSDP_REVISION)? >= REVISION_WITH_XSDT {
            let length = u32_at(memory.bytes(rsdp.as_u64(), RSDP_FIRST + 4)?, RSDP_LENGTH)?;
            let all = memory.bytes(rsdp.as_u64(), length.into())?;
            let xsdt = u64_at(all, RSDP_XSDT)?;
            if !sums_to_zero(all) {
                return None;
            }
            if xsdt != 0 {
                let list = table(memory, xsdt, b"XSDT")?.get(HEADER..)?;
                return Some(Self { memory, list, width: size_of::<u64>() });
            }
        }
        let list = table(memory, u32_at(first, RSDP_RSDT)?.into(), b"RSDT")?.get(HEADER..)?;
        Some(Self { memory, list, width: size_of::<u32>() })
    }

    /// The first table with this signature that is whole, with its header.
    pub fn get(&self, signature: &[u8; 4]) -> Option<&'a [u8]> {
        self.list.chunks_exact(self.width).find_map(|entry| {
            let mut at = [0; size_of::<u64>()];
            at.get_mut(..self.width)?.copy_from_slice(entry);
            table(self.memory, u64::from_le_bytes(at), signature)
        })
    }

    /// The table at an address that another names.
    pub fn at(&self, address: u64, signature: &[u8; 4]) -> Option<&'a [u8]> {
        table(self.memory, address, signature)
    }
}

/// A table with its header, if it has this signature and its bytes sum to zero.
fn table<'a>(memory: &'a impl Memory, at: u64, signature: &[u8; 4]) -> Option<&'a [u8]> {
    let header = memory.bytes(at, HEADER as u64)?;
    let length = u32_at(header, LENGTH)?;
    if !header.starts_with(signature) || (length as usize) < HEADER {
        return None;
    }
    memory.bytes(at, length.into()).filter(|table| sums_to_zero(table))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// `N` bytes of a table.
pub fn field<const N: usize>(table: &[u8], at: usize) -> Option<[u8; N]> {
    table.get(at..)?.first_chunk::<N>().copied()
}

/// Four bytes of a table as a number.
pub fn u32_at(table: &[u8], at: usize) -> Option<u32> {
    field(table, at).map(u32::from_le_bytes)
}

/// Eight bytes of a table as a number.
pub fn u64_at(table: &[u8], at: usize) -> Option<u64> {
    field(table, at).map(u64::from_le_bytes)
}
