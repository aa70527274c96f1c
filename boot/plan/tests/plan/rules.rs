//! Who gets what, in examples.

use crate::common::*;
use bulkhead_manifest::Cores;
use bulkhead_plan::{Machine, Plan, Request};

/// The numbers of each guest's cores.
fn cores(machine: &Machine, guests: &[Request]) -> Vec<Vec<u32>> {
    let plan = Plan::new(machine, guests).unwrap_or_else(|error| panic!("{error}"));
    plan.guests.iter().map(|share| share.cores.iter().map(|core| core.number).collect()).collect()
}

#[test]
fn without_hyper_threads_each_gets_the_next_cores() {
    assert_eq!(cores(&machine(&[1; 5]), &counts(&[1, 2, 1])), [vec![1], vec![2, 3], vec![4]]);
}

#[test]
fn one_thread_of_each_physical_core_while_there_are_enough() {
    // Cores 0 and 1 are the service core's, then 2 and 3, 4 and 5, 6 and 7.
    assert_eq!(cores(&machine(&[2; 4]), &counts(&[2, 1])), [vec![2, 4], vec![6]]);
}

#[test]
fn both_threads_where_there_would_be_too_few() {
    assert_eq!(cores(&machine(&[2; 4]), &counts(&[4])), [[2, 3, 4, 6]]);
    assert_eq!(cores(&machine(&[2; 4]), &counts(&[3, 1])), [vec![2, 3, 4], vec![6]]);
    // The first guest leaves a whole core for each of those behind it, which is all that they need.
    assert_eq!(cores(&machine(&[2; 4]), &counts(&[2, 2, 2])), [[2, 3], [4, 5], [6, 7]]);
}

#[test]
fn a_guest_takes_no_physical_core_that_another_cannot_do_without() {
    // Of the cores behind the service core the first has two threads: `b` needs those, and `a` can do without.
    let machine = machine(&[1, 2, 1]);
    assert_eq!(cores(&machine, &counts(&[1, 2])), [vec![3], vec![1, 2]]);
}

#[test]
fn those_that_name_cores_are_placed_first_and_in_their_order() {
    let guests = [guest("a", Cores::Count(2)), named("b", &[3, 1])];
    assert_eq!(cores(&machine(&[1; 5]), &guests), [[2, 4], [3, 1]]);
    // Naming one thread takes the physical core.
    let guests = [guest("a", Cores::Count(1)), named("b", &[3])];
    assert_eq!(cores(&machine(&[2; 3]), &guests), [[4], [3]]);
    // Naming both is possible, too.
    assert_eq!(cores(&machine(&[2; 3]), &[named("a", &[3, 2]), named("b", &[4])])[0], [3, 2]);
}

#[test]
fn a_core_that_cannot_run_guests_is_passed_over() {
    let mut machine = machine(&[2; 3]);
    machine.cores[2].usable = false;
    assert_eq!(cores(&machine, &counts(&[1, 1])), [[3], [4]]);
}

#[test]
fn memory_is_given_from_the_top_in_the_order_of_the_manifest() {
    let mut guests = [named("a", &[2]), named("b", &[1]), named("c", &[3])];
    guests[1].memory = 512 * MIB;
    let plan = Plan::new(&machine(&[1; 4]), &guests).unwrap();
    let memory: Vec<_> = plan.guests.iter().map(|share| share.memory.clone()).collect();
    assert_eq!(memory, [1008 * MIB..1024 * MIB, 496 * MIB..1008 * MIB, 480 * MIB..496 * MIB]);
    assert_eq!(plan.free, [0x1000..0x9_F000, 16 * MIB..480 * MIB]);
}

#[test]
fn the_plan_reads_well() {
    let mut machine = machine(&[2; 5]);
    machine.cores[8].usable = false;
    machine.estimated = true;
    let mut guests = [guest("debian", Cores::Count(2)), named("probe", &[7])];
    guests[0].initrd = true;
    guests[0].kernel = "linux-image-cloud-amd64".into();
    assert_eq!(
        Plan::new(&machine, &guests).unwrap().to_string(),
        "hypervisor: core 0 (APIC ID 0), 24 MiB at 0x40000000, COM1, IOAPIC, real-time clock\n\
         guest debian: cores 2, 4 (APIC IDs 2, 4), 16 MiB at 0x3f000000, kernel linux-image-cloud-amd64, initrd\n\
         guest probe: core 7 (APIC ID 7), 16 MiB at 0x3e000000, kernel vmlinuz\n\
         each guest: a virtual 16550, IOAPIC and real-time clock\n\
         left over: core 1 (hyper-thread of core 0), core 3 (hyper-thread of core 2), core 5 (hyper-thread of core 4), \
         core 6 (hyper-thread of core 7), core 8 (cannot run guests), core 9, about 976 MiB"
    );
    let plan = Plan::new(&crate::common::machine(&[1; 2]), &counts(&[1])).unwrap();
    assert!(plan.to_string().ends_with("\nleft over: no core, 992 MiB"), "{plan}");
}
