//! Which guest gets which core and which memory.

use super::cores::{self, Core, State};
use crate::arch::cpu;
use crate::device::platform::Platform;
use crate::guest::clock::Clock;
use crate::guest::loader::Kind;
use crate::guest::run::Partition;
use crate::guest::shared::Shared;
use crate::memory::address_space::MapFailed;
use crate::memory::{FramePool, FrameRange, LARGE_FRAME_SIZE};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_manifest::{BlobIndex, Bundle, BundleError, Guest, KernelKind, Restart};
use core::fmt;
use log::info;
use spin::MutexGuard;

/// A guest in its place, so that it can be started, and started again.
pub struct Placed {
    /// From the manifest.
    pub name: String,
    /// The core that is its own.
    pub core: &'static Core,
    /// What its cores share with the service core; new at each start.
    pub shared: Arc<Shared>,
    /// Whether a reset starts it again.
    pub restart: bool,
    kind: Kind,
    kernel: &'static [u8],
    initrd: Option<&'static [u8]>,
    command_line: String,
    vpid: u16,
    clock: Clock,
    /// Its RAM, while it does not run.
    frames: Option<FrameRange>,
}

/// The guests cannot be placed.
#[derive(Debug)]
pub enum CannotPlace {
    /// The bundle is damaged.
    Bundle(BundleError),
    /// No core is left for a guest.
    NoCore(String),
    /// A guest wants several cores.
    Cores(String, u32),
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
            Self::Cores(name, cores) => write!(
                f,
                "guest \"{name}\": cores = {cores}: guests have one core so far; say cores = 1"
            ),
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

/// A guest does not start.
#[derive(Debug)]
pub enum CannotStart {
    /// Its memory is not there.
    NoMemory,
    /// Its memory cannot be mapped.
    Window(MapFailed),
    /// Its core is not waiting for work.
    Core(State),
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("its memory is gone"),
            Self::Window(error) => write!(f, "its memory cannot be mapped: {error:?}"),
            Self::Core(state) => write!(f, "its core is {state:?}"),
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
        if guest.cores != 1 {
            return Err(CannotPlace::Cores(name, guest.cores));
        }
        let kind = match guest.kind {
            KernelKind::BzImage => Kind::BzImage,
            KernelKind::Elf64 => Kind::Elf64,
            KernelKind::Pvh => Kind::Pvh,
            KernelKind::Multiboot => Kind::Multiboot,
            _ => return Err(CannotPlace::Kind(name)),
        };
        let core = free.next().ok_or_else(|| CannotPlace::NoCore(name.clone()))?;
        let frames = pool.take(guest.memory, LARGE_FRAME_SIZE, u64::MAX).ok_or_else(|| {
            let largest = pool.largest(LARGE_FRAME_SIZE);
            CannotPlace::NoMemory(name.clone(), guest.memory, largest)
        })?;
        describe(guest, core, &frames);
        placed.push(Placed {
            name: name.clone(),
            core,
            shared: shared(name, core),
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

fn shared(name: String, core: &Core) -> Arc<Shared> {
    Arc::new(Shared::new(name, vec![core.apic], cores::ring_service_core))
}

fn describe(guest: &Guest, core: &Core, frames: &FrameRange) {
    info!(
        "plan: guest {}: core {} (APIC ID {}), {} MiB at {}, kernel {}{}",
        guest.name,
        core.index,
        core.apic.0,
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

impl Placed {
    /// Starts the guest, with devices as after power-on. It must not be running.
    pub fn start(&mut self) -> Result<(), CannotStart> {
        let frames = self.frames.take().ok_or(CannotStart::NoMemory)?;
        self.shared = shared(self.name.clone(), self.core);
        self.core.open_window(&frames).map_err(CannotStart::Window)?;
        let started = self.core.start(Box::new(Partition {
            shared: self.shared.clone(),
            frames,
            kind: self.kind,
            kernel: self.kernel,
            initrd: self.initrd,
            command_line: self.command_line.clone(),
            vpid: self.vpid,
            clock: self.clock,
        }));
        if started { Ok(()) } else { Err(CannotStart::Core(self.core.state())) }
    }

    /// Takes the RAM back from a run that has ended.
    pub fn give_back(&mut self, frames: Option<FrameRange>) {
        self.frames = frames;
    }

    /// The time, in seconds.
    pub fn seconds(&self) -> u64 {
        self.clock.now().unix_seconds
    }

    /// The guest's devices, unless its core has died: it may have died holding them.
    pub fn platform(&self) -> Option<MutexGuard<'_, Platform>> {
        loop {
            if let Some(platform) = self.shared.platform.try_lock() {
                return Some(platform);
            }
            if self.core.state() == State::Dead {
                return None;
            }
            cpu::pause();
        }
    }
}
