//! A guest's RAM that takes room only where something was written.

use bulkhead::memory::{GuestMemory, GuestPhysical, NotRam, RamLayout};

const PAGE: usize = 4096;

/// RAM of any size, by the rules of a guest's memory. What was never written is [`Sparse::FILL`].
pub struct Sparse {
    layout: RamLayout,
    /// Their numbers, and what is in them.
    pages: Vec<(u64, Box<[u8; PAGE]>)>,
    /// Which of them was written last: mostly it is the next one, too.
    last: usize,
}

impl Sparse {
    /// What was never written reads as this: not zero, so that missing zeroing shows.
    pub const FILL: u8 = 0xAA;

    /// RAM that nobody has written.
    pub fn new(layout: RamLayout) -> Self {
        Self { layout, pages: Vec::new(), last: 0 }
    }

    /// Some bytes, all of which must be RAM.
    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.read(GuestPhysical::new(at), &mut bytes);
        assert_eq!(read, Ok(()), "{len} bytes at {at:#x} are not RAM");
        bytes
    }

    /// Four bytes as a number.
    pub fn u32(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes(at, 4));
        u32::from_le_bytes(bytes)
    }

    /// Eight bytes as a number.
    pub fn u64(&self, at: u64) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    /// A page that is written.
    fn page(&mut self, page: u64) -> &mut [u8; PAGE] {
        if self.pages.get(self.last).is_none_or(|(number, _)| *number != page) {
            let known = self.pages.iter().position(|(number, _)| *number == page);
            self.last = known.unwrap_or_else(|| {
                self.pages.push((page, Box::new([Self::FILL; PAGE])));
                self.pages.len() - 1
            });
        }
        &mut self.pages[self.last].1
    }

    fn check(&self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        self.layout.offset_of(at, len).map(|_| ()).ok_or(NotRam { at, len })
    }
}

/// Pieces of `[at, at + len)` that are in one page each: the page, where in it, and how long.
fn pieces(at: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let left = len.checked_sub(done).filter(|&left| left > 0)?;
        let start = at + done;
        let offset = (start % PAGE as u64) as usize;
        let part = left.min((PAGE - offset) as u64) as usize;
        done += part as u64;
        Some((start / PAGE as u64, offset, part))
    })
}

impl GuestMemory for Sparse {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        self.check(at, into.len() as u64)?;
        let mut rest = into;
        for (page, offset, len) in pieces(at.as_u64(), rest.len() as u64) {
            let (part, behind) = rest.split_at_mut(len);
            match self.pages.iter().find(|(number, _)| *number == page) {
                Some((_, bytes)) => part.copy_from_slice(&bytes[offset..][..len]),
                None => part.fill(Self::FILL),
            }
            rest = behind;
        }
        Ok(())
    }

    fn write(&mut self, at: GuestPhysical, from: &[u8]) -> Result<(), NotRam> {
        self.check(at, from.len() as u64)?;
        let mut rest = from;
        for (page, offset, len) in pieces(at.as_u64(), from.len() as u64) {
            let (part, behind) = rest.split_at(len);
            self.page(page)[offset..][..len].copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }

    fn zero(&mut self, at: GuestPhysical, len: u64) -> Result<(), NotRam> {
        /// A range may be gigabytes long; what is behind this is not looked at.
        const FOLLOWED: u64 = 1 << 16;
        self.check(at, len)?;
        for (page, offset, len) in pieces(at.as_u64(), len.min(FOLLOWED)) {
            self.page(page)[offset..][..len].fill(0);
        }
        Ok(())
    }
}
