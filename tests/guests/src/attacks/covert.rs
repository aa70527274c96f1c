//! What a guest can learn of the hypervisor and of its neighbour.

use super::{Attack, survived};

const NOTHING: &str =
    "no name of the neighbour's, no address of the hypervisor's or the neighbour's";

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived("searches_cpuid", "all leaves of all ranges, with 32 subleaves", NOTHING),
    survived("searches_msrs", "all registers that can be read", NOTHING),
    survived(
        "searches_acpi_tables",
        "all from 0xe0000 to 1 MiB, and what the loader left below",
        NOTHING,
    ),
    survived(
        "searches_memory",
        "all RAM that the loader has nothing to put in",
        "it is zero, but for what it wrote itself",
    ),
    survived(
        "asks_for_tables",
        "SGDT, SIDT, SLDT, STR, SMSW, and the bases of FS and GS",
        "the guest's own, all below the end of its RAM",
    ),
    survived(
        "looks_for_messages",
        "its console's input after faults and refused accesses",
        "nothing was said to it",
    ),
    survived(
        "looks_into_registers",
        "general and debug registers after an exit of each kind",
        "they are as before but for the result",
    ),
];
