//! Which guest gets which core and which memory.

use super::cores::{self, Core, State};
use crate::arch::topology;
use crate::guest::clock::Clock;
use crate::guest::loader::Kind;
use crate::guest::startup::timed;
use crate::memory::address_space::{MapFailed, Window};
use crate::memory::{FramePool, FrameRange};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bulkhead_manifest::{BlobIndex, Bundle, BundleError, KernelKind, Restart, Start, Tenure};
use bulkhead_plan::footprint::{Demand, Footprint, Own};
use bulkhead_plan::{CannotPlan, Machine, Plan, Request, Share};
use core::fmt;
use core::ops::Range;
use log::info;

/// A guest in its place, so that it can be started, and started again.
pub struct Placed {
    /// From the manifest.
    pub name: String,
    /// The cores that are its own, in the order of its processors; at least one.
    pub cores: Vec<&'static Core>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether it is started when the machine boots.
    pub at_boot: bool,
    /// Whose it is, what for, and until when.
    pub tenure: Tenure,
    /// How its kernel is loaded.
    pub kind: Kind,
    /// What is known of its files.
    pub files: Files,
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
    /// Bytes of its RAM.
    pub memory: u64,
    /// Its RAM, while it does not run.
    pub frames: Option<FrameRange>,
    /// The window to its RAM.
    pub window: Window,
    /// What the hypervisor has set aside for it.
    pub own: Own,
}

/// What a guest's files are called, and what they hash to.
pub struct Files {
    /// Of the kernel.
    pub kernel: File,
    /// Of the initial RAM disk.
    pub initrd: Option<File>,
}

/// One file.
pub struct File {
    /// From the bundle.
    pub name: String,
    /// Its BLAKE3, which has been checked.
    pub digest: [u8; 32],
}

/// The guests cannot be placed.
#[derive(Debug)]
pub enum CannotPlace {
    /// The bundle is damaged.
    Bundle(BundleError),
    /// The machine has not what the guests want.
    Plan(CannotPlan),
    /// A core or memory of the plan's is not there: a defect.
    Planned(String),
    /// The memory that was set aside for page tables is not enough, or in use: a defect.
    Window(String, MapFailed),
    /// A kernel kind that this hypervisor does not know.
    Kind(String),
}

impl fmt::Display for CannotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
            Self::Planned(name) => {
                write!(f, "guest \"{name}\": what is planned for it is not free: a defect")
            }
            Self::Window(name, error) => {
                write!(f, "guest \"{name}\": its memory cannot be mapped: {error:?}: a defect")
            }
            Self::Kind(name) => write!(f, "guest \"{name}\": its kind of kernel is not known here"),
        }
    }
}

/// Makes the plan, logs it, and takes what it gives to each guest out of the free memory. Then checks each guest's files.
///
/// `hypervisor` is what the hypervisor keeps of the memory, for the log; `footprint` what of it is each guest's. Says how
/// many ticks the digests took.
///
/// # Errors
/// The first guest that cannot have what it wants, or whose files are damaged.
pub fn place(
    bundle: &Bundle<'static>,
    mut pool: FramePool,
    hypervisor: &[Range<u64>],
    footprint: &Footprint,
    clock: Clock,
) -> Result<(Vec<Placed>, u64), CannotPlace> {
    let machine = machine(&pool, hypervisor);
    info!("plan: {machine}");
    let plan = Plan::new(&machine, &requests(bundle)?).map_err(CannotPlace::Plan)?;
    for line in plan.to_string().lines() {
        info!("plan: {line}");
    }
    let (mut placed, mut digests) = (Vec::new(), 0);
    let mut checked = |index| {
        let (file, ticks) = timed(|| checked(bundle, index));
        digests += ticks;
        file
    };
    let guests = bundle.guests().iter().zip(plan.guests).zip(&footprint.guests);
    for (index, ((guest, share), &own)) in guests.enumerate() {
        let Share { name, cores, memory, .. } = share;
        let kind = match guest.kind {
            KernelKind::BzImage => Kind::BzImage,
            KernelKind::Elf64 => Kind::Elf64,
            KernelKind::Pvh => Kind::Pvh,
            KernelKind::Multiboot => Kind::Multiboot,
            _ => return Err(CannotPlace::Kind(name)),
        };
        let planned = || CannotPlace::Planned(name.clone());
        let cores: Option<Vec<_>> =
            cores.iter().map(|core| cores::all().get(usize::try_from(core.number).ok()?)).collect();
        let cores = cores.ok_or_else(planned)?;
        let frames = pool.take_at(memory).ok_or_else(planned)?;
        let window = Window::new(&frames, &mut cores::tables().lock())
            .map_err(|error| CannotPlace::Window(name.clone(), error))?;
        placed.push(Placed {
            name,
            cores,
            restart: guest.restart,
            at_boot: guest.start == Start::AtBoot,
            tenure: guest.tenure.clone(),
            kind,
            files: Files {
                kernel: file(bundle, guest.kernel)?,
                initrd: guest.initrd.map(|index| file(bundle, index)).transpose()?,
            },
            kernel: checked(guest.kernel)?,
            initrd: guest.initrd.map(&mut checked).transpose()?,
            command_line: guest.command_line.clone(),
            // VPID 0 is the hypervisor's (SDM Vol. 3C, 29.1).
            vpid: u16::try_from(index + 1).unwrap_or(u16::MAX),
            clock,
            memory: guest.memory,
            frames: Some(frames),
            window,
            own,
        });
    }
    Ok((placed, digests))
}

/// This machine, as the plan sees it.
fn machine(pool: &FramePool, hypervisor: &[Range<u64>]) -> Machine {
    let core = |core: &Core| bulkhead_plan::Core {
        number: u32::try_from(core.index).unwrap_or(u32::MAX),
        apic_id: core.apic.0,
        usable: core.state() == State::Parked,
    };
    let mut free: Vec<_> = pool.pieces().collect();
    free.sort_by_key(|piece| piece.start);
    Machine {
        cores: cores::all().iter().map(core).collect(),
        thread_bits: topology::thread_bits(),
        hypervisor: joined(hypervisor),
        free,
        estimated: false,
    }
}

/// The same memory with as few ranges as it takes, ascending.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let touch = before.end == next.start;
        if touch {
            before.end = next.end;
        }
        touch
    });
    ranges
}

/// What the bundle's guests want.
fn requests(bundle: &Bundle<'_>) -> Result<Vec<Request>, CannotPlace> {
    let request = |guest: &bulkhead_manifest::Guest| {
        Ok(Request {
            name: guest.name.clone(),
            cores: guest.cores.clone(),
            memory: guest.memory,
            kernel: bundle.blob(guest.kernel).map_err(CannotPlace::Bundle)?.name.clone(),
            initrd: guest.initrd.is_some(),
        })
    };
    bundle.guests().iter().map(request).collect()
}

/// What the bundle's guests make the hypervisor need memory for.
pub fn demands(bundle: &Bundle<'_>) -> impl Iterator<Item = Demand> {
    bundle.guests().iter().map(|guest| {
        let kernel = bundle.blob(guest.kernel).map_or(0, |blob| blob.name.len());
        Demand {
            cores: guest.cores.count(),
            memory: guest.memory,
            text: guest.name.len() + kernel + guest.command_line.len() + guest.tenure.text(),
        }
    })
}

fn file(bundle: &Bundle<'static>, index: BlobIndex) -> Result<File, CannotPlace> {
    let blob = bundle.blob(index).map_err(CannotPlace::Bundle)?;
    Ok(File { name: blob.name.clone(), digest: blob.digest })
}

/// A blob, after its digest has been checked.
fn checked(bundle: &Bundle<'static>, index: BlobIndex) -> Result<&'static [u8], CannotPlace> {
    let blob = bundle.blob(index).map_err(CannotPlace::Bundle)?;
    info!("checking {} ({} KiB)", blob.name, blob.length >> 10);
    bundle.verify_blob(index).map_err(CannotPlace::Bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_joined() {
        let ranges = [0x30..0x40, 0x10..0x20, 0x20..0x30, 0x50..0x60];
        assert_eq!(joined(&ranges), [0x10..0x40, 0x50..0x60]);
        assert_eq!(joined(&[]), []);
    }
}
