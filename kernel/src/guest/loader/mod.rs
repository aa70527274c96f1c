//! Puts a kernel into guest memory and says how it is entered.
//!
//! Every kind is entered the same way, that of Linux's 64-bit boot protocol
//! (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"): long mode, the first 4 GiB mapped
//! one to one, flat segments, interrupts off, `rsi` pointing at `boot_params`.

mod boot_params;
mod bzimage;
mod elf64;
mod environment;
mod error;
#[cfg(test)]
mod tests;

pub use environment::{CODE_SELECTOR, DATA_SELECTOR};
pub use error::LoadError;

use crate::guest::layout::{BOOT_PARAMS, COMMAND_LINE_MAX, RamLayout};
use crate::memory::{GuestMemory, GuestPhysical};

/// Format of a kernel's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Linux kernel with the 64-bit boot protocol.
    BzImage,
    /// A statically linked 64-bit ELF executable, loaded at its physical addresses.
    Elf64,
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

/// State of the boot processor when it enters the kernel. What is not named here is zero, and
/// code and data segments are those of [`CODE_SELECTOR`] and [`DATA_SELECTOR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// Top of a small stack below `boot_params`, aligned as after a `call`.
    pub rsp: u64,
    /// Guest-physical address of `boot_params`.
    pub rsi: u64,
    /// Page tables that map the first 4 GiB one to one.
    pub cr3: u64,
    /// The GDT's address.
    pub gdt_base: u64,
    /// Its last byte.
    pub gdt_limit: u16,
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
    let rip = match kind {
        Kind::BzImage => bzimage::load(image, ram, memory)?,
        Kind::Elf64 => elf64::load(image, ram, memory)?,
    };
    environment::write_command_line(image.command_line, memory)?;
    environment::write_page_tables(memory)?;
    environment::write_gdt(memory)?;
    environment::write_stack(memory)?;
    Ok(Entry {
        rip,
        rsp: environment::STACK_POINTER,
        rsi: BOOT_PARAMS,
        cr3: crate::guest::layout::BOOT_PAGE_TABLES,
        gdt_base: crate::guest::layout::BOOT_GDT,
        gdt_limit: environment::GDT_LIMIT,
    })
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

/// Copies the RAM disk as high as it goes, and returns where it is.
fn load_initrd(
    image: &Image,
    limit: u64,
    occupied: &[core::ops::Range<u64>],
    memory: &mut impl GuestMemory,
) -> Result<Option<boot_params::Initrd>, LoadError> {
    let Some(initrd) = image.initrd.filter(|initrd| !initrd.is_empty()) else { return Ok(None) };
    // `boot_params` holds 32 bits; what does not fit there does not fit below 4 GiB either.
    let too_large = LoadError::InitrdDoesNotFit { size: initrd.len() as u64 };
    let size = u32::try_from(initrd.len()).map_err(|_| too_large)?;
    let start = environment::place_high(size.into(), limit, occupied).ok_or(too_large)?;
    memory.write(GuestPhysical::new(start), initrd)?;
    let start = u32::try_from(start).map_err(|_| too_large)?;
    Ok(Some(boot_params::Initrd { start, size }))
}
