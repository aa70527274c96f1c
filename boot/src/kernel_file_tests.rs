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
    file[setup::EXTENDED_LOAD_FLAGS] = 1;
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

#[test]
fn the_two_kinds() {
    assert_eq!(recognise(&bzimage()), Ok(KernelKind::BzImage));
    assert_eq!(recognise(&elf64(*b"code")), Ok(KernelKind::Elf64));
}

#[test]
fn bzimages_that_cannot_be_used() {
    assert_eq!(
        edited(bzimage(), |f| f[setup::VERSION] = 0x0B),
        "a bzImage of boot protocol 2.11, 2.12 or later is needed (Linux 3.8 or later)"
    );
    assert_eq!(
        edited(bzimage(), |f| f[setup::EXTENDED_LOAD_FLAGS] = 0),
        "a bzImage of a 32-bit kernel, a 64-bit one is needed (CONFIG_64BIT=y)"
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
    // ELF32 has a shorter header with other fields; the class is what counts.
    let mut elf32 = b"\x7FELF\x01\x01\x01".to_vec();
    elf32.resize(52, 0);
    assert_eq!(why(&elf32), "an ELF32 file, an ELF64 executable for x86-64 is needed");
    assert_eq!(
        edited(elf(), |f| f[18] = 183),
        "an ELF64 file for ARM 64-bit architecture (AARCH64), one for x86-64 is needed"
    );
    assert_eq!(
        edited(elf(), |f| f[16] = 3),
        "a position-independent ELF64 file, one linked at fixed addresses is needed \
         (-no-pie, or -C relocation-model=static)"
    );
    assert_eq!(edited(elf(), |f| f[16] = 1), "an ELF64 object file, a linked executable is needed");
    assert_eq!(edited(elf(), |f| f[16] = 4), "an ELF64 file but not an executable");
    assert_eq!(
        edited(elf(), |f| f[64] = 3),
        "a dynamically linked program, a statically linked kernel is needed"
    );
    assert_eq!(
        edited(elf(), |f| f[64] = 4),
        "an ELF64 executable with nothing to load (no PT_LOAD segment)"
    );
    let beyond = "a truncated or damaged ELF64 executable: a segment reaches beyond the file's end";
    assert_eq!(edited(elf(), |f| f.truncate(123)), beyond);
    assert!(edited(elf(), |f| f.truncate(20)).starts_with("a damaged ELF file: "));
}

#[test]
fn other_files() {
    let needed = "a bzImage or an ELF64 executable is needed";
    assert_eq!(why(b""), "empty");
    assert_eq!(why(b"\x1F\x8B\x08\0\0"), "gzip data; unpack it first");
    assert_eq!(why(b"#!/bin/sh\n"), format!("a script; {needed}"));
    assert_eq!(why(b"hello\n"), format!("text; {needed}"));
    assert_eq!(why(b"070701000"), format!("a cpio archive; use it as initrd; {needed}"));
    assert_eq!(why(&[0; 2000]), format!("neither a bzImage nor an ELF file; {needed}"));
    assert_eq!(
        edited(bzimage(), |f| f[setup::HEADER] = 0),
        format!("a boot sector or disk image; {needed}")
    );
}

#[test]
fn no_file_makes_this_panic() {
    for good in [bzimage(), elf64(*b"code")] {
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
