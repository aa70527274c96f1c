//! Linux bzImage, by the 64-bit boot protocol or, where it has no 64-bit entry point, by the
//! 32-bit one (boot.rst).

use super::boot_params::{BOOT_FLAG, BootParams, LOADED_HIGH, MAGIC, VERSION_LEAST, offset};
use super::{
    Entry, Image, LoadError, check_command_line, environment, field, load_initrd, truncated,
};
use crate::arch::switch::reg;
use crate::guest::layout::{BOOT_PARAMS, HIGH_MEMORY, RamLayout};
use crate::memory::{GuestMemory, GuestPhysical};
use core::ops::Range;

/// Bytes in a sector of the real-mode part.
const SECTOR: usize = 512;
/// What `setup_sects` = 0 means.
const DEFAULT_SETUP_SECTORS: u8 = 4;
/// Bytes in a unit of `syssize`.
const PARAGRAPH: u64 = 16;
/// The 64-bit entry point, from the load address on.
const ENTRY_64: u64 = 0x200;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1 << 0;

/// Offsets into the file that `boot_params` has no use for.
mod file {
    pub const SETUP_SECTS: usize = 0x1F1;
    pub const SYSSIZE: usize = 0x1F4;
    pub const HEADER_LENGTH: usize = 0x201;
    pub const INITRD_ADDR_MAX: usize = 0x22C;
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    pub const RELOCATABLE_KERNEL: usize = 0x234;
    pub const XLOADFLAGS: usize = 0x236;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// Loads the kernel and `boot_params`.
pub(super) fn load(
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    let header = Header::parse(image.kernel)?;
    check_command_line(image.command_line, header.cmdline_size as usize)?;
    let payload = header.payload()?;
    let run = header.run_range(payload.len() as u64, ram)?;
    let code32_start = u32::try_from(run.start).map_err(|_| BAD_ADDRESS)?;

    memory.write(GuestPhysical::new(run.start), payload)?;
    let initrd_limit = ram.low_end().min(u64::from(header.initrd_addr_max) + 1);
    let initrd = load_initrd(image, initrd_limit, &[run], memory)?;
    BootParams { setup_header: header.bytes, code32_start, initrd }.write(ram, memory)?;
    if header.has_64_bit_entry {
        environment::enter_long(u64::from(code32_start) + ENTRY_64, memory)
    } else {
        environment::enter_protected(code32_start, &[(reg::RSI, BOOT_PARAMS as u32)], memory)
    }
}

const BAD_ADDRESS: LoadError = LoadError::Header("its preferred address or size is out of range");

/// The setup header's fields that decide where things go.
struct Header<'a> {
    image: &'a [u8],
    /// What is copied into `boot_params`.
    bytes: &'a [u8],
    has_64_bit_entry: bool,
    setup_sectors: u8,
    syssize: u32,
    initrd_addr_max: u32,
    kernel_alignment: u32,
    relocatable: bool,
    cmdline_size: u32,
    pref_address: u64,
    init_size: u32,
}

impl<'a> Header<'a> {
    /// Checks that the file is a bzImage, and reads its header.
    fn parse(image: &'a [u8]) -> Result<Self, LoadError> {
        // Whatever is too short for the signatures is no bzImage.
        let is = |at: u64, value: &[u8]| {
            image.get(at as usize..).is_some_and(|rest| rest.starts_with(value))
        };
        if !is(offset::BOOT_FLAG, &BOOT_FLAG.to_le_bytes()) || !is(offset::MAGIC, MAGIC) {
            return Err(LoadError::NotBzImage);
        }
        let version = u16::from_le_bytes(field(image, offset::VERSION as usize)?);
        if version < VERSION_LEAST {
            return Err(LoadError::ProtocolTooOld(version));
        }
        let [loadflags] = field(image, offset::LOADFLAGS as usize)?;
        if loadflags & LOADED_HIGH == 0 {
            return Err(LoadError::NotLoadedHigh);
        }
        let xloadflags = u16::from_le_bytes(field(image, file::XLOADFLAGS)?);
        let [length] = field(image, file::HEADER_LENGTH)?;
        // The second byte of a jump over the header: its length from the magic on.
        let end = (offset::MAGIC as usize).saturating_add(length.into());
        let bytes = image.get(offset::SETUP_HEADER as usize..end);
        let [setup_sects] = field(image, file::SETUP_SECTS)?;
        let [relocatable] = field(image, file::RELOCATABLE_KERNEL)?;
        Ok(Self {
            image,
            bytes: bytes.ok_or(truncated(image, end as u64))?,
            has_64_bit_entry: xloadflags & XLF_KERNEL_64 != 0,
            setup_sectors: if setup_sects == 0 { DEFAULT_SETUP_SECTORS } else { setup_sects },
            syssize: u32::from_le_bytes(field(image, file::SYSSIZE)?),
            initrd_addr_max: u32::from_le_bytes(field(image, file::INITRD_ADDR_MAX)?),
            kernel_alignment: u32::from_le_bytes(field(image, file::KERNEL_ALIGNMENT)?),
            relocatable: relocatable != 0,
            cmdline_size: u32::from_le_bytes(field(image, file::CMDLINE_SIZE)?),
            pref_address: u64::from_le_bytes(field(image, file::PREF_ADDRESS)?),
            init_size: u32::from_le_bytes(field(image, file::INIT_SIZE)?),
        })
    }

    /// The protected-mode part, without what follows it in a signed file.
    fn payload(&self) -> Result<&'a [u8], LoadError> {
        let start = usize::from(self.setup_sectors).saturating_add(1).saturating_mul(SECTOR);
        let len = u64::from(self.syssize).saturating_mul(PARAGRAPH);
        if len <= ENTRY_64 {
            return Err(LoadError::Header("its size leaves no room for code"));
        }
        // `syssize` is rounded up: the last paragraph need not be full.
        let full = (start as u64).saturating_add(len);
        let end = full.min(self.image.len() as u64);
        let needed = full.saturating_sub(PARAGRAPH - 1);
        let payload = usize::try_from(end).ok().and_then(|end| self.image.get(start..end));
        payload.filter(|_| end >= needed).ok_or(truncated(self.image, needed))
    }

    /// The memory that the kernel occupies until it has read the memory map, starting at the load
    /// address. A relocatable kernel that is loaded lower than `pref_address` still runs there
    /// (boot.rst, `init_size`), so a lower address never makes it fit.
    fn run_range(&self, payload: u64, ram: RamLayout) -> Result<Range<u64>, LoadError> {
        let start = if self.relocatable {
            let align = u64::from(self.kernel_alignment);
            if !align.is_power_of_two() {
                return Err(LoadError::Header("its alignment is not a power of two"));
            }
            let wanted = self.pref_address.max(HIGH_MEMORY);
            wanted.checked_next_multiple_of(align).ok_or(BAD_ADDRESS)?
        } else if self.pref_address >= HIGH_MEMORY {
            self.pref_address
        } else {
            return Err(LoadError::Header("it has to run below 1 MiB"));
        };
        let size = u64::from(self.init_size).max(payload);
        let end = start.checked_add(size).ok_or(BAD_ADDRESS)?;
        if end > ram.low_end() {
            return Err(LoadError::DoesNotFit { needed: end, have: ram.low_end() });
        }
        Ok(start..end)
    }
}
