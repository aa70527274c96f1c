//! What is no guest's: free memory, and what the hypervisor has set aside to serve guests. A guest that is defined gets
//! its place out of it, one that is destroyed gives it back.

use super::cores;
use super::plan::{self, Definition, NoPlace, Place};
use crate::memory::FramePool;
use alloc::vec::Vec;
use bulkhead_manifest::policy::{self, PolicyFault, Subject};
use bulkhead_manifest::{Cores, Quota};
use bulkhead_plan::footprint::{KIB, Own};
use bulkhead_plan::{CannotPlan, Machine, Plan, Request, Share};
use core::fmt;
use core::ops::Range;

/// What is no guest's.
pub struct Estate {
    free: FramePool,
    /// Memory that the hypervisor keeps, for the reader.
    hypervisor: Vec<Range<u64>>,
    /// What is set aside for all guests together.
    set_aside: Own,
    /// How much of the machine owners may have.
    quotas: Vec<Quota>,
    /// What of that is set aside a core that has failed may still use.
    lost: Own,
}

/// A guest cannot have the place that is wanted for it.
#[derive(Debug)]
pub enum CannotDefine {
    /// The machine has not what is wanted.
    Plan(CannotPlan),
    /// Its owner may not have so much.
    Quota(PolicyFault),
    /// The hypervisor has not set aside so much to serve it.
    Own {
        /// For it and the others, and what is lost.
        needed: Own,
        /// What there is.
        there: Own,
        /// Whether some of it is lost.
        lost: bool,
    },
    /// What was planned is not there.
    Place(NoPlace),
}

impl fmt::Display for CannotDefine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Quota(error) => error.fmt(f),
            Self::Own { needed, there, lost } => write!(
                f,
                "with the others{} it would take {} KiB of the hypervisor's heap and {} KiB of its tables, and {} KiB and \
                 {} KiB were set aside at boot; give it fewer cores or less memory",
                if *lost { ", and what a failed core may use," } else { "" },
                needed.heap.div_ceil(KIB),
                needed.frames().div_ceil(KIB),
                there.heap / KIB,
                there.frames() / KIB
            ),
            Self::Place(error) => error.fmt(f),
        }
    }
}

/// Some of what a guest had is lost until the next boot: one of its cores has failed, and may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Estate {
    /// What a boot has left, with what it has set aside for guests, those in their places among them.
    pub fn new(
        free: FramePool,
        hypervisor: Vec<Range<u64>>,
        set_aside: Own,
        quotas: Vec<Quota>,
    ) -> Self {
        Self { free, hypervisor, set_aside, quotas, lost: Own::default() }
    }

    /// A place for a guest that has none, beside all the others.
    ///
    /// # Errors
    /// What it cannot have, and what would be right. Nothing has been taken then.
    pub fn give<'a>(
        &mut self,
        guest: &Definition,
        others: impl Iterator<Item = &'a Definition> + Clone,
        wanted: (Cores, u64),
    ) -> Result<Place, CannotDefine> {
        let (cores, memory) = wanted;
        let subject = subject(guest, cores.count(), memory);
        let in_place = others.clone().filter_map(|other| {
            let place = other.place.as_ref()?;
            Some(self::subject(other, place.cores.len() as u32, place.memory))
        });
        policy::within(&self.quotas, subject.owner, in_place.chain([subject]))
            .map_err(|over| CannotDefine::Quota(over.of(subject)))?;
        let own = Own::of(&guest.demand(cores.count(), memory));
        let all = others.clone().fold(own.and(&self.lost), |sum, other| sum.and(&other.own()));
        let machine = plan::machine(&self.free, &self.hypervisor);
        let requests = others.filter_map(|other| in_its_place(other, &machine)).collect();
        let share = Plan::one_more(&machine, requests, &guest.request(cores, memory))
            .map_err(CannotDefine::Plan)?;
        if !all.fits(&self.set_aside) {
            let (there, lost) = (self.set_aside, self.lost != Own::default());
            return Err(CannotDefine::Own { needed: all, there, lost });
        }
        Place::new(&share, &mut self.free, own).map_err(CannotDefine::Place)
    }

    /// Takes back what a guest had that does not run: its cores forget its memory, which was wiped when it stopped.
    ///
    /// # Errors
    /// If a core has failed. One that does not answer within `limit` ticks of the TSC has.
    pub fn take_back(&mut self, place: Place, limit: u64) -> Result<(), Lost> {
        let Place { cores, frames, window, own, .. } = place;
        // Each of them, whatever comes of the first.
        let closed: Vec<_> = cores.iter().map(|core| core.close(limit)).collect();
        let Some(frames) = frames.filter(|_| closed.iter().all(|&closed| closed)) else {
            self.lost = self.lost.and(&own);
            return Err(Lost);
        };
        // SAFETY: no core has the window open any more.
        unsafe { window.give_back(&mut cores::tables().lock()) };
        self.free.give_back(frames);
        Ok(())
    }

    /// The plan as it is with these guests; `None` without a core.
    pub fn plan<'a>(&self, guests: impl Iterator<Item = &'a Definition>) -> Option<Plan> {
        let machine = plan::machine(&self.free, &self.hypervisor);
        let share = |guest: &Definition| {
            let Place { cores, at, .. } = guest.place.as_ref()?;
            let Request { name, kernel, initrd, .. } = in_its_place(guest, &machine)?;
            let cores = cores.iter().map(|core| plan::core(core)).collect();
            Some(Share { name, cores, memory: at.clone(), kernel, initrd })
        };
        Plan::of(&machine, guests.filter_map(share).collect())
    }
}

fn subject(guest: &Definition, cores: u32, memory: u64) -> Subject<'_> {
    let (owner, classification) = (&guest.tenure.owner, &guest.tenure.classification);
    Subject { name: &guest.name, owner, classification, cores, memory }
}

/// What a guest would ask for to get what it has. A core that has failed is not asked for: it is nobody's.
fn in_its_place(guest: &Definition, machine: &Machine) -> Option<Request> {
    let place = guest.place.as_ref()?;
    let is_its = |core: &bulkhead_plan::Core| {
        place.cores.iter().any(|its| its.index == core.number as usize)
    };
    // As the plan finds them: one may fail meanwhile.
    let cores = machine.cores.iter().filter(|core| core.usable && is_its(core));
    let cores = Cores::Numbers(cores.map(|core| core.number).collect());
    Some(guest.request(cores, place.memory))
}
