//! Model-specific registers.

use super::{Attack, survived};

const LISTED: &str = "the listed ones take it or are #GP, all others are #GP";

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived(
        "reads_every_register",
        "RDMSR of 0 to 0x1fff and 0xc0000000 to 0xc0001fff",
        "the listed ones have a value, all others are #GP",
    ),
    survived("writes_ones_to_every_register", "WRMSR of all ones to the same", LISTED),
    survived("writes_high_bits_to_every_register", "WRMSR of bit 63 to the same", LISTED),
    survived(
        "writes_every_register_with_its_own_value",
        "WRMSR of what was read, or zero, to the same",
        LISTED,
    ),
    survived(
        "reads_registers_beyond_the_bitmaps",
        "RDMSR and WRMSR of hypervisors' and AMD's ranges, and every power of two",
        "#GP at each",
    ),
    survived(
        "loads_microcode",
        "WRMSR 0x79 with addresses of RAM, of the hypervisor and of the neighbour",
        "#GP at each",
    ),
    survived(
        "switches_on_branch_records",
        "WRMSR DEBUGCTL with every bit",
        "#GP at each, and it reads as zero",
    ),
    survived(
        "moves_its_local_apic",
        "WRMSR APIC_BASE to the hypervisor, the neighbour and its own RAM",
        "#GP at each, and it is where it was",
    ),
    survived(
        "sets_reserved_bits_of_efer",
        "every bit but SCE, LME, LMA and NXE",
        "#GP at each, and it is as before",
    ),
    survived(
        "sets_bad_memory_types",
        "WRMSR PAT with every reserved type in every place",
        "#GP at each, and it is as before",
    ),
    survived(
        "fills_its_own_registers",
        "another value in each register that is switched or unused: PAT, EFER, SYSENTER, SYSCALL, bases",
        "the host's registers, compared while it has them, are as at the core's start",
    ),
    survived(
        "moves_its_time",
        "WRMSR TSC and TSC_ADJUST: zero, all ones, and half way",
        "its own time follows, and nobody else's",
    ),
];
