//! The plan, and how it reads.

use crate::cores;
use crate::error::CannotPlan;
use crate::machine::{Core, Machine};
use crate::memory::Free;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bulkhead_manifest::{Cores, DoesNotFit, Requirements, Size};
use core::fmt;
use core::ops::Range;

/// What a guest asks for, as its manifest says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name, which no other guest has.
    pub name: String,
    /// The cores that it wants.
    pub cores: Cores,
    /// Bytes of memory; a multiple of 2 MiB.
    pub memory: u64,
    /// What its kernel is called, for the reader.
    pub kernel: String,
    /// Whether it has an initramfs, for the reader.
    pub initrd: bool,
}

/// What a guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The guest's name.
    pub name: String,
    /// Its cores; the first becomes its processor 0.
    pub cores: Vec<Core>,
    /// Its memory, host-physical: one run, aligned to 2 MiB.
    pub memory: Range<u64>,
    /// What its kernel is called.
    pub kernel: String,
    /// Whether it has an initramfs.
    pub initrd: bool,
}

/// A core that no guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// The core.
    pub core: Core,
    /// Why nobody has it.
    pub why: Why,
}

/// Why a core is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody asked for it.
    Free,
    /// The core of this number, which has an owner, is a thread of the same physical core.
    SiblingOf(u32),
    /// It cannot run guests.
    CannotRun,
}

/// Who gets what, and what is left over.
///
/// Displays as the lines that the hypervisor logs before it starts a guest: the hypervisor's share, a line for each
/// guest, their devices, and what is left over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The service core.
    pub service: Core,
    /// The hypervisor's memory.
    pub hypervisor: Vec<Range<u64>>,
    /// The guests' shares, in the manifest's order.
    pub guests: Vec<Share>,
    /// Cores that are left over, by ascending number.
    pub spare: Vec<Spare>,
    /// Memory that is left over, ascending.
    pub free: Vec<Range<u64>>,
    /// Whether what is left over of memory is an estimate.
    pub estimated: bool,
}

impl Plan {
    /// Places guests on a machine.
    ///
    /// # Errors
    /// The first thing that a guest cannot have, and what would be right.
    pub fn new(machine: &Machine, guests: &[Request]) -> Result<Self, CannotPlan> {
        let &service = machine.cores.first().ok_or(DoesNotFit::OneCore)?;
        let mut all = Requirements::default();
        for guest in guests {
            all.add(&guest.name, guest.cores.count(), guest.memory);
        }
        let mut free = Free::new(&machine.free);
        let cores = u32::try_from(machine.cores.len()).unwrap_or(u32::MAX);
        all.fit(cores, free.bytes())?;
        let placed = cores::place(machine, guests)?;
        let spare = cores::spare(machine, &placed);
        let mut shares = Vec::new();
        for (guest, cores) in guests.iter().zip(placed) {
            let Request { name, memory, kernel, initrd, .. } = guest.clone();
            let memory = free.take(memory).ok_or_else(|| CannotPlan::Memory {
                guest: name.clone(),
                wanted: memory,
                longest: free.longest(),
            })?;
            shares.push(Share { name, cores, memory, kernel, initrd });
        }
        Ok(Self {
            service,
            hypervisor: machine.hypervisor.clone(),
            guests: shares,
            spare,
            free: free.into_runs(),
            estimated: machine.estimated,
        })
    }

    /// Finds a share for one guest more on a machine whose free memory is what the others, in their places, have left. They
    /// name the cores that they have.
    ///
    /// # Errors
    /// What the guest cannot have, and what would be right.
    pub fn one_more(
        machine: &Machine,
        others: Vec<Request>,
        guest: &Request,
    ) -> Result<Share, CannotPlan> {
        let Request { name, memory, kernel, initrd, .. } = guest.clone();
        let mut guests = others;
        guests.push(guest.clone());
        let cores = cores::place(machine, &guests)?.pop().unwrap_or_default();
        let mut free = Free::new(&machine.free);
        let memory = free.take(memory).ok_or_else(|| CannotPlan::Memory {
            guest: name.clone(),
            wanted: memory,
            longest: free.longest(),
        })?;
        Ok(Share { name, cores, memory, kernel, initrd })
    }

    /// The plan of a machine on which guests have these shares; its free memory is what they have left.
    pub fn of(machine: &Machine, guests: Vec<Share>) -> Option<Self> {
        let placed: Vec<_> = guests.iter().map(|guest| guest.cores.clone()).collect();
        Some(Self {
            service: *machine.cores.first()?,
            hypervisor: machine.hypervisor.clone(),
            spare: cores::spare(machine, &placed),
            guests,
            free: Free::new(&machine.free).into_runs(),
            estimated: machine.estimated,
        })
    }

    /// Bytes of memory that are left over.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|run| run.end - run.start).fold(0, u64::saturating_add)
    }
}

/// `cores 1, 2 (APIC IDs 1, 2)`, or `core 1 (APIC ID 1)`.
fn cores_and_ids(cores: &[Core]) -> String {
    let list = |of: fn(&Core) -> u32| {
        cores.iter().map(|core| of(core).to_string()).collect::<Vec<_>>().join(", ")
    };
    let plural = if cores.len() == 1 { "" } else { "s" };
    let (numbers, ids) = (list(|core| core.number), list(|core| core.apic_id));
    alloc::format!("core{plural} {numbers} (APIC ID{plural} {ids})")
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, memory, kernel, .. } = self;
        write!(f, "guest {name}: {}, ", cores_and_ids(&self.cores))?;
        write!(f, "{} at {:#x}, ", Size(memory.end - memory.start), memory.start)?;
        write!(f, "kernel {kernel}{}", if self.initrd { ", initrd" } else { "" })
    }
}

impl fmt::Display for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.core.number)?;
        match self.why {
            Why::Free => Ok(()),
            Why::SiblingOf(core) => write!(f, " (hyper-thread of core {core})"),
            Why::CannotRun => f.write_str(" (cannot run guests)"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hypervisor: {}, ", cores_and_ids(&[self.service]))?;
        for run in &self.hypervisor {
            write!(f, "{} at {:#x}, ", Size(run.end - run.start), run.start)?;
        }
        writeln!(f, "COM1, IOAPIC, real-time clock")?;
        for guest in &self.guests {
            writeln!(f, "{guest}")?;
        }
        writeln!(f, "each guest: a virtual 16550, IOAPIC and real-time clock")?;
        f.write_str("left over: ")?;
        if self.spare.is_empty() {
            f.write_str("no core, ")?;
        }
        for spare in &self.spare {
            write!(f, "{spare}, ")?;
        }
        let about = if self.estimated { "about " } else { "" };
        write!(f, "{about}{}", Size(self.free_bytes()))
    }
}
