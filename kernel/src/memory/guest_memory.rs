//! Access to a guest's RAM by bounds-checked copies.

use super::GuestPhysical;

/// Some byte of the access is not RAM of this guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam {
    /// Where the access started.
    pub at: GuestPhysical,
    /// Its length in bytes.
    pub len: u64,
}

/// A guest's RAM. Guest-physical addresses are claims: each access is checked
/// against what the guest really owns, and copies, so that no reference into
/// memory that the guest can change ever exists.
pub trait GuestMemory {
    /// Copies `into.len()` bytes out of the guest.
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam>;

    /// Copies `from` into the guest.
    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam>;

    /// Sets `len` bytes of the guest to zero.
    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam>;

    /// Reads a little-endian 64-bit value.
    fn read_u64(&self, at: GuestPhysical) -> Result<u64, NotRam> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a little-endian 64-bit value.
    fn write_u64(&mut self, at: GuestPhysical, value: u64) -> Result<(), NotRam> {
        self.write(at, &value.to_le_bytes())
    }
}

/// Guest RAM in a vector, for tests on the host: `[0, len)`.
#[cfg(test)]
pub struct TestMemory(pub alloc::vec::Vec<u8>);

#[cfg(test)]
impl TestMemory {
    /// RAM of `size` bytes, filled with 0xAA so that missing zeroing shows.
    pub fn new(size: usize) -> Self {
        Self(alloc::vec![0xAA; size])
    }

    fn range(&self, at: GuestPhysical, len: u64) -> Result<core::ops::Range<usize>, NotRam> {
        let end = at.as_u64().checked_add(len).filter(|&end| end <= self.0.len() as u64);
        end.map(|end| at.as_u64() as usize..end as usize).ok_or(NotRam { at, len })
    }
}

#[cfg(test)]
impl GuestMemory for TestMemory {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        let range = self.range(at, into.len() as u64)?;
        into.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam> {
        let range = self.range(at, from.len() as u64)?;
        self.0[range].copy_from_slice(from);
        Ok(())
    }

    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        let range = self.range(at, len)?;
        self.0[range].fill(0);
        Ok(())
    }
}
