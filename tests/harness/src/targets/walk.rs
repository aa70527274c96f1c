//! The walk through a guest's page tables, which may say anything.

use crate::input::Input;
use bulkhead::guest::mmio::{CodeSize, MAX_INSTRUCTION};
use bulkhead::guest::walk::{GuestVirtual, Paging, WalkError, fetch, translate};
use bulkhead::memory::{GuestMemory, GuestPhysical, NotRam};

/// RAM that is the input over and over: so tables lead to tables.
struct Repeated<'a> {
    bytes: &'a [u8],
    end: u64,
}

impl GuestMemory for Repeated<'_> {
    fn read(&self, at: GuestPhysical, into: &mut [u8]) -> Result<(), NotRam> {
        let len = into.len() as u64;
        let end = at.as_u64().checked_add(len).filter(|&end| end <= self.end);
        end.ok_or(NotRam { at, len })?;
        for (at, byte) in (at.as_u64()..).zip(into) {
            *byte = self.bytes[(at % self.bytes.len() as u64) as usize];
        }
        Ok(())
    }

    fn write(&mut self, _: GuestPhysical, _: &[u8]) -> Result<(), NotRam> {
        panic!("a walk changes nothing")
    }

    fn zero(&mut self, _: GuestPhysical, _: u64) -> Result<(), NotRam> {
        panic!("a walk changes nothing")
    }
}

/// An address leads to one place and keeps its offset in the page; the bytes of an instruction are those that are found
/// one by one.
pub fn walk(data: &[u8]) -> String {
    let mut input = Input::new(data);
    let paging = Paging { cr0: input.u64(), cr3: input.u64(), cr4: input.u64(), efer: input.u64() };
    let (rip, base) = (input.u64(), input.u64());
    let size = input.choose(&[CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64]);
    let end = input.choose(&[1u64 << 12, 1 << 20, 1 << 32, 1 << 52, u64::MAX]);
    let bytes = match input.rest() {
        [] => &[0],
        bytes => bytes,
    };
    let memory = Repeated { bytes, end };

    let said = match translate(&memory, paging, GuestVirtual::new(rip)) {
        Ok(at) => {
            assert_eq!(at.as_u64() % 4096, rip % 4096);
            assert!(at.as_u64() < 1 << 52, "no processor has so many bits");
            "leads somewhere".to_string()
        }
        Err(error) => {
            if let WalkError::NotPresent { level, .. } = error {
                assert!((1..=5).contains(&level));
            }
            let said = match error {
                WalkError::NotCanonical(_) => "not canonical",
                WalkError::NotPresent { .. } => "not present",
                WalkError::NotRam(_) => "a table is not RAM",
            };
            said.into()
        }
    };

    let mut code = [0; MAX_INSTRUCTION];
    let fetched = fetch(&memory, paging, rip, base, size, &mut code);
    // The same byte by byte.
    let single = |offset: usize| {
        let offset = rip.wrapping_add(offset as u64);
        let linear = match size {
            CodeSize::Bits64 => offset,
            CodeSize::Bits16 | CodeSize::Bits32 => base.wrapping_add(offset) & 0xFFFF_FFFF,
        };
        let at = translate(&memory, paging, GuestVirtual::new(linear))?;
        let mut byte = [0];
        memory.read(at, &mut byte)?;
        Ok::<_, WalkError>(byte[0])
    };
    match fetched {
        Ok(len) => {
            assert!((1..=MAX_INSTRUCTION).contains(&len));
            for (offset, byte) in code[..len].iter().enumerate() {
                assert_eq!(single(offset), Ok(*byte));
            }
        }
        // A part of a page may be RAM: then nothing is fetched of it.
        Err(WalkError::NotRam(_)) => {}
        Err(error) => assert_eq!(single(0), Err(error)),
    }
    said
}
