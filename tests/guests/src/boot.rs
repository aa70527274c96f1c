//! What the loader says: Linux's `boot_params` (Documentation/arch/x86/zero-page.rst and boot.rst).

use core::ops::Range;
use core::{ptr, slice, str};

/// Offsets into `boot_params`.
mod offset {
    pub const ACPI_RSDP: u64 = 0x070;
    pub const E820_ENTRIES: u64 = 0x1E8;
    pub const CMD_LINE_PTR: u64 = 0x228;
    pub const E820_TABLE: u64 = 0x2D0;
}

/// Bytes of an e820 entry: address, length, type.
const E820_ENTRY_SIZE: u64 = 20;
const E820_LENGTH: u64 = 8;
const E820_TYPE: u64 = 16;
/// Most entries that `boot_params` has room for (`E820_MAX_ENTRIES_ZEROPAGE`).
const E820_MOST: u8 = 128;
/// Type of an e820 entry that is RAM.
const E820_USABLE: u32 = 1;
/// Most bytes of a command line (`COMMAND_LINE_SIZE`).
const COMMAND_LINE_SIZE: usize = 2048;

/// A stretch of physical memory as the memory map shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it is.
    pub range: Range<u64>,
    /// Whether it is RAM for the guest to use.
    pub usable: bool,
}

/// `boot_params`, where the loader put them.
#[derive(Clone, Copy, Debug)]
pub struct BootParams {
    address: u64,
}

impl BootParams {
    /// What is at `address`.
    ///
    /// # Safety
    /// `address` is the one that the loader gave, in memory that nobody writes from now on.
    pub unsafe fn at(address: u64) -> Self {
        Self { address }
    }

    fn read<T: Copy>(&self, offset: u64) -> T {
        let at = (self.address + offset) as *const T;
        // SAFETY: the caller of `at` promised that `boot_params` are there; each of its fields
        // is a plain number.
        unsafe { ptr::read_unaligned(at) }
    }

    /// The command line; empty when it is not text.
    pub fn command_line(&self) -> &'static str {
        let start: u32 = self.read(offset::CMD_LINE_PTR);
        if start == 0 {
            return "";
        }
        let start = start as *const u8;
        let mut len = 0;
        // SAFETY: the loader ends the command line with a NUL, and nobody writes to it.
        let bytes = unsafe {
            while len < COMMAND_LINE_SIZE && start.add(len).read() != 0 {
                len += 1;
            }
            slice::from_raw_parts(start, len)
        };
        str::from_utf8(bytes).unwrap_or("")
    }

    /// The value of `key=value` on the command line.
    pub fn option(&self, key: &str) -> Option<&'static str> {
        let mut words = self.command_line().split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The number in `key=number` on the command line, or `default` without it.
    ///
    /// # Panics
    /// If it is there and not a number.
    pub fn number<T: str::FromStr>(&self, key: &str, default: T) -> T {
        match self.option(key) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| panic!("{key}={text}: not a number")),
        }
    }

    /// The memory map.
    pub fn memory(&self) -> impl Iterator<Item = Region> {
        let boot = *self;
        let entries: u8 = boot.read(offset::E820_ENTRIES);
        (0..u64::from(entries.min(E820_MOST))).map(move |index| {
            let entry = offset::E820_TABLE + index * E820_ENTRY_SIZE;
            let start: u64 = boot.read(entry);
            let length: u64 = boot.read(entry + E820_LENGTH);
            let kind: u32 = boot.read(entry + E820_TYPE);
            Region { range: start..start.saturating_add(length), usable: kind == E820_USABLE }
        })
    }

    /// Bytes of RAM in the memory map.
    pub fn ram_size(&self) -> u64 {
        let usable = self.memory().filter(|region| region.usable);
        usable.map(|region| region.range.end - region.range.start).sum()
    }

    /// Where the ACPI tables begin.
    pub fn acpi_rsdp(&self) -> u64 {
        self.read(offset::ACPI_RSDP)
    }
}
