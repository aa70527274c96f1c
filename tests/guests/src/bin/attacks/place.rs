//! Where things are: what the guest knows itself, and what it is told.

use bulkhead_guests::boot::BootParams;
use core::arch::asm;
use core::ops::Range;

/// Most regions of the hypervisor's.
const REGIONS: usize = 8;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// The end of what the guest has mapped.
pub const MAPPED_END: u64 = 1 << 32;
/// Where PCs have the HPET, and this guest nothing.
pub const NOWHERE: u64 = 0xFED0_0000;

/// What attacks aim at.
pub struct Place {
    /// What the loader said.
    pub boot: BootParams,
    /// The end of the guest's RAM.
    pub ram_end: u64,
    /// The hypervisor's memory, by host-physical address.
    pub hypervisor: heapless::Vec<Range<u64>, REGIONS>,
    /// The neighbour's.
    pub neighbour: Range<u64>,
    /// Where the hypervisor's image is in its own address space.
    pub image: u64,
    /// What the neighbour is called.
    pub name: heapless::String<32>,
}

impl Place {
    /// What the guest knows itself.
    pub fn new(boot: &BootParams) -> Self {
        let usable = boot.memory().filter(|region| region.usable);
        let ram_end = usable.map(|region| region.range.end).filter(|&end| end < MAPPED_END);
        Self {
            boot: *boot,
            ram_end: ram_end.max().unwrap_or(0),
            hypervisor: heapless::Vec::new(),
            neighbour: 0..0,
            image: 0,
            name: heapless::String::new(),
        }
    }

    /// What it is told: words `key=value`.
    pub fn learn(&mut self, words: &str) {
        for (key, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "hypervisor" => {
                    self.hypervisor = value.split(',').take(REGIONS).map(range).collect();
                }
                "neighbour" => self.neighbour = range(value),
                "image" => self.image = number(value),
                "name" => self.name = value.chars().take(32).collect(),
                _ => panic!("{key}: not known"),
            }
        }
    }

    /// All pages of the hypervisor's memory.
    pub fn hypervisor_pages(&self) -> impl Iterator<Item = u64> {
        self.hypervisor.iter().flat_map(|region| region.clone().step_by(PAGE as usize))
    }

    /// All pages of the neighbour's memory.
    pub fn neighbour_pages(&self) -> impl Iterator<Item = u64> {
        self.neighbour.clone().step_by(PAGE as usize)
    }

    /// Where the last region of the hypervisor's begins, which is its image and heap.
    pub fn hypervisor_start(&self) -> u64 {
        self.hypervisor.last().map_or(0, |region| region.start)
    }

    /// Whether a number is an address of theirs, in either address space.
    pub fn betrays(&self, number: u64) -> bool {
        // As far as the image can reach; its own part of the space is 512 GiB.
        let image = self.image..self.image.saturating_add(1 << 39);
        // Below 1 MiB small numbers would be taken for addresses.
        let high = |region: &&Range<u64>| region.start >= 1 << 20;
        self.image != 0 && image.contains(&number)
            || self.neighbour.contains(&number)
            || self.hypervisor.iter().filter(high).any(|region| region.contains(&number))
    }
}

fn range(text: &str) -> Range<u64> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    number(start)..number(end)
}

fn number(text: &str) -> u64 {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{text}: not an address"))
}

/// Loads of each width, with the one instruction that is emulated on devices.
pub fn load(at: u64, bytes: u64) -> u64 {
    let value: u64;
    // SAFETY: reads RAM, or what is no memory of this guest's; a fault is the caller's to expect.
    unsafe {
        match bytes {
            1 => asm!("movzx {:e}, byte ptr [{}]", out(reg) value, in(reg) at, options(nostack)),
            2 => asm!("movzx {:e}, word ptr [{}]", out(reg) value, in(reg) at, options(nostack)),
            4 => asm!("mov {:e}, [{}]", out(reg) value, in(reg) at, options(nostack)),
            _ => asm!("mov {}, [{}]", out(reg) value, in(reg) at, options(nostack)),
        }
    }
    value
}

/// Stores of each width.
///
/// # Safety
/// Nothing that the guest needs is there.
pub unsafe fn store(at: u64, bytes: u64, value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        match bytes {
            1 => asm!("mov [{}], {:l}", in(reg) at, in(reg_abcd) value, options(nostack)),
            2 => asm!("mov [{}], {:x}", in(reg) at, in(reg) value, options(nostack)),
            4 => asm!("mov [{}], {:e}", in(reg) at, in(reg) value, options(nostack)),
            _ => asm!("mov [{}], {}", in(reg) at, in(reg) value, options(nostack)),
        }
    }
}

/// All ones in so many bytes: what is read where nothing is.
pub const fn ones(bytes: u64) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}

/// The widths of an access.
pub const WIDTHS: [u64; 4] = [1, 2, 4, 8];
