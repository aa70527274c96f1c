//! Which guest gets which core and which memory.

use super::cores::{self, Core};
use crate::guest::clock::Clock;
use crate::guest::loader::Kind;
use crate::memory::{FramePool, FrameRange, LARGE_FRAME_SIZE};
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_manifest::{BlobIndex, Bundle, BundleError, Guest, KernelKind, Restart};
use core::fmt;
use log::info;

/// A guest in its place, so that it can be started, and started again.
pub struct Placed {
    /// From the manifest.
    pub name: String,
    /// The cores that are its own, by virtual APIC ID.
    pub cores: Vec<&'static Core>,
    /// Whether a reset starts it again.
    pub restart: bool,
    /// How its kernel is loaded.
    pub kind: Kind,
    /// The kernel's file.
    pub kernel: &'static [u8],
    /// The initial RAM disk's file.
    pub initrd: Option<&'static [u8]>,
    /// The kernel's command line.
    pub command_line: String,
    /// Its tag in the TLB.
    pub vpid: u16,
    /// The time.
    pub clock: Clock,
    /// Its RAM, while it does not run.
    pub frames: Option<FrameRange>,
}

/// The guests cannot be placed.
#[derive(Debug)]
pub enum CannotPlace {
    /// The bundle is damaged.
    Bundle(BundleError),
    /// No core is left for a guest.
    NoCore(String),
    /// There is no run of free memory as long as the guest's.
    NoMemory(String, u64, u64),
    /// A kernel kind that this hypervisor does not know.
    Kind(String),
}

impl fmt::Display for CannotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::NoCore(name) => write!(f, "guest \"{name}\": no core is left for it"),
            Self::NoMemory(name, wanted, largest) => write!(
                f,
                "guest \"{name}\": memory = {} MiB: the longest run of free memory is {} MiB",
                wanted >> 20,
                largest >> 20
            ),
            Self::Kind(name) => write!(f, "guest \"{name}\": its kind of kernel is not known here"),
        }
    }
}

/// Checks each guest's files and finds a core and memory for it.
pub fn place(
    bundle: &Bundle<'static>,
    mut pool: FramePool,
    clock: Clock,
) -> Result<Vec<Placed>, CannotPlace> {
    let mut free = cores::for_guests();
    let mut placed = Vec::new();
    for (index, guest) in bundle.guests().iter().enumerate() {
        let name = guest.name.clone();
        let kind = match guest.kind {
            KernelKind::BzImage => Kind::BzImage,
            KernelKind::Elf64 => Kind::Elf64,
            _ => return Err(CannotPlace::Kind(name)),
        };
        let cores: Vec<_> = free.by_ref().take(guest.cores as usize).collect();
        if cores.len() != guest.cores as usize {
            return Err(CannotPlace::NoCore(name));
        }
        let frames = pool.take(guest.memory, LARGE_FRAME_SIZE, u64::MAX).ok_or_else(|| {
            let largest = pool.largest(LARGE_FRAME_SIZE);
            CannotPlace::NoMemory(name.clone(), guest.memory, largest)
        })?;
        describe(guest, &cores, &frames);
        placed.push(Placed {
            name,
            cores,
            restart: guest.restart == Restart::OnReset,
            kind,
            kernel: checked(bundle, guest.kernel)?,
            initrd: guest.initrd.map(|index| checked(bundle, index)).transpose()?,
            command_line: guest.command_line.clone(),
            // VPID 0 is the hypervisor's (SDM Vol. 3C, 29.1).
            vpid: u16::try_from(index + 1).unwrap_or(u16::MAX),
            clock,
            frames: Some(frames),
        });
    }
    info!("plan: left over: {} cores, {} MiB", free.count(), pool.free_bytes() >> 20);
    Ok(placed)
}

fn describe(guest: &Guest, cores: &[&Core], frames: &FrameRange) {
    info!(
        "plan: guest {}: core {} (APIC ID {}), {} MiB at {}, kernel {}{}",
        guest.name,
        cores[0].index,
        cores[0].apic.0,
        frames.len() >> 20,
        frames.start(),
        guest.kind.name(),
        if guest.initrd.is_some() { ", initrd" } else { "" },
    );
}

/// A blob, after its digest has been checked.
fn checked(bundle: &Bundle<'static>, index: BlobIndex) -> Result<&'static [u8], CannotPlace> {
    let blob = bundle.blob(index).map_err(CannotPlace::Bundle)?;
    info!("checking {} ({} KiB)", blob.name, blob.length >> 10);
    bundle.verify_blob(index).map_err(CannotPlace::Bundle)
}
