//! Puts a kernel into guest memory and says how it is entered.
//!
//! | kind | entered | a register points at |
//! |---|---|---|
//! | bzImage with a 64-bit entry point | in long mode, by Linux's 64-bit boot protocol | RSI: `boot_params` |
//! | bzImage without | in protected mode, by Linux's 32-bit boot protocol | ESI: `boot_params` |
//! | ELF64 | as a 64-bit Linux kernel | RSI: `boot_params` |
//! | PVH | in protected mode | EBX: `hvm_start_info` |
//! | Multiboot 1 | in protected mode; EAX says so | EBX: Multiboot information |
//!
//! Segments are flat, interrupts off; in long mode the first 4 GiB are mapped one to one, in
//! protected mode paging is off. Linux's protocols are in Documentation/arch/x86/boot.rst.

mod boot_params;
mod bzimage;
mod elf;
mod environment;
mod error;
mod memory_map;
mod multiboot;
mod pvh;
#[cfg(test)]
mod tests;

pub use error::LoadError;

use crate::arch::switch::Registers;
use crate::guest::layout::{COMMAND_LINE_MAX, RamLayout};
use crate::memory::{GuestMemory, GuestPhysical};
use crate::vmx::start::Start;

/// Format of a kernel's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Linux kernel with the 64-bit boot protocol, or without that the 32-bit one.
    BzImage,
    /// A statically linked 64-bit ELF executable, loaded at its physical addresses.
    Elf64,
    /// An ELF executable with a PVH entry point.
    Pvh,
    /// A Multiboot 1 kernel: an ELF executable, or any file whose header says what goes where.
    Multiboot,
}

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The kernel's file.
    pub kernel: &'a [u8],
    /// The initial RAM disk's file.
    pub initrd: Option<&'a [u8]>,
    /// The command line, at most [`COMMAND_LINE_MAX`] bytes.
    pub command_line: &'a str,
}

/// State of the boot processor when it enters the kernel, with a small stack aligned as after a
/// `call`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Mode, first instruction, stack, segments.
    pub start: Start,
    /// General registers.
    pub registers: Registers,
}

/// Loads a kernel, its RAM disk and everything that it is entered with. Memory that is not
/// written is expected to be zero. After an error the guest's memory is of no use.
pub fn load(
    kind: Kind,
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    environment::check_ram(ram)?;
    check_command_line(image.command_line, COMMAND_LINE_MAX)?;
    let entry = match kind {
        Kind::BzImage => bzimage::load(image, ram, memory)?,
        Kind::Elf64 => elf::load(image, ram, memory)?,
        Kind::Pvh => pvh::load(image, ram, memory)?,
        Kind::Multiboot => multiboot::load(image, ram, memory)?,
    };
    environment::write_command_line(image.command_line, memory)?;
    environment::write_stack(memory)?;
    Ok(entry)
}

fn check_command_line(command_line: &str, most: usize) -> Result<(), LoadError> {
    if command_line.len() > most {
        return Err(LoadError::CommandLineTooLong { len: command_line.len(), most });
    }
    if command_line.contains('\0') {
        return Err(LoadError::CommandLineWithNul);
    }
    Ok(())
}

/// Where the RAM disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Initrd {
    start: u32,
    size: u32,
}

/// Copies the RAM disk as high as it goes, and returns where it is.
fn load_initrd(
    image: &Image,
    limit: u64,
    occupied: &[core::ops::Range<u64>],
    memory: &mut impl GuestMemory,
) -> Result<Option<Initrd>, LoadError> {
    let Some(initrd) = image.initrd.filter(|initrd| !initrd.is_empty()) else { return Ok(None) };
    // There are 32 bits for its place; what does not fit there does not fit below 4 GiB either.
    let too_large = LoadError::InitrdDoesNotFit { size: initrd.len() as u64 };
    let size = u32::try_from(initrd.len()).map_err(|_| too_large)?;
    let start = environment::place_high(size.into(), limit, occupied).ok_or(too_large)?;
    memory.write(GuestPhysical::new(start), initrd)?;
    let start = u32::try_from(start).map_err(|_| too_large)?;
    Ok(Some(Initrd { start, size }))
}

fn truncated(image: &[u8], needed: u64) -> LoadError {
    LoadError::Truncated { needed, len: image.len() as u64 }
}

/// `N` bytes of a kernel's file.
fn field<const N: usize>(image: &[u8], at: usize) -> Result<[u8; N], LoadError> {
    let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().ok_or(truncated(image, at.saturating_add(N) as u64))
}
