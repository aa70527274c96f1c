//! Which cores.
//!
//! A physical core, with all of its threads, has one owner: threads share caches, predictors and buffers, which a guest
//! can read another's secrets from. The service core's is the hypervisor's.
//!
//! Guests that name their cores get them first. A guest that asks for a count gets threads of physical cores that nobody
//! else has: one of each while that leaves enough for the guests behind it, more only where there would be too few
//! otherwise. Two threads of a core are together little faster than one, and the threads left unused are of no use to
//! anybody else; but a plan with slower processors is better than none.

use crate::error::CannotPlan;
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

/// How many cores of a machine guests may use: not the service core, nor its threads, nor what cannot run guests.
pub fn for_guests(machine: &Machine) -> u32 {
    let count: usize = physical_cores(machine).iter().map(|core| core.threads.len()).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Finds cores for each guest, in order of its processors.
///
/// # Errors
/// The first guest that cannot have what it asks for.
pub fn place(machine: &Machine, guests: &[Request]) -> Result<Vec<Vec<Core>>, CannotPlan> {
    let mut physical = physical_cores(machine);
    let mut placed = vec![Vec::new(); guests.len()];
    let mut waiting = Vec::new();
    for (guest, request) in guests.iter().enumerate() {
        match request.cores {
            Cores::Count(count) => waiting.push(Waiting { guest, count }),
            Cores::Numbers(ref numbers) => {
                for &number in numbers {
                    let core = name(machine, &mut physical, &placed, guests, guest, number)?;
                    placed[guest].push(core);
                }
            }
        }
    }
    physical.retain(|core| core.owner.is_none());
    if let Err((short, left)) = pack(&physical, &waiting) {
        let request = &guests[short.guest];
        let (guest, wanted) = (request.name.clone(), short.count);
        return Err(CannotPlan::NoPhysicalCore { guest, wanted, left });
    }
    for (position, &Waiting { guest, count }) in waiting.iter().enumerate() {
        let chosen = choose(&physical, count, &waiting[position + 1..]);
        placed[guest] = threads(&chosen.iter().map(|&i| &physical[i]).collect::<Vec<_>>(), count);
        remove(&mut physical, chosen);
    }
    Ok(placed)
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

/// Gives a guest a core that it names.
fn name(
    machine: &Machine,
    physical: &mut [Physical],
    placed: &[Vec<Core>],
    guests: &[Request],
    index: usize,
    number: u32,
) -> Result<Core, CannotPlan> {
    let (guest, cores) = (guests[index].name.clone(), guests[index].cores.clone());
    let service = machine.cores.first().map_or(0, |core| core.number);
    let last = machine.cores.last().map_or(0, |core| core.number);
    let Some(core) = machine.cores.iter().find(|core| core.number == number) else {
        return Err(CannotPlan::NoSuchCore { guest, cores, core: number, last });
    };
    if number == service {
        return Err(CannotPlan::ServiceCore { guest, cores, core: number });
    }
    if !core.usable {
        return Err(CannotPlan::Unusable { guest, cores, core: number });
    }
    let Some(physical) =
        physical.iter_mut().find(|physical| physical.threads.iter().any(|t| t.number == number))
    else {
        return Err(CannotPlan::ServiceSibling { guest, cores, core: number });
    };
    if let Some(owner) = physical.owner {
        let other = guests[owner].name.clone();
        if placed[owner].contains(core) {
            return Err(CannotPlan::Taken { guest, cores, core: number, other });
        }
        let of_owner = physical.threads.iter().find(|thread| placed[owner].contains(thread));
        if owner != index
            && let Some(sibling) = of_owner
        {
            let sibling = sibling.number;
            return Err(CannotPlan::Sibling { guest, cores, core: number, sibling, other });
        }
    }
    physical.owner = Some(index);
    Ok(*core)
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
