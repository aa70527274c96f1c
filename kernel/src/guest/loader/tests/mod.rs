//! Tests of the loaders with images made here.

mod bzimage;
mod elf64;
mod multiboot;
mod pvh;

use super::environment::{CODE_SELECTOR, DATA_SELECTOR, place_high};
use super::*;
use crate::arch::switch::reg;
use crate::guest::layout::{ACPI_TABLES, BOOT_GDT, BOOT_PAGE_TABLES, BOOT_PARAMS, COMMAND_LINE};
use crate::memory::TestMemory;
use crate::vmx::start::{Start, Start32, Start64};
use alloc::string::ToString;
use alloc::vec::Vec;

const MIB: u64 = 1 << 20;

fn bytes<const N: usize>(memory: &TestMemory, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read(GuestPhysical::new(at), &mut bytes).unwrap();
    bytes
}

fn u32_at(memory: &TestMemory, at: u64) -> u32 {
    u32::from_le_bytes(bytes(memory, at))
}

fn u64_at(memory: &TestMemory, at: u64) -> u64 {
    u64::from_le_bytes(bytes(memory, at))
}

/// The start in long mode, and RSI; all other registers must be zero.
fn long(entry: Result<Entry, LoadError>) -> (Start64, u64) {
    let entry = entry.unwrap();
    let Start::Long(start) = entry.start else { panic!("{entry:?}") };
    let mut registers = Registers::default();
    registers.0[reg::RSI] = entry.registers.0[reg::RSI];
    assert_eq!(entry.registers, registers);
    (start, registers.0[reg::RSI])
}

/// The start in protected mode, with exactly these registers that are not zero.
fn protected(entry: Result<Entry, LoadError>, expected: &[(usize, u64)]) -> Start32 {
    let entry = entry.unwrap();
    let Start::Protected(start) = entry.start else { panic!("{entry:?}") };
    let mut registers = Registers::default();
    for &(register, value) in expected {
        registers.0[register] = value;
    }
    assert_eq!(entry.registers, registers);
    start
}

/// Loads into memory that holds all of the guest's RAM.
fn load_into(kind: Kind, image: &Image, ram: u64) -> (Result<Entry, LoadError>, TestMemory) {
    let mut memory = TestMemory::new(ram as usize);
    let entry = load(kind, image, RamLayout::new(ram), &mut memory);
    (entry, memory)
}

/// Takes all writes and forgets them: for guests larger than the test's own memory.
struct AnyMemory;

impl GuestMemory for AnyMemory {
    fn read(&self, _: GuestPhysical, _: &mut [u8]) -> Result<(), crate::memory::NotRam> {
        unreachable!("loaders only write")
    }
    fn write(&mut self, _: GuestPhysical, _: &[u8]) -> Result<(), crate::memory::NotRam> {
        Ok(())
    }
    fn zero(&mut self, _: GuestPhysical, _: u64) -> Result<(), crate::memory::NotRam> {
        Ok(())
    }
}

/// Address, length and type of each entry of the memory map.
fn e820(memory: &TestMemory) -> Vec<(u64, u64, u32)> {
    let [count] = bytes(memory, BOOT_PARAMS + 0x1E8);
    (0..u64::from(count))
        .map(|index| BOOT_PARAMS + 0x2D0 + index * 20)
        .map(|at| (u64_at(memory, at), u64_at(memory, at + 8), u32_at(memory, at + 16)))
        .collect()
}

/// Walks the boot page tables as the processor would (SDM Vol. 3A, 4.5).
fn walk(memory: &TestMemory, cr3: u64, at: u64) -> Option<u64> {
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    let mut table = cr3;
    for shift in [39, 30, 21] {
        let entry = u64_at(memory, table + ((at >> shift) & 511) * 8);
        if entry & 0b11 != 0b11 {
            return None;
        }
        if shift == 21 {
            assert_ne!(entry & 1 << 7, 0, "a 2 MiB page is expected");
            return Some((entry & ADDRESS) + (at & 0x1F_FFFF));
        }
        assert_eq!(entry & 1 << 7, 0, "a table is expected");
        table = entry & ADDRESS;
    }
    None
}

#[test]
fn the_guest_is_entered_with_an_identity_map_of_4_gib() {
    let kernel = elf64::Builder::new().build();
    let image = Image { kernel: &kernel, initrd: None, command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    let cr3 = long(entry).0.cr3;
    assert_eq!(cr3, BOOT_PAGE_TABLES);
    for at in [0, 0x1234, MIB, 0x3FFF_FFFF, 0x4000_0000, 0xFEE0_0000, 0xFFFF_FFFF] {
        assert_eq!(walk(&memory, cr3, at), Some(at));
    }
    for at in [0x1_0000_0000, 0x80_0000_0000, 0xFFFF_FFFF_8000_0000] {
        assert_eq!(walk(&memory, cr3, at), None);
    }
}

#[test]
fn the_gdt_has_linuxs_boot_segments() {
    let kernel = elf64::Builder::new().build();
    let image = Image { kernel: &kernel, initrd: None, command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    let start = long(entry).0;
    assert_eq!((start.gdt_base, start.gdt_limit), (BOOT_GDT, 31));
    assert_eq!((CODE_SELECTOR, DATA_SELECTOR), (0x10, 0x18));
    assert_eq!((start.code, start.data), (CODE_SELECTOR, DATA_SELECTOR));
    let descriptor = |selector: u16| u64_at(&memory, BOOT_GDT + u64::from(selector));
    assert_eq!(descriptor(0), 0);
    // Access byte: present, ring 0, code execute/read or data read/write; then the L, D and G flags.
    let code = descriptor(CODE_SELECTOR);
    assert_eq!((code >> 40 & 0xFF, code >> 52 & 0xF), (0x9B, 0b1010));
    let data = descriptor(DATA_SELECTOR);
    assert_eq!((data >> 40 & 0xFF, data >> 52 & 0xF), (0x93, 0b1100));
}

#[test]
fn the_stack_looks_as_after_a_call() {
    let kernel = elf64::Builder::new().build();
    let image = Image { kernel: &kernel, initrd: None, command_line: "" };
    let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    let rsp = long(entry).0.rsp;
    assert_eq!((rsp + 8) % 16, 0);
    assert_eq!(u64_at(&memory, rsp), 0);
    assert!(rsp + 8 <= BOOT_PARAMS && rsp > BOOT_GDT + 31);
}

#[test]
fn the_command_line_ends_with_a_nul() {
    let kernel = elf64::Builder::new().build();
    let longest = "x".repeat(COMMAND_LINE_MAX);
    for command_line in ["", "console=ttyS0 quiet", &longest] {
        let image = Image { kernel: &kernel, initrd: None, command_line };
        let (entry, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
        entry.unwrap();
        assert_eq!(u64::from(u32_at(&memory, BOOT_PARAMS + 0x228)), COMMAND_LINE);
        let written = &memory.0[COMMAND_LINE as usize..][..command_line.len() + 1];
        assert_eq!(written.split_last(), Some((&0, command_line.as_bytes())));
    }
    let too_long = "x".repeat(COMMAND_LINE_MAX + 1);
    let image = Image { kernel: &kernel, initrd: None, command_line: &too_long };
    let error = load_into(Kind::Elf64, &image, 4 * MIB).0.unwrap_err();
    assert_eq!(error, LoadError::CommandLineTooLong { len: 2048, most: 2047 });
    let image = Image { kernel: &kernel, initrd: None, command_line: "a\0b" };
    let error = load_into(Kind::Elf64, &image, 4 * MIB).0.unwrap_err();
    assert_eq!(error, LoadError::CommandLineWithNul);
}

#[test]
fn the_memory_map_covers_ram_and_reserves_the_rest() {
    let kernel = elf64::Builder::new().build();
    let image = Image { kernel: &kernel, initrd: None, command_line: "" };
    let (_, memory) = load_into(Kind::Elf64, &image, 4 * MIB);
    let small = [
        (0, 0x9_FC00, 1),
        (0x9_FC00, MIB - 0x9_FC00, 2),
        (MIB, 3 * MIB, 1),
        (0xFEC0_0000, 0x20_1000, 2),
    ];
    assert_eq!(e820(&memory), small);
    assert_eq!(u64_at(&memory, BOOT_PARAMS + 0x70), ACPI_TABLES.start);

    // A guest with RAM above the hole; only what is written below is looked at.
    let mut memory = TestMemory::new(4 << 20);
    load(Kind::Elf64, &image, RamLayout::new(5 << 30), &mut memory).unwrap();
    assert_eq!(e820(&memory)[2], (MIB, 0xC000_0000 - MIB, 1));
    assert_eq!(e820(&memory)[4..], [(0x1_0000_0000, 2 << 30, 1)]);
}

#[test]
fn too_little_ram_is_an_error_for_every_kind() {
    for kind in [Kind::BzImage, Kind::Elf64, Kind::Pvh, Kind::Multiboot] {
        for ram in [0, 4096, MIB] {
            let image = Image { kernel: &[], initrd: None, command_line: "" };
            let error = load_into(kind, &image, ram).0.unwrap_err();
            assert_eq!(error, LoadError::DoesNotFit { needed: 3 * MIB, have: ram });
        }
    }
}

#[test]
fn a_ram_disk_goes_to_the_highest_gap() {
    let place = |size, limit, occupied: &[_]| place_high(size, limit, occupied);
    assert_eq!(place(1, 16 * MIB, &[]), Some(16 * MIB - 4096));
    assert_eq!(place(4097, 16 * MIB, &[]), Some(16 * MIB - 8192));
    assert_eq!(place(4097, 16 * MIB + 5, &[]), Some(16 * MIB - 4096));
    // In the way: the topmost range, then another one below it.
    let occupied = [8 * MIB..9 * MIB, 15 * MIB..16 * MIB, 9 * MIB + 4096..15 * MIB - 1];
    assert_eq!(place(4096, 16 * MIB, &occupied), Some(9 * MIB));
    assert_eq!(place(8192, 16 * MIB, &occupied), Some(8 * MIB - 8192));
    assert_eq!(place(7 * MIB, 16 * MIB, &occupied), Some(MIB));
    assert_eq!(place(7 * MIB + 1, 16 * MIB, &occupied), None);
    assert_eq!(place(u64::MAX, 16 * MIB, &[]), None);
}

#[test]
fn messages_are_one_line_and_say_what_to_do() {
    let message = LoadError::DoesNotFit { needed: 70 * MIB + 1, have: 64 * MIB }.to_string();
    assert!(message.contains("71 MiB") && message.contains("64 MiB"), "{message}");
    let message = LoadError::ProtocolTooOld(0x0209).to_string();
    assert!(message.contains("2.09") && message.contains("2.12"), "{message}");
}
