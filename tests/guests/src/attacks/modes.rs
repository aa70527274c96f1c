//! Modes of the processor.

use super::{Attack, ended, survived};

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived(
        "enters_16_bit_protected_mode",
        "from long mode, and there CPUID, VMCALL, IN, and a load where nothing is",
        "they do what they do in long mode, and it comes back",
    ),
    survived(
        "enters_real_mode",
        "from long mode, and there CPUID, VMCALL, IN, and a load where nothing is",
        "they do what they do in long mode, and it comes back",
    ),
    ended(
        "switches_tasks",
        "JMP to a task-state segment",
        "unexpected exit",
        &["9 (task switch)", "qualification 0x80000028"],
        "[ea, 00, 00, 00, 00, 28, 00",
    ),
    ended(
        "faults_three_times",
        "UD2 without an interrupt table",
        "triple fault",
        &["2 (triple fault)"],
        "[0f, 0b",
    ),
];
