//! What a bundle says about itself: the machine's options, the guests, and where their blobs are.

use crate::policy::{Policy, Quota, Subject};
use crate::tenure::Tenure;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_operators::Operator;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The part of a bundle that describes the rest.
///
/// A change to any type in here changes the encoding, which carries no field names: raise [`VERSION`](crate::VERSION)
/// with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What holds for the whole machine.
    pub options: Options,
    /// Who may sign in; see [`bulkhead_operators::check`].
    pub operators: Vec<Operator>,
    /// Which guests may be together; without it all may.
    pub policy: Option<Policy>,
    /// How much owners may have, one for each owner at the most.
    pub quotas: Vec<Quota>,
    /// The guests, in the order of the manifest, which is the order in which they start.
    pub guests: Vec<Guest>,
    /// Where the kernels and initramfs images are, in ascending order of their offset.
    pub blobs: Vec<Blob>,
}

/// What holds for the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Draw the log on the framebuffer as well: for real machines, which often have no serial port. Off in an emulator,
    /// where drawing is slow.
    pub framebuffer_log: bool,
}

/// One guest: what it gets, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Unique in its bundle; see [`limits::is_name`](crate::limits::is_name).
    pub name: String,
    /// Whole processor cores.
    pub cores: Cores,
    /// Bytes of RAM: a multiple of 2 MiB, [`MIN_MEMORY`](crate::limits::MIN_MEMORY) to
    /// [`MAX_MEMORY`](crate::limits::MAX_MEMORY).
    pub memory: u64,
    /// What the kernel's blob is, and so how the guest is entered.
    pub kind: KernelKind,
    /// The blob with the kernel.
    pub kernel: BlobIndex,
    /// The blob with the initramfs, where the guest has one.
    pub initrd: Option<BlobIndex>,
    /// At most [`MAX_COMMAND_LINE`](crate::limits::MAX_COMMAND_LINE) bytes without NUL; may be empty.
    pub command_line: String,
    /// Whose it is, what for, and until when.
    pub tenure: Tenure,
    /// When the guest is started again.
    pub restart: Restart,
    /// When it is started first.
    pub start: Start,
    /// What puts it into quarantine by itself.
    pub suspicion: Suspicion,
}

/// What a guest may not do without being put into quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// More accesses than so many in a second that were denied or that nothing answered: to MSRs, I/O ports, memory that
    /// is not there.
    pub denied: Option<u32>,
    /// A fault, for which it would be stopped otherwise.
    pub fault: bool,
}

impl Guest {
    /// What policy and quotas ask of it.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.name,
            owner: &self.tenure.owner,
            classification: &self.tenure.classification,
            cores: self.cores.count(),
            memory: self.memory,
        }
    }
}

/// Which processor cores a guest owns; see [`limits::is_cores`](crate::limits::is_cores).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cores {
    /// So many, 1 to [`MAX_CORES`](crate::limits::MAX_CORES), wherever there is room.
    Count(u32),
    /// These, by the numbers that the hypervisor's log gives to cores, 1 to
    /// [`MAX_CORES`](crate::limits::MAX_CORES): the first becomes the guest's processor 0. None is there twice, nor
    /// named by another guest.
    Numbers(Vec<u32>),
}

impl Cores {
    /// How many they are.
    pub fn count(&self) -> u32 {
        match self {
            Self::Count(count) => *count,
            Self::Numbers(numbers) => u32::try_from(numbers.len()).unwrap_or(u32::MAX),
        }
    }

    /// The cores that are asked for by their number; none where only a count is.
    pub fn numbers(&self) -> &[u32] {
        match self {
            Self::Count(_) => &[],
            Self::Numbers(numbers) => numbers,
        }
    }
}

/// As the manifest writes them: `2` or `[2, 3]`.
impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Numbers(numbers) => f.debug_list().entries(numbers).finish(),
        }
    }
}

/// How a guest's kernel is loaded and entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KernelKind {
    /// A Linux bzImage, entered by the 64-bit boot protocol, or by the 32-bit one where it has no 64-bit entry point.
    BzImage,
    /// An ELF64 executable, entered like a 64-bit Linux kernel.
    Elf64,
    /// An ELF executable, entered where its PVH note says.
    Pvh,
    /// A Multiboot 1 kernel.
    Multiboot,
}

impl KernelKind {
    /// The name that the manifest uses: `bzimage`, `elf64`, `pvh` or `multiboot`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BzImage => "bzimage",
            Self::Elf64 => "elf64",
            Self::Pvh => "pvh",
            Self::Multiboot => "multiboot",
        }
    }
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// After which end a guest is started again, from its kernel, with scrubbed memory. The operator's stop is always its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Restart {
    /// After none.
    #[default]
    Never,
    /// After a reset; a triple fault counts as one.
    OnReset,
    /// After a reset or any fault.
    OnFault,
    /// After a reset, a fault, or when it has powered itself off.
    Always,
}

impl Restart {
    /// The name that the manifest uses: `never`, `on-reset`, `on-fault` or `always`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnReset => "on-reset",
            Self::OnFault => "on-fault",
            Self::Always => "always",
        }
    }

    /// Whether it starts again when it has reset itself.
    pub const fn after_reset(self) -> bool {
        !matches!(self, Self::Never)
    }

    /// Whether it starts again when it was stopped for a fault.
    pub const fn after_fault(self) -> bool {
        matches!(self, Self::OnFault | Self::Always)
    }

    /// Whether it starts again when it has powered itself off.
    pub const fn after_power_off(self) -> bool {
        matches!(self, Self::Always)
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a guest is started first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Start {
    /// When the machine boots.
    #[default]
    AtBoot,
    /// When the operator says so.
    ByHand,
}

impl Start {
    /// The name that the manifest uses: `at-boot` or `by-hand`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtBoot => "at-boot",
            Self::ByHand => "by-hand",
        }
    }
}

/// Which of the descriptor's blobs. One that comes out of a parsed bundle is in range for that bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobIndex(pub u32);

impl fmt::Display for BlobIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a blob is, and what it must hash to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// For messages: the file's or package's name.
    pub name: String,
    /// Bytes from the start of the bundle; a multiple of 4096.
    // Fixed width, so that the descriptor's length does not depend on where the blobs behind it come to lie.
    #[serde(with = "postcard::fixint::le")]
    pub offset: u64,
    /// Bytes, at least one.
    #[serde(with = "postcard::fixint::le")]
    pub length: u64,
    /// BLAKE3 of the blob's bytes.
    pub digest: [u8; 32],
}
