//! What holds of every plan, of random machines and guests.

use crate::common::*;
use bulkhead_manifest::Cores;
use bulkhead_plan::{CannotPlan, Core, Machine, Plan, Request, Why};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Up to six physical cores, some of whose threads cannot run guests, and memory in pieces.
fn machines() -> impl Strategy<Value = Machine> {
    let threads = prop::collection::vec((1..=2_u32, any::<[bool; 2]>()), 1..=6);
    let pieces = prop::collection::vec((1..4000_u64, 1..40_000_u64), 0..4);
    (threads, pieces, any::<bool>()).prop_map(|(threads, pieces, estimated)| {
        let mut machine = machine(&threads.iter().map(|(threads, _)| *threads).collect::<Vec<_>>());
        let dead = threads.iter().flat_map(|(threads, dead)| &dead[..*threads as usize]);
        for (core, dead) in machine.cores.iter_mut().zip(dead).skip(1) {
            // One in four or so.
            core.usable = !(*dead && core.apic_id.is_multiple_of(3));
        }
        let mut at = 0;
        machine.free = pieces
            .into_iter()
            .map(|(gap, pages)| {
                let start = at + gap * 4096;
                at = start + pages * 4096;
                start..at
            })
            .collect();
        machine.hypervisor = std::iter::once(at..at + 24 * MIB).collect();
        machine.estimated = estimated;
        machine
    })
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let numbers = prop::collection::vec(0..12_u32, 1..4).prop_map(Cores::Numbers);
    let cores = prop_oneof![3 => (1..=4_u32).prop_map(Cores::Count), 1 => numbers];
    prop::collection::vec((cores, 2..40_u64), 0..=4).prop_map(|guests| {
        let guests = ('a'..).zip(guests);
        guests
            .map(|(name, (cores, granules))| Request {
                memory: granules * 2 * MIB,
                ..guest(&name.to_string(), cores)
            })
            .collect()
    })
}

fn physical(machine: &Machine, core: &Core) -> u32 {
    core.apic_id >> machine.thread_bits
}

fn inside(range: &Range<u64>, of: &[Range<u64>]) -> bool {
    of.iter().any(|run| run.start <= range.start && range.end <= run.end)
}

fn bytes(runs: &[Range<u64>]) -> u64 {
    runs.iter().map(|run| run.end - run.start).sum()
}

/// Whether the guests' counts can be met, found by trying every way to give physical cores away.
fn possible(machine: &Machine, counts: &[u32]) -> bool {
    let service = physical(machine, &machine.cores[0]);
    let mut threads: BTreeMap<u32, u32> = BTreeMap::new();
    for core in machine.cores[1..].iter().filter(|core| core.usable) {
        *threads.entry(physical(machine, core)).or_default() += 1;
    }
    threads.remove(&service);
    let threads: Vec<_> = threads.into_values().collect();
    // An assignment is a number with a digit for each physical core: its owner.
    (0..counts.len().pow(threads.len() as u32)).any(|mut assignment| {
        let mut got = vec![0; counts.len()];
        for threads in &threads {
            got[assignment % counts.len()] += threads;
            assignment /= counts.len();
        }
        got.iter().zip(counts).all(|(got, count)| got >= count)
    })
}

proptest! {
    #[test]
    fn everything_has_one_owner(machine in machines(), guests in requests()) {
        let Ok(plan) = Plan::new(&machine, &guests) else { return Ok(()) };
        prop_assert_eq!(plan.guests.len(), guests.len());

        let mut owners = BTreeMap::from([(physical(&machine, &machine.cores[0]), usize::MAX)]);
        let mut seen = BTreeSet::from([0]);
        for (index, (share, request)) in plan.guests.iter().zip(&guests).enumerate() {
            prop_assert_eq!(&share.name, &request.name);
            prop_assert_eq!(share.cores.len(), request.cores.count() as usize);
            let numbers: Vec<_> = share.cores.iter().map(|core| core.number).collect();
            if let Cores::Numbers(named) = &request.cores {
                prop_assert_eq!(&numbers, named);
            } else {
                prop_assert!(numbers.is_sorted());
            }
            for core in &share.cores {
                prop_assert!(core.usable && machine.cores.contains(core));
                prop_assert!(seen.insert(core.number), "core {} twice", core.number);
                let owner = *owners.entry(physical(&machine, core)).or_insert(index);
                prop_assert_eq!(owner, index);
            }
        }
        for spare in &plan.spare {
            prop_assert!(seen.insert(spare.core.number), "core {} twice", spare.core.number);
            let owned = owners.contains_key(&physical(&machine, &spare.core));
            match spare.why {
                Why::CannotRun => prop_assert!(!spare.core.usable),
                Why::SiblingOf(_) => prop_assert!(spare.core.usable && owned),
                Why::Free => prop_assert!(spare.core.usable && !owned),
            }
        }
        prop_assert_eq!(seen.len(), machine.cores.len());

        let mut runs: Vec<_> = plan.free.clone();
        for (share, request) in plan.guests.iter().zip(&guests) {
            let memory = &share.memory;
            prop_assert_eq!(memory.end - memory.start, request.memory);
            prop_assert!(memory.start.is_multiple_of(2 * MIB) && inside(memory, &machine.free));
            runs.push(memory.clone());
        }
        runs.sort_by_key(|run| run.start);
        prop_assert!(runs.is_sorted_by(|one, next| one.end <= next.start), "{runs:?}");
        prop_assert_eq!(bytes(&runs), bytes(&machine.free));
    }

    #[test]
    fn there_is_a_plan_whenever_there_can_be_one(
        mut machine in machines(),
        wanted in prop::collection::vec(1..=4_u32, 1..=4),
    ) {
        machine.free = std::iter::once(0..1024 * MIB).collect();
        let plan = Plan::new(&machine, &counts(&wanted));
        prop_assert_eq!(plan.is_ok(), possible(&machine, &wanted), "{:?}", plan);
    }

    #[test]
    fn no_guest_shares_with_itself_while_there_are_enough_physical_cores(
        wanted in prop::collection::vec(1..=3_u32, 1..=4),
    ) {
        let machine = machine(&vec![2; wanted.iter().sum::<u32>() as usize + 1]);
        let plan = Plan::new(&machine, &counts(&wanted)).unwrap();
        for share in plan.guests {
            let used: BTreeSet<_> = share.cores.iter().map(|core| physical(&machine, core)).collect();
            prop_assert_eq!(used.len(), share.cores.len());
        }
    }

    #[test]
    fn a_refusal_names_a_guest_that_is_there(machine in machines(), guests in requests()) {
        match Plan::new(&machine, &guests) {
            Ok(_) | Err(CannotPlan::DoesNotFit(_)) => {}
            Err(error) => {
                let message = error.to_string();
                let named = guests.iter().any(|g| message.starts_with(&format!("guest \"{}\": ", g.name)));
                prop_assert!(named && !message.contains('\n'), "{message}");
            }
        }
    }

    #[test]
    fn a_machine_is_read_as_it_is_written(machine in machines()) {
        let log = format!("[   0.391235] plan: {machine}\r\n");
        prop_assert_eq!(Machine::find_in(&log), Ok(machine));
    }

    #[test]
    fn no_line_makes_reading_panic(machine in machines(), cut in any::<prop::sample::Index>(), with in ".{0,3}") {
        let mut line: String = machine.to_string();
        let at = cut.index(line.len());
        if line.is_char_boundary(at) {
            line.replace_range(at..(at + 1).min(line.len()), &with);
        }
        if let Ok(machine) = Machine::find_in(&line) {
            let _ = Plan::new(&machine, &counts(&[1, 2]));
        }
    }
}
