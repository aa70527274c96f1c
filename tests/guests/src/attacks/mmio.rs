//! Devices' memory.

use super::{Attack, ended, survived};

const NOT_EMULATED: &str = "access to a device: instruction is not one that is emulated on MMIO";
const HPET: &[&str] = &["48 (EPT violation)", "guest-physical 0xfed00000,"];

/// See the module.
pub(super) const ATTACKS: &[Attack] = &[
    survived(
        "reads_devices_that_it_has_not",
        "HPET, TPM, VT-d, PCI configuration, flash, local APIC in x2APIC mode; 1 to 8 bytes",
        "all ones are read",
    ),
    survived(
        "writes_devices_that_it_has_not",
        "the same, with zeros and ones",
        "all ones are read afterwards, and no interrupt comes",
    ),
    survived(
        "reads_the_ioapic_at_every_offset",
        "every byte of its page, misaligned ones too, in every width",
        "all ones are read but at its two registers",
    ),
    survived(
        "writes_the_ioapic_at_every_offset",
        "the same but for its two registers",
        "no register has changed",
    ),
    survived(
        "crosses_pages_of_devices",
        "2, 4 and 8 bytes across both ends of the IOAPIC's page, and between pages where nothing is",
        "all ones are read, but for the register that the upper half meets",
    ),
    ended(
        "locks_a_device",
        "LOCK CMPXCHG where PCs have the HPET",
        NOT_EMULATED,
        HPET,
        "[f0, 48, 0f, b1",
    ),
    ended("exchanges_with_a_device", "XCHG, which locks by itself", NOT_EMULATED, HPET, "[48, 87"),
    ended("adds_to_a_device", "ADD, which reads and writes", NOT_EMULATED, HPET, "[48, 01"),
    ended("copies_a_string_from_a_device", "REP MOVSB", NOT_EMULATED, HPET, "[f3, a4"),
    ended("fills_a_device_with_a_string", "REP STOSD", NOT_EMULATED, HPET, "[f3, ab"),
    ended("loads_16_bytes_of_a_device", "MOVUPS", NOT_EMULATED, HPET, "[0f, 10"),
    ended(
        "exchanges_16_bytes_of_a_device",
        "LOCK CMPXCHG16B",
        NOT_EMULATED,
        HPET,
        "[f0, 48, 0f, c7",
    ),
    ended("saves_512_bytes_to_a_device", "FXSAVE", NOT_EMULATED, HPET, "[0f, ae"),
    ended("pushes_what_a_device_says", "PUSH with a device as operand", NOT_EMULATED, HPET, "[ff"),
    ended("calls_where_a_device_says", "CALL with a device as operand", NOT_EMULATED, HPET, "[ff"),
];
