//! I/O ports.

use super::{Attack, survived};

const READ: &str = "all ones, but from the bytes of its devices";
const WRITTEN: &str = "nothing ends, and its devices answer as before";

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived("reads_a_byte_of_every_port", "IN of all 65,536 ports", READ),
    survived("reads_two_bytes_of_every_port", "IN of all 65,536 ports", READ),
    survived("reads_four_bytes_of_every_port", "IN of all 65,536 ports", READ),
    survived("writes_a_byte_to_every_port", "OUT to all ports but the console's", WRITTEN),
    survived("writes_two_bytes_to_every_port", "OUT to all ports but the console's", WRITTEN),
    survived("writes_four_bytes_to_every_port", "OUT to all ports but the console's", WRITTEN),
    survived(
        "takes_strings_from_every_port",
        "REP INS of every width from all ports, across the end of a page",
        "memory has all ones but from its devices, and nothing beside it has changed",
    ),
    survived(
        "sends_strings_to_every_port",
        "REP OUTS of every width to all ports but the console's, across the end of a page",
        WRITTEN,
    ),
    survived(
        "moves_strings_across_the_end_of_memory",
        "REP INSB and OUTSB of 128 bytes, of which the last 64 lie where no table leads",
        "#PF at the first byte that is not mapped, and the bytes before it are moved",
    ),
    survived(
        "moves_a_string_without_an_end",
        "REP OUTSB of a hundred thousand bytes to a port without a device, with a timer running",
        "the timer's interrupts come in between",
    ),
];
