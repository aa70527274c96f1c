//! Whether a file is a kernel that the hypervisor can load, in which ways, and if not, what it is instead.

use bulkhead_manifest::KernelKind;
use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, ET_EXEC, PT_INTERP, PT_LOAD, PT_NOTE};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::note::{Note, NoteIterator};
use std::fmt;

/// Why a file is not a kernel, to follow "FILE is ": what it is instead, or what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAKernel(String);

impl fmt::Display for NotAKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAKernel {}

fn no<T>(why: impl Into<String>) -> Result<T, NotAKernel> {
    Err(NotAKernel(why.into()))
}

/// Fields of a bzImage's setup header (Linux, Documentation/arch/x86/boot.rst), as offsets into the file.
mod setup {
    pub const SECTORS: usize = 0x1F1;
    pub const SYSTEM_SIZE: usize = 0x1F4;
    pub const BOOT_FLAG: usize = 0x1FE;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOAD_FLAGS: usize = 0x211;

    /// Protocol 2.12, the first that says whether there is a 64-bit entry point.
    pub const LEAST_VERSION: u16 = 0x020C;
    /// The protected-mode part is loaded at 1 MiB: a bzImage, not an old zImage.
    pub const LOADED_HIGH: u8 = 1 << 0;
}

/// Multiboot 1's header (Multiboot Specification 0.6.96, 3.1).
mod multiboot {
    /// The header lies in so many bytes from the file's start, at a multiple of 4.
    pub const SEARCHED: usize = 8192;
    pub const MAGIC: u32 = 0x1BAD_B002;
    /// The header says what is loaded where: any file will do.
    pub const ADDRESSES_VALID: u32 = 1 << 16;
}

/// Owner and type of the note that names a PVH kernel's entry point.
const PVH_NOTE: (&[u8], u64) = (b"Xen\0", 18);

/// Which kinds of kernel a file's content is, at least one, the one to take by default first.
///
/// A PVH note or a Multiboot header is there to say how the kernel wants to be entered. So it goes before `elf64`,
/// which any executable is.
///
/// # Errors
/// If it is none that can be loaded: what it is instead, as far as that can be seen.
pub fn recognise(file: &[u8]) -> Result<Vec<KernelKind>, NotAKernel> {
    let multiboot = multiboot_flags(file);
    if file.is_empty() {
        no("empty")
    } else if file.starts_with(b"\x7FELF") {
        let elf = check_elf(file)?;
        let kinds = [
            (KernelKind::Pvh, has_pvh_note(&elf)),
            (KernelKind::Multiboot, multiboot.is_some()),
            (KernelKind::Elf64, elf.ehdr.class == Class::ELF64),
        ];
        let kinds: Vec<_> = kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect();
        if kinds.is_empty() {
            return no(
                "an ELF32 file with neither a PVH note nor a Multiboot header, one of them is needed",
            );
        }
        Ok(kinds)
    } else if field(file, setup::HEADER) == Some(*b"HdrS")
        && field(file, setup::BOOT_FLAG) == Some([0x55, 0xAA])
    {
        check_bzimage(file).map(|()| vec![KernelKind::BzImage])
    } else if multiboot.is_some_and(|flags| flags & multiboot::ADDRESSES_VALID != 0) {
        Ok(vec![KernelKind::Multiboot])
    } else {
        no(other_format(file))
    }
}

fn field<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..)?.first_chunk().copied()
}

fn check_bzimage(file: &[u8]) -> Result<(), NotAKernel> {
    let truncated =
        || NotAKernel("a bzImage that ends within its header; copy the file again".into());
    let version = field(file, setup::VERSION).map(u16::from_le_bytes).ok_or_else(truncated)?;
    if version < setup::LEAST_VERSION {
        let (major, minor) = (version >> 8, version & 0xFF);
        return no(format!(
            "a bzImage of boot protocol {major}.{minor:02}, 2.12 or later is needed (Linux 3.8 or later)"
        ));
    }
    let [flags] = field(file, setup::LOAD_FLAGS).ok_or_else(truncated)?;
    if flags & setup::LOADED_HIGH == 0 {
        return no("a zImage, a bzImage is needed (build Linux with `make bzImage`)");
    }
    let [sectors] = field(file, setup::SECTORS).ok_or_else(truncated)?;
    let paragraphs =
        field(file, setup::SYSTEM_SIZE).map(u32::from_le_bytes).ok_or_else(truncated)?;
    // A count of 0 means 4, and the boot sector comes on top. The last paragraph need not be full.
    let sectors = if sectors == 0 { 4 } else { u64::from(sectors) };
    let needed = (sectors + 1) * 512 + (u64::from(paragraphs) * 16).saturating_sub(15);
    let present = file.len() as u64;
    if present < needed {
        return no(format!(
            "a truncated bzImage: {present} bytes are there, its header promises {needed}"
        ));
    }
    Ok(())
}

/// The flags of a file's Multiboot header.
fn multiboot_flags(file: &[u8]) -> Option<u32> {
    let searched = &file[..file.len().min(multiboot::SEARCHED)];
    let words = searched
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let words: Vec<_> = words.collect();
    let header = words.windows(3).find(|header| {
        header[0] == multiboot::MAGIC && header.iter().copied().fold(0, u32::wrapping_add) == 0
    });
    header.map(|header| header[1])
}

/// Whether an ELF file says where it is entered as a PVH kernel.
fn has_pvh_note(elf: &ElfBytes<'_, AnyEndian>) -> bool {
    let notes = elf.segments().into_iter().flatten().filter(|segment| segment.p_type == PT_NOTE);
    notes.filter_map(|segment| elf.segment_data(&segment).ok()).any(|data| {
        // Notes are made of 32-bit words, whatever their segment says of itself.
        NoteIterator::new(elf.ehdr.endianness, Class::ELF32, 4, data)
            .any(|note| matches!(note, Note::Unknown(note) if (note.name, note.n_type) == PVH_NOTE))
    })
}

fn check_elf(file: &[u8]) -> Result<ElfBytes<'_, AnyEndian>, NotAKernel> {
    let elf = match ElfBytes::<AnyEndian>::minimal_parse(file) {
        Ok(elf) => elf,
        Err(error) => return no(format!("a damaged ELF file: {error}")),
    };
    let header = &elf.ehdr;
    let ours = match header.class {
        Class::ELF64 => header.e_machine == EM_X86_64,
        Class::ELF32 => [EM_386, EM_X86_64].contains(&header.e_machine),
    };
    if !ours || header.endianness != AnyEndian::Little {
        let machine =
            elf::to_str::e_machine_to_human_str(header.e_machine).unwrap_or("another machine");
        return no(format!("an ELF file for {machine}, one for x86 is needed"));
    }
    let segments = || elf.segments().into_iter().flatten();
    if segments().any(|segment| segment.p_type == PT_INTERP) {
        return no("a dynamically linked program, a statically linked kernel is needed");
    }
    match header.e_type {
        ET_EXEC => (),
        elf::abi::ET_DYN => {
            return no("a position-independent ELF file, one linked at fixed addresses is needed \
                       (-no-pie, or -C relocation-model=static)");
        }
        elf::abi::ET_REL => return no("an ELF object file, a linked executable is needed"),
        _ => return no("an ELF file but not an executable"),
    }
    let mut loads = segments().filter(|segment| segment.p_type == PT_LOAD).peekable();
    if loads.peek().is_none() {
        return no("an ELF executable with nothing to load (no PT_LOAD segment)");
    }
    for segment in loads {
        if segment.p_filesz > segment.p_memsz || elf.segment_data(&segment).is_err() {
            return no(
                "a truncated or damaged ELF executable: a segment reaches beyond the file's end",
            );
        }
    }
    Ok(elf)
}

/// What a file that is no kernel is.
fn other_format(file: &[u8]) -> String {
    const NEEDED: &str =
        "a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed";
    const PACKED: &str = "unpack it first";
    let known: [(&[u8], &str, &str); 11] = [
        (b"\x1F\x8B", "gzip data", PACKED),
        (b"\xFD7zXZ\0", "xz data", PACKED),
        (b"\x28\xB5\x2F\xFD", "zstd data", PACKED),
        (b"BZh", "bzip2 data", PACKED),
        (b"\x04\x22\x4D\x18", "lz4 data", PACKED),
        (b"\x02\x21\x4C\x18", "lz4 data", PACKED),
        (b"#!", "a script", NEEDED),
        (
            b"0707",
            "a cpio archive",
            "use it as initrd; a bzImage, an ELF64 executable, a PVH kernel or a Multiboot kernel is needed",
        ),
        (
            b"!<arch>\ndebian-binary",
            "a Debian package",
            "use { debian = \"PACKAGE\" }, or the kernel in it",
        ),
        (b"BULKHEAD", "a bundle", NEEDED),
        (b"MZ", "a Windows or EFI program without Linux's setup header", NEEDED),
    ];
    let found = known.iter().find(|(start, ..)| file.starts_with(start));
    let (what, advice) = if let Some((_, what, advice)) = found {
        (*what, *advice)
    } else if field(file, setup::BOOT_FLAG) == Some([0x55, 0xAA]) {
        ("a boot sector or disk image", NEEDED)
    } else if file.iter().take(512).all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
    {
        ("text", NEEDED)
    } else {
        ("neither a bzImage nor an ELF file nor a Multiboot kernel", NEEDED)
    };
    format!("{what}; {advice}")
}

#[cfg(test)]
#[path = "kernel_file_tests.rs"]
pub mod tests;
