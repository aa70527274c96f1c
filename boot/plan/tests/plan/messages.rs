//! For each thing that a guest cannot have, the message.

use crate::common::*;
use bulkhead_plan::{Machine, Plan, Request};

fn message(machine: &Machine, guests: &[Request]) -> String {
    Plan::new(machine, guests).expect_err("no plan").to_string()
}

#[test]
fn too_few_cores() {
    assert_eq!(
        message(&machine(&[1, 1, 1]), &counts(&[3])),
        "the guests need 3 cores (a 3) besides the service core's, this machine has 3: 2 left for guests; \
         give them fewer, or use a machine with at least 4"
    );
    // The service core's other thread does not count.
    assert_eq!(
        message(&machine(&[2, 2]), &counts(&[3])),
        "guest \"a\": cores = 3: 2 left for it, as this machine has 2 for guests, and the hyper-threads of a \
         physical core go to one guest or stay unused; give the guests fewer cores"
    );
    let one = "this machine has one core only; the service core needs one and a guest needs one, so two at least";
    assert_eq!(message(&machine(&[1]), &counts(&[1])), one);
    assert_eq!(message(&machine(&[]), &counts(&[1])), one);
}

#[test]
fn too_few_physical_cores() {
    assert_eq!(
        message(&machine(&[2, 2, 2]), &counts(&[1, 1, 1])),
        "guest \"c\": cores = 1: 0 left for it, as this machine has 4 for guests, and the hyper-threads of a \
         physical core go to one guest or stay unused; give the guests fewer cores"
    );
    assert_eq!(
        message(&machine(&[2, 2, 2]), &[counts(&[3]), vec![named("b", &[3])]].concat()),
        "guest \"a\": cores = 3: 2 left for it, as this machine has 4 for guests, and the hyper-threads of a \
         physical core go to one guest or stay unused; give the guests fewer cores"
    );
}

#[test]
fn cores_that_cannot_be_had_by_name() {
    let mut machine = machine(&[2; 4]);
    machine.cores[5].usable = false;
    for (guests, expected) in [
        (
            [named("a", &[2]), named("b", &[8])],
            "guest \"b\": cores = [8]: core 8 is not there; this machine's cores for guests are 1 to 7",
        ),
        (
            [named("a", &[2]), named("b", &[6, 0])],
            "guest \"b\": cores = [6, 0]: core 0 is the service core, which runs no guest; name another",
        ),
        (
            [named("a", &[2]), named("b", &[5])],
            "guest \"b\": cores = [5]: core 5 cannot run guests, the boot log says why; name another",
        ),
        (
            [named("a", &[1]), named("b", &[2])],
            "guest \"a\": cores = [1]: core 1 is a hyper-thread of the service core's physical core, which runs no guest; \
             name another",
        ),
        (
            [named("a", &[2, 4]), named("b", &[6, 4])],
            "guest \"b\": cores = [6, 4]: core 4 is guest \"a\"'s already; a core belongs to one guest, once",
        ),
        (
            [named("a", &[2]), named("b", &[6, 6])],
            "guest \"b\": cores = [6, 6]: core 6 is guest \"b\"'s already; a core belongs to one guest, once",
        ),
        (
            [named("a", &[2]), named("b", &[3])],
            "guest \"b\": cores = [3]: core 3 is a hyper-thread of the same physical core as core 2, which is guest \"a\"'s; \
             give both to one guest, or name another",
        ),
    ] {
        assert_eq!(message(&machine, &guests), expected);
    }
}

#[test]
fn too_little_memory() {
    let mut guests = counts(&[1, 1]);
    guests[1].memory = 1024 * MIB;
    assert_eq!(
        message(&machine(&[1; 3]), &guests),
        "the guests need 1040 MiB of memory (a 16 MiB, b 1 GiB), this machine has 1008 MiB for guests; give them less"
    );
    let mut machine = machine(&[1; 3]);
    machine.free = vec![0..600 * MIB, 1024 * MIB..1500 * MIB];
    guests[1].memory = 602 * MIB;
    assert_eq!(
        message(&machine, &guests),
        "guest \"b\": memory = 602 MiB: the longest run of free memory is 600 MiB; give it no more than that"
    );
}
