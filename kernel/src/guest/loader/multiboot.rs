//! Multiboot 1 (Multiboot Specification 0.6.96): a kernel whose file begins with a header that
//! says what it needs, and is entered in 32-bit protected mode. Its name of sections: 3.1 is the
//! header, 3.2 the state at entry, 3.3 the information.

use super::elf::Executable;
use super::environment::{self, Occupied, claim};
use super::{Entry, Image, LoadError, field, load_initrd, memory_map, truncated};
use crate::arch::switch::reg;
use crate::guest::layout::{BOOT_PARAMS, COMMAND_LINE, HIGH_MEMORY, LOW_USABLE_END, RamLayout};
use crate::memory::{FRAME_SIZE, GuestMemory, GuestPhysical};
use heapless::Vec;

/// The header lies in so many bytes from the file's start, at a multiple of 4.
const SEARCHED: usize = 8192;
const HEADER_MAGIC: u32 = 0x1BAD_B002;
/// What EAX holds at entry.
const LOADER_MAGIC: u32 = 0x2BAD_B002;

/// Flags that must be heeded; of the rest there are only hints.
const REQUIRED_FLAGS: u32 = 0xFFFF;
/// Of these: modules at page boundaries, and the memory's size. Both are always so.
const KNOWN_FLAGS: u32 = 0b11;
/// The header's address fields say what is loaded where, rather than ELF headers.
const ADDRESSES_VALID: u32 = 1 << 16;

/// Offsets into the information.
mod info {
    pub const FLAGS: u64 = 0;
    pub const MEM_LOWER: u64 = 4;
    pub const MEM_UPPER: u64 = 8;
    pub const CMDLINE: u64 = 16;
    pub const MODS_COUNT: u64 = 20;
    pub const MODS_ADDR: u64 = 24;
    pub const MMAP_LENGTH: u64 = 44;
    pub const MMAP_ADDR: u64 = 48;
    pub const BOOT_LOADER_NAME: u64 = 64;
}
/// Flags of the information: memory's size, command line, modules, memory map, loader's name.
const GIVEN: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;

/// The information, and behind it a module, the loader's name, and the memory map.
const INFORMATION: u64 = BOOT_PARAMS;
const MODULES: u64 = INFORMATION + 0x100;
const NAME: u64 = INFORMATION + 0x180;
const MEMORY_MAP: u64 = INFORMATION + 0x200;
const LOADER: &[u8] = b"Bulkhead\0";
/// Bytes of an entry of the memory map, which says of itself how many follow its first field.
const MEMORY_MAP_ENTRY: u32 = 24;

/// Loads the kernel and the information.
pub(super) fn load(
    image: &Image,
    ram: RamLayout,
    memory: &mut impl GuestMemory,
) -> Result<Entry, LoadError> {
    let header = Header::find(image.kernel)?;
    let (entry, occupied) = if header.flags & ADDRESSES_VALID != 0 {
        header.load(image.kernel, ram, memory)?
    } else {
        let executable = Executable::parse(image.kernel)?;
        let loaded = executable.load(ram, memory)?;
        (loaded.check_entry(executable.entry())?, loaded.occupied)
    };
    let initrd = load_initrd(image, ram.low_end(), &occupied, memory)?;

    memory.zero(GuestPhysical::new(INFORMATION), FRAME_SIZE)?;
    let mut put = |at: u64, value: u32| memory.write(GuestPhysical::new(at), &value.to_le_bytes());
    let mut length = 0u32;
    for (range, kind) in memory_map::of(ram) {
        let size = range.end.saturating_sub(range.start);
        let low_high = |value: u64| [value as u32, (value >> 32) as u32];
        let [[start, start_high], [size, size_high]] = [low_high(range.start), low_high(size)];
        let entry = [MEMORY_MAP_ENTRY - 4, start, start_high, size, size_high, kind as u32];
        let fields = (MEMORY_MAP.saturating_add(length.into())..).step_by(4);
        for (field, value) in fields.zip(entry) {
            put(field, value)?;
        }
        length = length.saturating_add(MEMORY_MAP_ENTRY);
    }
    if let Some(initrd) = initrd {
        put(MODULES, initrd.start)?;
        // Neither its start nor its end is above 4 GiB.
        put(MODULES + 4, initrd.start.wrapping_add(initrd.size))?;
    }
    const KIB: u64 = 1 << 10;
    for (field, value) in [
        (info::FLAGS, GIVEN),
        (info::MEM_LOWER, (LOW_USABLE_END / KIB) as u32),
        (info::MEM_UPPER, (ram.low_end().saturating_sub(HIGH_MEMORY) / KIB) as u32),
        (info::CMDLINE, COMMAND_LINE as u32),
        (info::MODS_COUNT, initrd.is_some().into()),
        (info::MODS_ADDR, MODULES as u32),
        (info::MMAP_LENGTH, length),
        (info::MMAP_ADDR, MEMORY_MAP as u32),
        (info::BOOT_LOADER_NAME, NAME as u32),
    ] {
        put(INFORMATION.wrapping_add(field), value)?;
    }
    memory.write(GuestPhysical::new(NAME), LOADER)?;
    let registers = [(reg::RAX, LOADER_MAGIC), (reg::RBX, INFORMATION as u32)];
    environment::enter_protected(entry, &registers, memory)
}

/// The header.
struct Header {
    /// Where it is in the file.
    offset: usize,
    flags: u32,
}

const CONTRADICTION: LoadError =
    LoadError::Header("the addresses in its Multiboot header contradict each other");

impl Header {
    /// Finds the header, and checks that what it requires is there.
    fn find(kernel: &[u8]) -> Result<Self, LoadError> {
        let searched = kernel.get(..SEARCHED).unwrap_or(kernel);
        for offset in (0..searched.len()).step_by(4) {
            let Ok(checked) = field::<12>(searched, offset) else { break };
            let [magic, flags, checksum] = [0, 4, 8].map(|at| number(&checked, at).unwrap_or(0));
            if magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0 {
                let unknown = flags & REQUIRED_FLAGS & !KNOWN_FLAGS;
                if unknown != 0 {
                    return Err(LoadError::MultibootFlag(unknown.trailing_zeros()));
                }
                return Ok(Self { offset, flags });
            }
        }
        Err(LoadError::NotMultiboot)
    }

    /// Loads what the header's address fields say; gives entry point and range.
    fn load(
        &self,
        kernel: &[u8],
        ram: RamLayout,
        memory: &mut impl GuestMemory,
    ) -> Result<(u32, Occupied), LoadError> {
        let address = |at: usize| number(kernel, self.offset.saturating_add(at));
        let (header, start, data_end) = (address(12)?, address(16)?, address(20)?);
        let (bss_end, entry) = (address(24)?, address(28)?);
        // Where in the file that is which goes to `start`.
        let before = header.checked_sub(start).ok_or(CONTRADICTION)?;
        let skipped = self.offset.checked_sub(before as usize).ok_or(CONTRADICTION)?;
        // Without an end, the data are the rest of the file, and there is no BSS.
        let end = match data_end {
            0 => kernel.len(),
            end => {
                let len = end.checked_sub(start).ok_or(CONTRADICTION)?;
                skipped.saturating_add(len as usize)
            }
        };
        let data = kernel.get(skipped..end).ok_or(truncated(kernel, end as u64))?;
        let size = match bss_end {
            0 => data.len() as u64,
            end => u64::from(end.checked_sub(start).ok_or(CONTRADICTION)?),
        };
        let bss = size.checked_sub(data.len() as u64).ok_or(CONTRADICTION)?;
        let mut occupied = Vec::new();
        let range = claim(start.into(), size, ram, &mut occupied)?;
        memory.write(GuestPhysical::new(range.start), data)?;
        memory.zero(GuestPhysical::new(range.end.saturating_sub(bss)), bss)?;
        if !range.contains(&u64::from(entry)) {
            return Err(LoadError::EntryOutsideSegments(entry.into()));
        }
        Ok((entry, occupied))
    }
}

fn number(file: &[u8], at: usize) -> Result<u32, LoadError> {
    field(file, at).map(u32::from_le_bytes)
}
