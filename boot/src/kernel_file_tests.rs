use super::*;

/// The smallest thing that passes as a bzImage: one setup sector and one paragraph.
pub fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 2 * 512 + 16];
    file[setup::SECTORS] = 1;
    file[setup::SYSTEM_SIZE] = 1;
    file[setup::BOOT_FLAG..][..2].copy_from_slice(&[0x55, 0xAA]);
    file[setup::HEADER..][..4].copy_from_slice(b"HdrS");
    file[setup::VERSION..][..2].copy_from_slice(&0x020F_u16.to_le_bytes());
    file[setup::LOAD_FLAGS] = setup::LOADED_HIGH;
    file
}

/// The smallest thing that passes as an ELF64 kernel: one segment of four bytes, `content`.
pub fn elf64(content: [u8; 4]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes()); // e_type: ET_EXEC
    file.extend(62_u16.to_le_bytes()); // e_machine: EM_X86_64
    file.extend(1_u32.to_le_bytes()); // e_version
    file.extend([0x10_0000_u64, 64, 0].map(u64::to_le_bytes).concat()); // e_entry, e_phoff, e_shoff
    file.extend(0_u32.to_le_bytes()); // e_flags
    file.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat()); // sizes and counts
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat()); // p_type: PT_LOAD, p_flags
    file.extend([120_u64, 0x10_0000, 0x10_0000, 4, 4, 1].map(u64::to_le_bytes).concat());
    file.extend(content);
    file
}

fn why(file: &[u8]) -> String {
    recognise(file).expect_err("no kernel").to_string()
}

fn edited(mut file: Vec<u8>, edit: impl FnOnce(&mut Vec<u8>)) -> String {
    edit(&mut file);
    why(&file)
}

/// A Multiboot header with these flags.
pub fn multiboot(flags: u32) -> Vec<u8> {
    let checksum = 0_u32.wrapping_sub(multiboot::MAGIC).wrapping_sub(flags);
    [multiboot::MAGIC, flags, checksum].map(u32::to_le_bytes).concat()
}

/// An ELF64 kernel with a second segment, a note of an owner and a type.
pub fn elf64_with_note(owner: [u8; 4], of_type: u32) -> Vec<u8> {
    let mut file = elf64(*b"code");
    file[56] = 2; // e_phnum
    file[72..80].copy_from_slice(&176_u64.to_le_bytes()); // the first segment's p_offset
    let code = file.split_off(120);
    file.extend([4_u32, 4].map(u32::to_le_bytes).concat()); // p_type: PT_NOTE, p_flags
    file.extend([180_u64, 0, 0, 20, 20, 4].map(u64::to_le_bytes).concat());
    file.extend(code);
    file.extend([4, 4, of_type].map(u32::to_le_bytes).concat());
    file.extend(owner);
    file.extend(0x10_0000_u32.to_le_bytes());
    file
}

#[test]
fn each_kind() {
    use KernelKind::{BzImage, Elf64, Multiboot, Pvh};
    assert_eq!(recognise(&bzimage()), Ok(vec![BzImage]));
    assert_eq!(recognise(&elf64(*b"code")), Ok(vec![Elf64]));
    // A note or a header says how the kernel wants to be entered.
    assert_eq!(recognise(&elf64_with_note(*b"Xen\0", 18)), Ok(vec![Pvh, Elf64]));
    assert_eq!(recognise(&elf64_with_note(*b"Xen\0", 17)), Ok(vec![Elf64]));
    assert_eq!(recognise(&elf64_with_note(*b"GNU\0", 18)), Ok(vec![Elf64]));
    let both = [elf64_with_note(*b"Xen\0", 18), multiboot(3)].concat();
    assert_eq!(recognise(&both), Ok(vec![Pvh, Multiboot, Elf64]));
    assert_eq!(recognise(&[elf64(*b"code"), multiboot(0)].concat()), Ok(vec![Multiboot, Elf64]));
    let flat = [vec![0; 8180], multiboot(1 << 16)].concat();
    assert_eq!(recognise(&flat), Ok(vec![Multiboot]));
    assert_eq!(recognise(&[bzimage(), multiboot(1 << 16)].concat()), Ok(vec![BzImage]));
}

#[test]
fn multiboot_headers_that_are_none() {
    let needed = "a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed";
    let neither = format!("neither a bzImage nor an ELF file nor a Multiboot kernel; {needed}");
    assert_eq!(why(&[vec![0; 8184], multiboot(1 << 16)].concat()), neither, "too far");
    assert_eq!(why(&[vec![0; 2], multiboot(1 << 16)].concat()), neither, "not aligned");
    assert_eq!(why(&multiboot(0)), neither, "no addresses");
    assert_eq!(edited(multiboot(1 << 16), |f| f[8] ^= 1), neither, "another checksum");
}

#[test]
fn bzimages_that_cannot_be_used() {
    assert_eq!(
        edited(bzimage(), |f| f[setup::VERSION] = 0x0B),
        "a bzImage of boot protocol 2.11, 2.12 or later is needed (Linux 3.8 or later)"
    );
    assert_eq!(
        edited(bzimage(), |f| f[setup::LOAD_FLAGS] = 0),
        "a zImage, a bzImage is needed (build Linux with `make bzImage`)"
    );
    assert_eq!(
        edited(bzimage(), |f| f.truncate(1024)),
        "a truncated bzImage: 1024 bytes are there, its header promises 1025"
    );
    assert_eq!(
        edited(bzimage(), |f| f.truncate(0x210)),
        "a bzImage that ends within its header; copy the file again"
    );
}

#[test]
fn elf_files_that_cannot_be_used() {
    let elf = || elf64(*b"code");
    let mut elf32 = b"\x7FELF\x01\x01\x01".to_vec();
    elf32.resize(16, 0);
    elf32.extend([2_u16, 3].map(u16::to_le_bytes).concat()); // e_type: ET_EXEC, e_machine: EM_386
    elf32.extend([1_u32, 0, 52, 0, 0].map(u32::to_le_bytes).concat()); // program headers at 52
    elf32.extend([52_u16, 32, 1, 40, 0, 0].map(u16::to_le_bytes).concat());
    elf32.extend([1_u32, 0, 0, 0x10_0000, 84, 84, 5, 1].map(u32::to_le_bytes).concat());
    assert_eq!(
        why(&elf32),
        "an ELF32 file with neither a PVH note nor a Multiboot header, one of them is needed"
    );
    elf32.extend(multiboot(0));
    assert_eq!(recognise(&elf32), Ok(vec![KernelKind::Multiboot]));
    assert_eq!(
        edited(elf(), |f| f[18] = 183),
        "an ELF file for ARM 64-bit architecture (AARCH64), one for x86 is needed"
    );
    assert_eq!(
        edited(elf(), |f| f[16] = 3),
        "a position-independent ELF file, one linked at fixed addresses is needed \
         (-no-pie, or -C relocation-model=static)"
    );
    assert_eq!(edited(elf(), |f| f[16] = 1), "an ELF object file, a linked executable is needed");
    assert_eq!(edited(elf(), |f| f[16] = 4), "an ELF file but not an executable");
    assert_eq!(
        edited(elf(), |f| f[64] = 3),
        "a dynamically linked program, a statically linked kernel is needed"
    );
    assert_eq!(
        edited(elf(), |f| f[64] = 4),
        "an ELF executable with nothing to load (no PT_LOAD segment)"
    );
    let beyond = "a truncated or damaged ELF executable: a segment reaches beyond the file's end";
    assert_eq!(edited(elf(), |f| f.truncate(123)), beyond);
    assert!(edited(elf(), |f| f.truncate(20)).starts_with("a damaged ELF file: "));
}

#[test]
fn other_files() {
    let needed = "a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed";
    assert_eq!(why(b""), "empty");
    assert_eq!(why(b"\x1F\x8B\x08\0\0"), "gzip data; unpack it first");
    assert_eq!(why(b"#!/bin/sh\n"), format!("a script; {needed}"));
    assert_eq!(why(b"hello\n"), format!("text; {needed}"));
    assert_eq!(why(b"070701000"), format!("a cpio archive; use it as initrd; {needed}"));
    assert_eq!(
        why(&[0; 2000]),
        format!("neither a bzImage nor an ELF file nor a Multiboot kernel; {needed}")
    );
    assert_eq!(
        edited(bzimage(), |f| f[setup::HEADER] = 0),
        format!("a boot sector or disk image; {needed}")
    );
}

#[test]
fn no_file_makes_this_panic() {
    for good in [bzimage(), elf64_with_note(*b"Xen\0", 18), multiboot(1 << 16)] {
        for length in 0..good.len() {
            let _ = recognise(&good[..length]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut file = good.clone();
                file[at] = value;
                let _ = recognise(&file);
            }
        }
    }
}
