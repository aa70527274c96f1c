//! What a guest leaves to the next one on its frames and its core. Guests that look closer: *remains*.

use super::{Attack, ended, survived};

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    ended(
        "leaves_a_pattern",
        "a pattern in all memory, in debug and vector registers and MSRs; then a triple fault",
        "triple fault",
        &["2 (triple fault)"],
        "[0f, 0b",
    ),
    survived(
        "looks_for_the_pattern",
        "the same places, in the next run",
        "memory is zero, and registers are as after reset",
    ),
];
