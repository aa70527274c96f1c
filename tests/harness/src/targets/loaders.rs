//! The loaders: any file as a kernel of each kind, into guests of several sizes.

use crate::input::Input;
use crate::memory::Sparse;
use bulkhead::arch::switch::reg;
use bulkhead::guest::layout::{
    BOOT_GDT, BOOT_PAGE_TABLES, BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_MAX, HIGH_MEMORY, RamLayout,
};
use bulkhead::guest::loader::{Entry, Image, Kind, LoadError, load};
use bulkhead::memory::GuestPhysical;
use bulkhead::vmx::start::Start;
use std::ops::Range;
use std::sync::LazyLock;

/// RAM of the guest: the least, usual sizes, and with a part above 4 GiB.
const RAM: [u64; 5] = [4 << 20, 16 << 20, 256 << 20, (3 << 30) + (2 << 20), 5 << 30];
/// Bytes of the RAM disk.
const INITRD: [usize; 5] = [0, 1, 4096, 5000, 20_000];

/// As a Linux bzImage.
pub fn bzimage(data: &[u8]) -> String {
    run(Kind::BzImage, data)
}

/// As an ELF64 executable.
pub fn elf(data: &[u8]) -> String {
    run(Kind::Elf64, data)
}

/// As a Multiboot kernel.
pub fn multiboot(data: &[u8]) -> String {
    run(Kind::Multiboot, data)
}

/// As a PVH kernel.
pub fn pvh(data: &[u8]) -> String {
    run(Kind::Pvh, data)
}

/// Loads what is behind three bytes that say how much RAM there is, which RAM disk and which command line. A kernel
/// that is loaded finds all that it was given where it is told, and is entered in its RAM.
fn run(kind: Kind, data: &[u8]) -> String {
    let mut input = Input::new(data);
    let ram = RamLayout::new(input.choose(&RAM));
    /// Bytes that show where they belong.
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..INITRD[4]).map(|at| (at % 251) as u8 + 1).collect());
    let initrd = &BYTES[..input.choose(&INITRD)];
    let command_line = "x".repeat(input.choose(&[0, 13, COMMAND_LINE_MAX]));
    let kernel = input.rest();
    let image = Image {
        kernel,
        initrd: Some(initrd).filter(|initrd| !initrd.is_empty()),
        command_line: &command_line,
    };
    let mut memory = Sparse::new(ram);
    let entry = match load(kind, &image, ram, &mut memory) {
        Ok(entry) => entry,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
            // What goes where has been checked before anything is written.
            assert!(!matches!(error, LoadError::NotRam(_)), "{error:?}");
            return format!("refused: {said}");
        }
    };
    let first = check_entry(&entry, ram, &memory);
    let line = memory.bytes(COMMAND_LINE, command_line.len() + 1);
    assert_eq!(line.split_last(), Some((&0, command_line.as_bytes())));
    let told = Told::by(kind, &entry, &memory);
    match told.initrd {
        None => assert!(initrd.is_empty()),
        Some(Range { start, end }) => {
            assert!(start.is_multiple_of(4096) && start >= HIGH_MEMORY && end <= ram.low_end());
            assert!(memory.bytes(start, (end - start) as usize) == initrd, "it is overwritten");
        }
    }
    check_map(&told.map, ram);
    if kind == Kind::BzImage {
        check_bzimage(kernel, first, &told, &memory);
    }
    format!("loaded, entered at {first:#x}")
}

/// The first instruction's address.
fn check_entry(entry: &Entry, ram: RamLayout, memory: &Sparse) -> u64 {
    let (first, stack, gdt) = match entry.start {
        Start::Long(start) => {
            assert_eq!(start.cr3, BOOT_PAGE_TABLES);
            (start.rip, start.rsp, (start.gdt_base, start.gdt_limit, start.code))
        }
        Start::Protected(start) => {
            let gdt = (u64::from(start.gdt_base), start.gdt_limit, start.code);
            (start.eip.into(), start.esp.into(), gdt)
        }
        Start::Real { .. } => panic!("no kernel is entered in real mode"),
    };
    assert!(ram.offset_of(GuestPhysical::new(first), 1).is_some() && first < 1 << 32);
    assert!(stack < BOOT_PARAMS && stack > BOOT_GDT && (stack + 8).is_multiple_of(16));
    assert_eq!(memory.u64(stack), 0, "the return address");
    let (base, limit, code) = gdt;
    assert!(code + 7 <= limit);
    let descriptor = memory.u64(base + u64::from(code));
    assert_eq!(descriptor >> 40 & 0xFF, 0x9B, "code: present, execute, accessed");
    first
}

/// What a kernel is told of its memory.
struct Told {
    initrd: Option<Range<u64>>,
    /// Ranges of memory and their types.
    map: Vec<(Range<u64>, u32)>,
}

impl Told {
    fn by(kind: Kind, entry: &Entry, memory: &Sparse) -> Self {
        let registers = &entry.registers.0;
        match kind {
            Kind::BzImage | Kind::Elf64 => Self::linux(registers[reg::RSI], memory),
            Kind::Pvh => Self::pvh(registers[reg::RBX], memory),
            Kind::Multiboot => {
                assert_eq!(registers[reg::RAX], 0x2BAD_B002);
                Self::multiboot(registers[reg::RBX], memory)
            }
        }
    }

    /// `boot_params` (zero-page.rst).
    fn linux(at: u64, memory: &Sparse) -> Self {
        let (start, size) = (memory.u32(at + 0x218), memory.u32(at + 0x21C));
        assert_eq!(memory.u32(at + 0x228), COMMAND_LINE as u32);
        assert_eq!(memory.bytes(at + 0x202, 4), b"HdrS");
        let count = u64::from(memory.bytes(at + 0x1E8, 1)[0]);
        let entry = |index| at + 0x2D0 + 20 * index;
        let map = (0..count).map(|index| {
            let (start, size) = (memory.u64(entry(index)), memory.u64(entry(index) + 8));
            (start..start + size, memory.u32(entry(index) + 16))
        });
        Self { initrd: range(start.into(), size.into()), map: map.collect() }
    }

    /// `hvm_start_info` (Xen, `start_info.h`).
    fn pvh(at: u64, memory: &Sparse) -> Self {
        assert_eq!((memory.u32(at), memory.u32(at + 4)), (0x336E_C578, 1));
        assert_eq!(memory.u64(at + 24), COMMAND_LINE);
        let module = memory.u64(at + 16);
        let initrd = match memory.u32(at + 12) {
            0 => None,
            _ => range(memory.u64(module), memory.u64(module + 8)),
        };
        let entry = |index| memory.u64(at + 40) + 24 * index;
        let map = (0..u64::from(memory.u32(at + 48))).map(|index| {
            let (start, size) = (memory.u64(entry(index)), memory.u64(entry(index) + 8));
            (start..start + size, memory.u32(entry(index) + 16))
        });
        Self { initrd, map: map.collect() }
    }

    /// The Multiboot information (3.3).
    fn multiboot(at: u64, memory: &Sparse) -> Self {
        let field = |offset| u64::from(memory.u32(at + offset));
        assert_eq!(field(16), COMMAND_LINE);
        let initrd = (field(20) != 0).then(|| {
            let module = field(24);
            memory.u32(module).into()..memory.u32(module + 4).into()
        });
        let map = (0..field(44) / 24).map(|index| {
            let entry = field(48) + 24 * index;
            assert_eq!(memory.u32(entry), 20);
            let (start, size) = (memory.u64(entry + 4), memory.u64(entry + 12));
            (start..start + size, memory.u32(entry + 20))
        });
        Self { initrd, map: map.collect() }
    }
}

fn range(start: u64, size: u64) -> Option<Range<u64>> {
    (size != 0).then(|| start..start + size)
}

/// The map goes up, without overlap, and what is usable is RAM.
fn check_map(map: &[(Range<u64>, u32)], ram: RamLayout) {
    let mut end = 0;
    for (range, kind) in map {
        assert!(range.start >= end && range.end > range.start, "{map:x?}");
        end = range.end;
        let len = range.end - range.start;
        let is_ram = ram.offset_of(GuestPhysical::new(range.start), len).is_some();
        assert!(*kind == 2 || (*kind == 1 && is_ram), "{map:x?}");
    }
    let usable =
        map.iter().filter(|(_, kind)| *kind == 1).map(|(range, _)| range.end - range.start);
    assert!(usable.sum::<u64>() > ram.size() - (1 << 20));
}

/// The protected-mode part is where it is entered, and the RAM disk not above where the kernel finds it.
fn check_bzimage(kernel: &[u8], first: u64, told: &Told, memory: &Sparse) {
    let field = |at: usize| {
        let bytes = kernel[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let sectors = match kernel[0x1F1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let long = kernel[0x236] & 1 != 0;
    let code = first - if long { 0x200 } else { 0 };
    let payload = &kernel[(sectors + 1) * 512..];
    // `syssize` is rounded up to paragraphs.
    let size = payload.len().min(field(0x1F4) as usize * 16);
    assert!(memory.bytes(code, size) == payload[..size], "the kernel is overwritten");
    if let Some(initrd) = &told.initrd {
        assert!(initrd.end <= u64::from(field(0x22C)) + 1);
        let end = code + u64::from(field(0x260));
        assert!(initrd.end <= code || initrd.start >= end, "the kernel will run over it");
    }
}
