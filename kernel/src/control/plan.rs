//! Which guest gets which core and which memory.

use super::cores::{self, Core, State};
use super::estate::Estate;
use crate::arch::topology;
use crate::guest::clock::Clock;
use crate::guest::loader::Kind;
use crate::guest::startup::timed;
use crate::memory::address_space::{MapFailed, Window};
use crate::memory::{FramePool, FrameRange};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bulkhead_manifest::{
    BlobIndex, Bundle, BundleError, Cores, KernelKind, Restart, Start, Suspicion, Tenure,
};
use bulkhead_plan::footprint::{Demand, Footprint, Own};
use bulkhead_plan::{CannotPlan, Machine, Plan, Request, Share};
use core::fmt;
use core::ops::Range;
use log::info;

/// A guest of the bundle, and where it is, so that it can be started, and started again.
pub struct Definition {
    /// From the manifest.
    pub name: String,
    /// The cores and the bytes of memory that the manifest asks for.
    pub wanted: (Cores, u64),
    /// When it is started again.
    pub restart: Restart,
    /// When it is started first.
    pub start: Start,
    /// Whose it is, what for, and until when.
    pub tenure: Tenure,
    /// What puts it into quarantine by itself.
    pub suspicion: Suspicion,
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
    /// What it has of the machine.
    pub place: Option<Place>,
}

/// Cores and memory that are one guest's.
pub struct Place {
    /// The cores, in the order of the guest's processors; at least one.
    pub cores: Vec<&'static Core>,
    /// Bytes of its RAM.
    pub memory: u64,
    /// The RAM, while the guest does not run.
    pub frames: Option<FrameRange>,
    /// Where the RAM is, for the reader.
    pub at: Range<u64>,
    /// The window to it.
    pub window: Window,
    /// What the hypervisor has set aside for the guest.
    pub own: Own,
}

impl Definition {
    /// What it makes the hypervisor need memory for, on so many cores and with so many bytes of memory.
    pub fn demand(&self, cores: u32, memory: u64) -> Demand {
        let kernel = &self.files.kernel.name;
        let text = text(&self.name, kernel, &self.command_line, &self.tenure);
        Demand { cores, memory, text }
    }

    /// What it makes the hypervisor need memory for now.
    pub fn own(&self) -> Own {
        self.place.as_ref().map_or_else(|| Own::of(&self.demand(0, 0)), |place| place.own)
    }

    /// What it asks of a plan.
    pub fn request(&self, cores: Cores, memory: u64) -> Request {
        Request {
            name: self.name.clone(),
            cores,
            memory,
            kernel: self.files.kernel.name.clone(),
            initrd: self.initrd.is_some(),
        }
    }
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
    /// What is planned for a guest is not there.
    Place(String, NoPlace),
    /// A kernel kind that this hypervisor does not know.
    Kind(String),
}

impl fmt::Display for CannotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
            Self::Place(name, why) => write!(f, "guest \"{name}\": {why}"),
            Self::Kind(name) => write!(f, "guest \"{name}\": its kind of kernel is not known here"),
        }
    }
}

/// What is planned for a guest is not there: a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// A core or memory of the plan's is not free.
    NotFree,
    /// The memory that was set aside for page tables is not enough, or in use.
    Window(MapFailed),
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFree => f.write_str("what is planned for it is not free: a defect"),
            Self::Window(error) => {
                write!(f, "its memory cannot be mapped: {error:?}: a defect")
            }
        }
    }
}

impl Place {
    /// Takes what a plan gives to a guest out of the free memory.
    ///
    /// # Errors
    /// If that is not there.
    pub fn new(share: &Share, free: &mut FramePool, own: Own) -> Result<Self, NoPlace> {
        let core =
            |core: &bulkhead_plan::Core| cores::all().get(usize::try_from(core.number).ok()?);
        let cores: Option<Vec<_>> = share.cores.iter().map(core).collect();
        let cores = cores.ok_or(NoPlace::NotFree)?;
        let frames = free.take_at(share.memory.clone()).ok_or(NoPlace::NotFree)?;
        match Window::new(&frames, &mut cores::tables().lock()) {
            Ok(window) => Ok(Self {
                cores,
                memory: frames.len(),
                at: share.memory.clone(),
                frames: Some(frames),
                window,
                own,
            }),
            Err(error) => {
                free.give_back(frames);
                Err(NoPlace::Window(error))
            }
        }
    }
}

/// Makes the plan, logs it, and takes what it gives to each guest out of the free memory. Then checks each guest's files.
/// What is left over is the estate's.
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
) -> Result<(Vec<Definition>, Estate, u64), CannotPlace> {
    let hypervisor = joined(hypervisor);
    let machine = machine(&pool, &hypervisor);
    info!("plan: {machine}");
    let plan = Plan::new(&machine, &requests(bundle)?).map_err(CannotPlace::Plan)?;
    for line in plan.to_string().lines() {
        info!("plan: {line}");
    }
    let (mut guests, mut digests) = (Vec::new(), 0);
    let mut checked = |index| {
        let (file, ticks) = timed(|| checked(bundle, index));
        digests += ticks;
        file
    };
    let shares = bundle.guests().iter().zip(plan.guests).zip(&footprint.guests);
    for (index, ((guest, share), &own)) in shares.enumerate() {
        let name = guest.name.clone();
        let kind = match guest.kind {
            KernelKind::BzImage => Kind::BzImage,
            KernelKind::Elf64 => Kind::Elf64,
            KernelKind::Pvh => Kind::Pvh,
            KernelKind::Multiboot => Kind::Multiboot,
            _ => return Err(CannotPlace::Kind(name)),
        };
        let place = Place::new(&share, &mut pool, own)
            .map_err(|why| CannotPlace::Place(name.clone(), why))?;
        guests.push(Definition {
            name,
            wanted: (guest.cores.clone(), guest.memory),
            restart: guest.restart,
            start: guest.start,
            tenure: guest.tenure.clone(),
            suspicion: guest.suspicion,
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
            place: Some(place),
        });
    }
    let quotas = bundle.descriptor().quotas.clone();
    let estate = Estate::new(pool, hypervisor, footprint.for_guests(), quotas);
    Ok((guests, estate, digests))
}

/// This machine, as the plan sees it: `free` is its free memory, `hypervisor` what is the hypervisor's, joined.
pub fn machine(pool: &FramePool, hypervisor: &[Range<u64>]) -> Machine {
    let mut free: Vec<_> = pool.pieces().collect();
    free.sort_by_key(|piece| piece.start);
    Machine {
        cores: cores::all().iter().map(core).collect(),
        thread_bits: topology::thread_bits(),
        hypervisor: hypervisor.to_vec(),
        free,
        estimated: false,
    }
}

/// A core, as the plan sees it.
pub fn core(core: &Core) -> bulkhead_plan::Core {
    bulkhead_plan::Core {
        number: u32::try_from(core.index).unwrap_or(u32::MAX),
        apic_id: core.apic.0,
        usable: matches!(core.state(), State::Parked | State::Running),
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
        let kernel = bundle.blob(guest.kernel).map_or("", |blob| &blob.name);
        Demand {
            cores: guest.cores.count(),
            memory: guest.memory,
            text: text(&guest.name, kernel, &guest.command_line, &guest.tenure),
        }
    })
}

/// Bytes of a guest's texts that the hypervisor keeps.
fn text(name: &str, kernel: &str, command_line: &str, tenure: &Tenure) -> usize {
    name.len() + kernel.len() + command_line.len() + tenure.text()
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
