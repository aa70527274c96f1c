//! Interrupts: to others, of kinds that no guest may send, and without end.

use super::{Attack, End, survived};

const STORM: &str = "it keeps none but its own core, and the operator can stop it";

const fn endless(name: &'static str, tries: &'static str) -> Attack {
    Attack { name, tries, must_follow: STORM, end: End::Never }
}

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived(
        "commands_every_delivery_mode",
        "ICR with every mode, destination mode, level, trigger and shorthand, but INIT to itself",
        "#GP for SMI, ExtINT and the reserved mode, and for nothing else",
    ),
    survived(
        "commands_every_destination",
        "ICR: fixed interrupts to IDs 1 to 4,095, every power of two, and logical ones",
        "nothing comes back, but by destinations that are itself",
    ),
    survived("sets_reserved_bits_of_a_command", "ICR with each reserved bit", "#GP at each"),
    survived(
        "interrupts_its_neighbour",
        "ICR: fixed, NMI, INIT and start-up to the IDs of all physical cores",
        "nothing comes, here or there",
    ),
    survived(
        "sets_every_delivery_mode_in_the_lvt",
        "timer, error, LINT0, LINT1, thermal, performance, CMCI: SMI, NMI, INIT, ExtINT",
        "#GP, or it is kept and never delivered",
    ),
    survived(
        "floods_itself",
        "every vector from 32 on, ten times each, with interrupts off",
        "each comes once",
    ),
    survived(
        "floods_itself_from_the_handler",
        "ten thousand interrupts, each sent in the handler of the one before",
        "all come",
    ),
    survived(
        "floods_itself_with_nmis",
        "a thousand NMIs",
        "at least one comes, and no more than were sent",
    ),
    survived(
        "ends_interrupts_that_there_are_not",
        "EOI ten thousand times",
        "an interrupt that is sent then still comes once",
    ),
    survived(
        "programs_the_ioapic_wildly",
        "every mode, with vectors and destinations, for the console's pin, which is pulled; all ones in all registers",
        "only fixed and lowest-priority ones to itself arrive",
    ),
    survived(
        "writes_interrupt_messages",
        "every delivery mode to MSI addresses of all physical cores",
        "nothing comes, here or there",
    ),
    survived(
        "sends_illegal_vectors",
        "fixed interrupts with vectors 0 to 15; timer and error entries with them",
        "none comes; ESR says so",
    ),
    survived(
        "sets_its_timer_to_the_least_period",
        "one tick, with every divider",
        "interrupts come, and it can stop them",
    ),
    endless("loops_in_debug_exceptions", "#DB whose delivery raises #DB"),
    endless("loops_in_alignment_checks", "#AC again and again"),
    endless("spins_with_interrupts_off", "CLI and a loop without an exit"),
];
