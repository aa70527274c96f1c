//! Why a kernel was not loaded: one line that says what is wrong with which file.

use crate::memory::NotRam;
use core::fmt;

/// Why a kernel was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The signatures of a bzImage are not there.
    NotBzImage,
    /// The boot protocol's version (major in the high byte) predates what the loader needs.
    ProtocolTooOld(u16),
    /// A zImage, which is loaded below 1 MiB.
    NotLoadedHigh,
    /// The file ends before what its headers announce.
    Truncated {
        /// Bytes that there should be at least.
        needed: u64,
        /// Bytes in the file.
        len: u64,
    },
    /// A field of a header has a value that makes no sense.
    Header(&'static str),
    /// The kernel, run where it has to run, ends beyond the guest's RAM.
    DoesNotFit {
        /// Bytes of RAM needed for the kernel alone.
        needed: u64,
        /// Bytes of RAM below the MMIO hole.
        have: u64,
    },
    /// No room for the RAM disk.
    InitrdDoesNotFit {
        /// Its length in bytes.
        size: u64,
    },
    /// The command line is longer than the kernel takes.
    CommandLineTooLong {
        /// Its length in bytes.
        len: usize,
        /// Most bytes that the kernel takes.
        most: usize,
    },
    /// An ELF file without the note that says where a PVH kernel is entered.
    NotPvh,
    /// No Multiboot header.
    NotMultiboot,
    /// A Multiboot header asks for a feature, by the number of its flag, that is not there.
    MultibootFlag(u32),
    /// A NUL would end the command line early.
    CommandLineWithNul,
    /// Not an ELF file, or a damaged one.
    NotElf,
    /// An ELF file of another kind than a little-endian x86 executable.
    WrongElf(&'static str),
    /// No loadable segment, or more than the loader takes.
    Segments(&'static str),
    /// A segment lies (in part) outside the guest's RAM.
    SegmentOutsideRam {
        /// Its physical address.
        start: u64,
        /// Its length in memory.
        len: u64,
    },
    /// A segment covers memory that the guest is entered with, or another segment.
    SegmentOverlap {
        /// Its physical address.
        start: u64,
        /// Its length in memory.
        len: u64,
        /// What it covers.
        what: &'static str,
    },
    /// The entry point is not in an executable segment within the first 4 GiB.
    EntryOutsideSegments(u64),
    /// A write did not go to the guest's RAM.
    NotRam(NotRam),
}

impl From<NotRam> for LoadError {
    fn from(error: NotRam) -> Self {
        Self::NotRam(error)
    }
}

/// Whole mebibytes that hold so many bytes.
const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotBzImage => write!(f, "kernel is not a bzImage: it has no \"HdrS\" header"),
            Self::ProtocolTooOld(version) => write!(
                f,
                "kernel's boot protocol {}.{:02} is too old: 2.12 or later is needed",
                version >> 8,
                version & 0xFF
            ),
            Self::NotLoadedHigh => write!(f, "kernel is a zImage: a bzImage is needed"),
            Self::Truncated { needed, len } => {
                write!(f, "kernel file is truncated: {len} bytes, at least {needed} are needed")
            }
            Self::Header(what) => write!(f, "kernel file is damaged: {what}"),
            Self::DoesNotFit { needed, have } => write!(
                f,
                "kernel does not fit: it needs {} MiB of memory below 3 GiB, the guest has {} MiB",
                mib(needed),
                have >> 20
            ),
            Self::InitrdDoesNotFit { size } => write!(
                f,
                "initrd of {} MiB does not fit beside the kernel: give the guest more memory",
                mib(size)
            ),
            Self::CommandLineTooLong { len, most } => {
                write!(f, "command line of {len} bytes is too long: the kernel takes {most}")
            }
            Self::NotPvh => write!(
                f,
                "kernel has no PVH entry point (ELF note 18 of \"Xen\"): use one built with it \
                 (Linux: CONFIG_PVH=y), or another kind"
            ),
            Self::NotMultiboot => {
                write!(f, "kernel has no Multiboot header in the first 8 KiB of its file")
            }
            Self::MultibootFlag(2) => write!(
                f,
                "kernel asks for a video mode in its Multiboot header (flag 2), and there is no video"
            ),
            Self::MultibootFlag(flag) => {
                write!(
                    f,
                    "kernel asks for flag {flag} in its Multiboot header: only 0 and 1 are known"
                )
            }
            Self::CommandLineWithNul => write!(f, "command line contains a NUL character"),
            Self::NotElf => write!(f, "kernel is not an ELF file, or a damaged one"),
            Self::WrongElf(what) => {
                write!(f, "kernel is not an executable at fixed addresses: {what}")
            }
            Self::Segments(what) => write!(f, "kernel's ELF segments: {what}"),
            Self::SegmentOutsideRam { start, len } => write!(
                f,
                "kernel's segment of {len} bytes at {start:#x} lies outside the guest's memory"
            ),
            Self::SegmentOverlap { start, len, what } => {
                write!(f, "kernel's segment of {len} bytes at {start:#x} overlaps {what}")
            }
            Self::EntryOutsideSegments(entry) => write!(
                f,
                "kernel's entry point {entry:#x} is not the physical address of executable code \
                 below 4 GiB"
            ),
            Self::NotRam(NotRam { at, len }) => {
                write!(f, "{len} bytes at {at} are not memory of the guest")
            }
        }
    }
}
