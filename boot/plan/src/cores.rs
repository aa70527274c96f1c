//! Which cores.
//!
//! A physical core, with all of its threads, has one owner: threads share caches, predictors and buffers, which a guest
//! can read another's secrets from. The service core's is the hypervisor's.
//!
//! Guests that name their cores get them first. A guest that asks for a count gets threads of physical cores that nobody
//! else has: one of each while that leaves enough for the guests behind it, more only where there would be too few
//! otherwise. Two threads of a core are together little faster than one, and the threads left unused are of no use to
//! anybody else; but a plan with slower processors is better than none.

use crate::error::{CannotPlan, NotToBeHad};
use crate::machine::{Core, Machine};
use crate::plan::{Request, Spare, Why};
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_manifest::Cores;

/// A physical core, not the service core's.
struct Physical {
    /// What the APIC IDs of its threads have in common.
    id: u32,
    /// Its threads that can run guests, by ascending number; at least one.
    threads: Vec<Core>,
    /// Position of the guest that owns it.
    owner: Option<usize>,
}

/// A guest that waits for so many cores.
#[derive(Clone, Copy)]
struct Waiting {
    /// Its position.
    guest: usize,
    count: u32,
}

/// The placing of guests, on its way.
struct Placement<'a> {
    machine: &'a Machine,
    guests: &'a [Request],
    physical: Vec<Physical>,
    /// The cores of each guest, in the order of its processors.
    placed: Vec<Vec<Core>>,
}

/// Finds cores for each guest, in the order of its processors.
///
/// # Errors
/// The first guest that cannot have what it asks for.
pub fn place(machine: &Machine, guests: &[Request]) -> Result<Vec<Vec<Core>>, CannotPlan> {
    let placed = vec![Vec::new(); guests.len()];
    let mut all = Placement { machine, guests, physical: physical_cores(machine), placed };
    let usable = all.physical.iter().map(threads_of).sum();
    let mut waiting = Vec::new();
    for (guest, request) in guests.iter().enumerate() {
        match request.cores {
            Cores::Count(count) => waiting.push(Waiting { guest, count }),
            Cores::Numbers(ref numbers) => {
                for &core in numbers {
                    let (guest_name, cores) = (&request.name, &request.cores);
                    all.give(guest, core).map_err(|why| CannotPlan::Named {
                        guest: guest_name.clone(),
                        cores: cores.clone(),
                        core,
                        why,
                    })?;
                }
            }
        }
    }
    all.give_counts(&waiting).map_err(|(short, left)| CannotPlan::NoPhysicalCore {
        guest: guests[short.guest].name.clone(),
        wanted: short.count,
        left,
        usable,
    })?;
    Ok(all.placed)
}

impl Placement<'_> {
    /// Gives a guest a core that it names.
    fn give(&mut self, guest: usize, number: u32) -> Result<(), NotToBeHad> {
        let cores = &self.machine.cores;
        let core = *cores
            .iter()
            .find(|core| core.number == number)
            .ok_or(NotToBeHad::NotThere { last: cores.last().map_or(0, |core| core.number) })?;
        if cores.first() == Some(&core) {
            return Err(NotToBeHad::ServiceCore);
        }
        if !core.usable {
            return Err(NotToBeHad::Unusable);
        }
        let physical = self
            .physical
            .iter_mut()
            .find(|physical| physical.threads.contains(&core))
            .ok_or(NotToBeHad::ServiceSibling)?;
        if let Some(owner) = physical.owner {
            let (owned, other) = (&self.placed[owner], self.guests[owner].name.clone());
            if owned.contains(&core) {
                return Err(NotToBeHad::Taken { other });
            }
            let sibling = physical.threads.iter().find(|thread| owned.contains(thread));
            if let Some(sibling) = sibling.filter(|_| owner != guest) {
                return Err(NotToBeHad::Sibling { sibling: sibling.number, other });
            }
        }
        physical.owner = Some(guest);
        self.placed[guest].push(core);
        Ok(())
    }

    /// Gives cores to the guests that ask for a count.
    ///
    /// # Errors
    /// The first guest that cannot have so many, and how many are left for it.
    fn give_counts(&mut self, waiting: &[Waiting]) -> Result<(), (Waiting, u32)> {
        let free = &mut self.physical;
        free.retain(|core| core.owner.is_none());
        pack(free, waiting)?;
        for (position, &Waiting { guest, count }) in waiting.iter().enumerate() {
            let chosen = choose(free, count, &waiting[position + 1..]);
            let physical: Vec<_> = chosen.iter().map(|&i| &free[i]).collect();
            self.placed[guest] = threads(&physical, count);
            remove(free, chosen);
        }
        Ok(())
    }
}

/// What is left over, and why.
pub fn spare(machine: &Machine, placed: &[Vec<Core>]) -> Vec<Spare> {
    let id = |core: &Core| core.physical(machine.thread_bits);
    let Some((service, others)) = machine.cores.split_first() else { return Vec::new() };
    let used = || placed.iter().flatten();
    others
        .iter()
        .filter(|core| used().all(|other| other.number != core.number))
        .map(|&core| {
            let sibling = core::iter::once(service).chain(used()).find(|o| id(o) == id(&core));
            let why = match sibling {
                _ if !core.usable => Why::CannotRun,
                Some(sibling) => Why::SiblingOf(sibling.number),
                None => Why::Free,
            };
            Spare { core, why }
        })
        .collect()
}

fn physical_cores(machine: &Machine) -> Vec<Physical> {
    let Some((service, others)) = machine.cores.split_first() else { return Vec::new() };
    let mut all: Vec<Physical> = Vec::new();
    for core in others.iter().filter(|core| core.usable) {
        let id = core.physical(machine.thread_bits);
        if id == service.physical(machine.thread_bits) {
            continue;
        }
        match all.iter_mut().find(|physical| physical.id == id) {
            Some(physical) => physical.threads.push(*core),
            None => all.push(Physical { id, threads: vec![*core], owner: None }),
        }
    }
    all
}

/// Which of the free physical cores a guest gets, by ascending position. There are enough for it and for those behind
/// it, as [`pack`] has found.
fn choose(free: &[Physical], count: u32, behind: &[Waiting]) -> Vec<usize> {
    let most = usize::try_from(count).unwrap_or(usize::MAX).min(free.len());
    // As many physical cores as possible.
    for n in (1..=most).rev() {
        let chosen = &free[..n];
        if chosen.iter().map(threads_of).sum::<u32>() >= count && pack(&free[n..], behind).is_ok() {
            return (0..n).collect();
        }
    }
    // Where physical cores differ in threads, the first ones can be those that others need.
    pack_one(&free.iter().map(threads_of).collect::<Vec<_>>(), count).unwrap_or_default()
}

/// Whether all of these guests find room if each takes as few physical cores as it can. This misses no way to place
/// them where physical cores have one or two threads.
///
/// # Errors
/// The first guest that finds none, and the threads that are left for it.
fn pack(free: &[Physical], guests: &[Waiting]) -> Result<(), (Waiting, u32)> {
    let mut free: Vec<u32> = free.iter().map(threads_of).collect();
    for &guest in guests {
        let chosen = pack_one(&free, guest.count).ok_or((guest, free.iter().sum()))?;
        remove(&mut free, chosen);
    }
    Ok(())
}

/// The positions of physical cores, given by their threads, that together have `count` and waste least: the largest that
/// are needed whole, then the smallest that holds what is left.
fn pack_one(free: &[u32], count: u32) -> Option<Vec<usize>> {
    let mut chosen = Vec::new();
    let mut missing = count;
    while missing > 0 {
        let left = || free.iter().enumerate().filter(|(i, _)| !chosen.contains(i));
        let whole =
            left().filter(|&(_, &n)| n <= missing).max_by_key(|&(i, &n)| (n, usize::MAX - i));
        let (position, threads) = whole.or_else(|| left().min_by_key(|&(i, &n)| (n, i)))?;
        missing = missing.saturating_sub(*threads);
        chosen.push(position);
    }
    chosen.sort_unstable();
    Some(chosen)
}

/// `count` threads of physical cores: one of each, then the second of each and so on; by ascending number.
fn threads(physical: &[&Physical], count: u32) -> Vec<Core> {
    let most = physical.iter().map(|core| core.threads.len()).max().unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut chosen: Vec<_> = (0..most)
        .flat_map(|depth| physical.iter().filter_map(move |core| core.threads.get(depth)))
        .copied()
        .take(count)
        .collect();
    chosen.sort_by_key(|core| core.number);
    chosen
}

fn threads_of(core: &Physical) -> u32 {
    u32::try_from(core.threads.len()).unwrap_or(u32::MAX)
}

/// Removes the elements at ascending positions.
fn remove<T>(from: &mut Vec<T>, positions: Vec<usize>) {
    for position in positions.into_iter().rev() {
        from.remove(position);
    }
}
