//! Memory that is not the guest's.

use super::{Attack, ended, survived};

const FETCH: &str = "instruction fetch from where there is no RAM";
const STRUCTURE: &str = "page table or stack of an event where there is no RAM";
const VIOLATION: &str = "48 (EPT violation)";
const UNREADABLE: &str = "not readable";
const ONES: &str = "all ones are read";
const KEPT_NOTHING: &str = "all ones are read afterwards, and nobody notices";

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived("reads_where_nothing_is", "8 bytes in every MiB from the end of RAM to 4 GiB", ONES),
    survived(
        "writes_where_nothing_is",
        "8 bytes in every MiB from the end of RAM to 4 GiB",
        KEPT_NOTHING,
    ),
    ended(
        "executes_where_nothing_is",
        "a call to 0xd0000000",
        FETCH,
        &[VIOLATION, "guest-physical 0xd0000000,"],
        UNREADABLE,
    ),
    survived(
        "reads_the_hypervisor",
        "8 bytes in every page of it, by host-physical address",
        "all ones are read, or the guest's own memory where it has such an address",
    ),
    survived(
        "writes_to_the_hypervisor",
        "8 bytes in every page of it, by host-physical address",
        "nothing is kept but in the guest's own memory, and the hypervisor goes on",
    ),
    ended(
        "executes_the_hypervisor",
        "a call to its memory, by host-physical address",
        FETCH,
        &[VIOLATION, "guest-physical {hypervisor},"],
        UNREADABLE,
    ),
    survived("reads_the_neighbour", "8 bytes in every page of it, by host-physical address", ONES),
    survived(
        "writes_to_the_neighbour",
        "8 bytes in every page of it, by host-physical address",
        KEPT_NOTHING,
    ),
    ended(
        "executes_the_neighbour",
        "a call to its memory, by host-physical address",
        FETCH,
        &[VIOLATION, "guest-physical {neighbour},"],
        UNREADABLE,
    ),
    survived("reads_behind_the_end_of_ram", "the first bytes behind it, in every width", ONES),
    survived(
        "writes_behind_the_end_of_ram",
        "the first bytes behind it, in every width",
        KEPT_NOTHING,
    ),
    ended(
        "executes_behind_the_end_of_ram",
        "a call to the first byte behind it",
        FETCH,
        &[VIOLATION, "guest-physical 0x1000000,"],
        UNREADABLE,
    ),
    survived(
        "crosses_the_end_of_ram",
        "8 bytes of which the first 4 are RAM: a read and a write",
        "all ones are read; RAM is as before, or has what was written",
    ),
    survived(
        "reads_above_4_gib",
        "8 bytes at every power of two from 4 GiB on, up to the last that CPUID admits",
        ONES,
    ),
    survived(
        "uses_address_bits_that_there_are_not",
        "a page-table entry with each bit above those that CPUID admits",
        "#PF for a reserved bit, at each",
    ),
    survived(
        "points_page_tables_at_themselves",
        "an entry of the top-level table that leads to itself: loads, and strings that the hypervisor moves",
        "it finds its own tables, and string I/O does too",
    ),
    survived(
        "has_page_tables_in_the_last_page_of_ram",
        "a page directory there: loads, and strings that the hypervisor moves",
        "the translation works",
    ),
    ended(
        "has_a_page_table_in_the_hypervisor",
        "a load through an entry that leads to the hypervisor's memory",
        STRUCTURE,
        &[VIOLATION, "guest-physical {hypervisor},"],
        "[8a",
    ),
    ended(
        "has_its_page_root_in_the_neighbour",
        "CR3 with the neighbour's address",
        STRUCTURE,
        &[VIOLATION, "guest-physical {neighbour},"],
        UNREADABLE,
    ),
    ended(
        "has_a_stack_in_the_hypervisor",
        "#BP with the stack pointer 4 KiB behind the beginning of the hypervisor's memory",
        STRUCTURE,
        &[VIOLATION, "guest-physical {hypervisor+0xff8},"],
        "[cc",
    ),
    ended(
        "has_an_interrupt_table_in_the_neighbour",
        "#BP with an IDT at the neighbour's address",
        STRUCTURE,
        &[VIOLATION, "guest-physical {neighbour+0x30},"],
        "[cc",
    ),
    survived(
        "sends_strings_from_others",
        "OUTSB to a register of its own that can be read back, from every 64 KiB of hypervisor and neighbour",
        "all ones are sent",
    ),
    survived(
        "takes_strings_into_others",
        "INSB from a register of its own into every 64 KiB of hypervisor and neighbour",
        KEPT_NOTHING,
    ),
];
