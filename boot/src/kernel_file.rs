//! Whether a file is a kernel that the hypervisor can load, and if not, what it is instead.

use bulkhead_manifest::KernelKind;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PT_INTERP, PT_LOAD};
use elf::endian::AnyEndian;
use elf::file::Class;
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
    pub const EXTENDED_LOAD_FLAGS: usize = 0x236;

    /// Protocol 2.12, the first with the extended load flags.
    pub const LEAST_VERSION: u16 = 0x020C;
    /// The protected-mode part is loaded at 1 MiB: a bzImage, not an old zImage.
    pub const LOADED_HIGH: u8 = 1 << 0;
    /// The kernel has a 64-bit entry point at 0x200.
    pub const XLF_KERNEL_64: u16 = 1 << 0;
}

/// Which kind of kernel a file's content is.
///
/// # Errors
/// If it is none that can be loaded: what it is instead, as far as that can be seen.
pub fn recognise(file: &[u8]) -> Result<KernelKind, NotAKernel> {
    if file.is_empty() {
        no("empty")
    } else if file.starts_with(b"\x7FELF") {
        check_elf(file).map(|()| KernelKind::Elf64)
    } else if field(file, setup::HEADER) == Some(*b"HdrS")
        && field(file, setup::BOOT_FLAG) == Some([0x55, 0xAA])
    {
        check_bzimage(file).map(|()| KernelKind::BzImage)
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
    let extended =
        field(file, setup::EXTENDED_LOAD_FLAGS).map(u16::from_le_bytes).ok_or_else(truncated)?;
    if extended & setup::XLF_KERNEL_64 == 0 {
        return no("a bzImage of a 32-bit kernel, a 64-bit one is needed (CONFIG_64BIT=y)");
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

fn check_elf(file: &[u8]) -> Result<(), NotAKernel> {
    let elf = match ElfBytes::<AnyEndian>::minimal_parse(file) {
        Ok(elf) => elf,
        Err(error) => return no(format!("a damaged ELF file: {error}")),
    };
    let header = &elf.ehdr;
    if header.class != Class::ELF64 {
        return no("an ELF32 file, an ELF64 executable for x86-64 is needed");
    }
    if header.e_machine != EM_X86_64 || header.endianness != AnyEndian::Little {
        let machine =
            elf::to_str::e_machine_to_human_str(header.e_machine).unwrap_or("another machine");
        return no(format!("an ELF64 file for {machine}, one for x86-64 is needed"));
    }
    let segments = || elf.segments().into_iter().flatten();
    if segments().any(|segment| segment.p_type == PT_INTERP) {
        return no("a dynamically linked program, a statically linked kernel is needed");
    }
    match header.e_type {
        ET_EXEC => (),
        elf::abi::ET_DYN => {
            return no(
                "a position-independent ELF64 file, one linked at fixed addresses is needed \
                       (-no-pie, or -C relocation-model=static)",
            );
        }
        elf::abi::ET_REL => return no("an ELF64 object file, a linked executable is needed"),
        _ => return no("an ELF64 file but not an executable"),
    }
    let mut loads = segments().filter(|segment| segment.p_type == PT_LOAD).peekable();
    if loads.peek().is_none() {
        return no("an ELF64 executable with nothing to load (no PT_LOAD segment)");
    }
    for segment in loads {
        if segment.p_filesz > segment.p_memsz || elf.segment_data(&segment).is_err() {
            return no(
                "a truncated or damaged ELF64 executable: a segment reaches beyond the file's end",
            );
        }
    }
    Ok(())
}

/// What a file that is no kernel is.
fn other_format(file: &[u8]) -> String {
    const NEEDED: &str = "a bzImage or an ELF64 executable is needed";
    const PACKED: &str = "unpack it first";
    let known: [(&[u8], &str, &str); 11] = [
        (b"\x1F\x8B", "gzip data", PACKED),
        (b"\xFD7zXZ\0", "xz data", PACKED),
        (b"\x28\xB5\x2F\xFD", "zstd data", PACKED),
        (b"BZh", "bzip2 data", PACKED),
        (b"\x04\x22\x4D\x18", "lz4 data", PACKED),
        (b"\x02\x21\x4C\x18", "lz4 data", PACKED),
        (b"#!", "a script", NEEDED),
        (b"0707", "a cpio archive", "use it as initrd; a bzImage or an ELF64 executable is needed"),
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
        ("neither a bzImage nor an ELF file", NEEDED)
    };
    format!("{what}; {advice}")
}

#[cfg(test)]
#[path = "kernel_file_tests.rs"]
pub mod tests;
