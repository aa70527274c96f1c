//! A valid VMCS has no violation; with one field broken, that field is named and no other.

mod controls;
mod events;
mod guest_other;
mod guest_registers;
mod guest_segments;
mod host_state;
mod processor;
mod start;

use super::{Limits, Violation, Vmcs, find};
use crate::vmx::capability::Capabilities;
use crate::vmx::controls::{Entry, Secondary};
use processor::Fake;
use std::collections::BTreeMap;
use std::string::ToString;
use std::vec::Vec;
use x86::vmx::vmcs::{control, guest, host};

const PIN: u32 = control::PINBASED_EXEC_CONTROLS;
const PRIMARY: u32 = control::PRIMARY_PROCBASED_EXEC_CONTROLS;
const SECONDARY: u32 = control::SECONDARY_PROCBASED_EXEC_CONTROLS;
const EXIT: u32 = control::VMEXIT_CONTROLS;
const ENTRY: u32 = control::VMENTRY_CONTROLS;
const EVENT: u32 = control::VMENTRY_INTERRUPTION_INFO_FIELD;

const EPT: u64 = Secondary::EPT.bits() as u64;
const UNRESTRICTED: u64 = Secondary::UNRESTRICTED_GUEST.bits() as u64;
const IA32E: u64 = Entry::GUEST_IA32E.bits() as u64;
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// A VMCS in a map. A read of what was not written fails the test: on a processor that field
/// might not exist.
#[derive(Clone)]
struct FakeVmcs(BTreeMap<u32, u64>);

impl Vmcs for FakeVmcs {
    fn read(&self, field: u32) -> u64 {
        *self.0.get(&field).unwrap_or_else(|| panic!("field {field:#x} might not exist"))
    }
}

/// What happens to a field.
#[derive(Clone, Copy)]
enum Change {
    To(u64),
    Plus(u64),
    Minus(u64),
}
use Change::{Minus, Plus, To};

impl FakeVmcs {
    fn with(&self, changes: &[(u32, Change)]) -> Self {
        let mut changed = self.clone();
        for &(field, change) in changes {
            let value = changed.0.entry(field).or_default();
            *value = match change {
                To(new) => new,
                Plus(bits) => *value | bits,
                Minus(bits) => *value & !bits,
            };
        }
        changed
    }

    fn violations(&self, limits: &Limits) -> Vec<Violation> {
        let mut found = Vec::new();
        find(self, limits, |violation| found.push(violation));
        found
    }
}

/// What is changed, the field to be named, the rule to be given.
type Case = (&'static [(u32, Change)], &'static str, &'static str);

/// Breaks one thing at a time: exactly one violation must be found, and be the expected one.
fn each(base: &FakeVmcs, limits: &Limits, section: &str, cases: &[Case]) {
    for (changes, field, rule) in cases {
        expect(&base.with(changes), limits, &[(section, field, rule)]);
    }
}

/// Exactly these violations must be found.
fn expect(vmcs: &FakeVmcs, limits: &Limits, wanted: &[(&str, &str, &str)]) {
    let found = vmcs.violations(limits);
    let found: Vec<_> =
        found.iter().map(|found| (found.section, found.field, found.rule)).collect();
    assert_eq!(found, wanted);
}

/// No violation must be found.
fn expect_valid(vmcs: &FakeVmcs, limits: &Limits) {
    expect(vmcs, limits, &[]);
}

fn skylake() -> Limits {
    Fake::skylake().limits()
}

fn everything() -> Limits {
    Fake::everything().limits()
}

/// A 64-bit guest, as it is set up on a Skylake.
fn guest_64() -> FakeVmcs {
    let capabilities = Capabilities::check(&Fake::skylake()).unwrap();
    let mut fields = BTreeMap::from([
        (PIN, capabilities.pin.into()),
        (PRIMARY, capabilities.primary.into()),
        (SECONDARY, capabilities.secondary.into()),
        (EXIT, capabilities.exit.into()),
        (ENTRY, u64::from(capabilities.entry) | IA32E),
        (control::CR3_TARGET_COUNT, 0),
        (control::VMEXIT_MSR_STORE_COUNT, 0),
        (control::VMEXIT_MSR_LOAD_COUNT, 0),
        (control::VMENTRY_MSR_LOAD_COUNT, 0),
        (EVENT, 0),
        (control::MSR_BITMAPS_ADDR_FULL, 0x10_1000),
        (control::IO_BITMAP_A_ADDR_FULL, 0x10_2000),
        (control::IO_BITMAP_B_ADDR_FULL, 0x10_3000),
        (control::EPTP_FULL, 0x10_401E),
        (control::VPID, 1),
        (host::CR0, 0x8005_0033),
        (host::CR3, 0x20_0000),
        (host::CR4, 0x30_2020),
        (host::CS_SELECTOR, 0x08),
        (host::SS_SELECTOR, 0x10),
        (host::DS_SELECTOR, 0x10),
        (host::ES_SELECTOR, 0x10),
        (host::FS_SELECTOR, 0),
        (host::GS_SELECTOR, 0),
        (host::TR_SELECTOR, 0x18),
        (host::FS_BASE, 0),
        (host::GS_BASE, 0xFFFF_8000_0000_1000),
        (host::TR_BASE, 0xFFFF_8000_0000_2000),
        (host::GDTR_BASE, 0xFFFF_8000_0000_3000),
        (host::IDTR_BASE, 0xFFFF_8000_0000_4000),
        (host::IA32_SYSENTER_ESP, 0),
        (host::IA32_SYSENTER_EIP, 0),
        (host::IA32_EFER_FULL, 0xD01),
        (host::IA32_PAT_FULL, PAT_RESET),
        (host::RIP, 0xFFFF_8000_0010_0000),
        (guest::CR0, 0x8000_0031),
        (guest::CR3, 0x1000),
        (guest::CR4, 0x2020),
        (guest::IA32_EFER_FULL, 0x500),
        (guest::IA32_PAT_FULL, PAT_RESET),
        (guest::DR7, 0x400),
        (guest::IA32_DEBUGCTL_FULL, 0),
        (guest::RFLAGS, 2),
        (guest::RIP, 0x100_0000),
        (guest::CS_SELECTOR, 0x10),
        (guest::CS_ACCESS_RIGHTS, 0xA09B),
        (guest::LDTR_SELECTOR, 0),
        (guest::LDTR_LIMIT, 0),
        (guest::LDTR_ACCESS_RIGHTS, 1 << 16),
        (guest::TR_SELECTOR, 0),
        (guest::TR_LIMIT, 0x67),
        (guest::TR_ACCESS_RIGHTS, 0x8B),
        (guest::GDTR_BASE, 0x2000),
        (guest::GDTR_LIMIT, 0x1F),
        (guest::IDTR_LIMIT, 0),
        (guest::INTERRUPTIBILITY_STATE, 0),
        (guest::ACTIVITY_STATE, 0),
        (guest::PENDING_DBG_EXCEPTIONS, 0),
        (guest::IA32_SYSENTER_ESP, 0),
        (guest::IA32_SYSENTER_EIP, 0),
        (guest::LINK_PTR_FULL, u64::MAX),
    ]);
    for (selector, rights) in [
        (guest::SS_SELECTOR, guest::SS_ACCESS_RIGHTS),
        (guest::DS_SELECTOR, guest::DS_ACCESS_RIGHTS),
        (guest::ES_SELECTOR, guest::ES_ACCESS_RIGHTS),
        (guest::FS_SELECTOR, guest::FS_ACCESS_RIGHTS),
        (guest::GS_SELECTOR, guest::GS_ACCESS_RIGHTS),
    ] {
        fields.extend([(selector, 0x18), (rights, 0xC093)]);
    }
    fields.extend(SEGMENT_LIMITS.map(|field| (field, 0xFFFF_FFFF)));
    fields.extend(SEGMENT_BASES.map(|field| (field, 0)));
    fields.extend([guest::LDTR_BASE, guest::TR_BASE, guest::IDTR_BASE].map(|field| (field, 0)));
    FakeVmcs(fields)
}

const SEGMENT_SELECTORS: [u32; 6] = [
    guest::CS_SELECTOR,
    guest::SS_SELECTOR,
    guest::DS_SELECTOR,
    guest::ES_SELECTOR,
    guest::FS_SELECTOR,
    guest::GS_SELECTOR,
];
const SEGMENT_BASES: [u32; 6] = [
    guest::CS_BASE,
    guest::SS_BASE,
    guest::DS_BASE,
    guest::ES_BASE,
    guest::FS_BASE,
    guest::GS_BASE,
];
const SEGMENT_LIMITS: [u32; 6] = [
    guest::CS_LIMIT,
    guest::SS_LIMIT,
    guest::DS_LIMIT,
    guest::ES_LIMIT,
    guest::FS_LIMIT,
    guest::GS_LIMIT,
];
const SEGMENT_RIGHTS: [u32; 6] = [
    guest::CS_ACCESS_RIGHTS,
    guest::SS_ACCESS_RIGHTS,
    guest::DS_ACCESS_RIGHTS,
    guest::ES_ACCESS_RIGHTS,
    guest::FS_ACCESS_RIGHTS,
    guest::GS_ACCESS_RIGHTS,
];

/// A guest in real mode, as after a reset; its LDTR is usable.
fn guest_real() -> FakeVmcs {
    let mut real = guest_64().with(&[
        (ENTRY, Minus(IA32E)),
        (guest::CR0, To(0x30)),
        (guest::CR4, To(0x2000)),
        (guest::IA32_EFER_FULL, To(0)),
        (guest::RIP, To(0xFFF0)),
        (guest::CS_SELECTOR, To(0xF000)),
        (guest::CS_BASE, To(0xFFFF_0000)),
        (guest::LDTR_LIMIT, To(0xFFFF)),
        (guest::LDTR_ACCESS_RIGHTS, To(0x82)),
        (guest::TR_LIMIT, To(0xFFFF)),
    ]);
    for ((limit, rights), selector) in
        SEGMENT_LIMITS.into_iter().zip(SEGMENT_RIGHTS).zip(SEGMENT_SELECTORS)
    {
        real.0.extend([(limit, 0xFFFF), (rights, 0x93)]);
        if selector != guest::CS_SELECTOR {
            real.0.insert(selector, 0);
        }
    }
    real.with(&[(guest::CS_ACCESS_RIGHTS, To(0x9B))])
}

/// A guest in virtual-8086 mode.
fn guest_8086() -> FakeVmcs {
    let mut old = guest_real().with(&[(guest::CR0, To(0x31)), (guest::RFLAGS, To(0x2_0002))]);
    for (((selector, base), limit), rights) in
        SEGMENT_SELECTORS.into_iter().zip(SEGMENT_BASES).zip(SEGMENT_LIMITS).zip(SEGMENT_RIGHTS)
    {
        old.0.extend([(selector, 0x1234), (base, 0x1_2340), (limit, 0xFFFF), (rights, 0xF3)]);
    }
    old
}

/// A guest with 32-bit code and PAE paging.
fn guest_pae() -> FakeVmcs {
    let mut pae = guest_64().with(&[
        (ENTRY, Minus(IA32E)),
        (guest::IA32_EFER_FULL, To(0)),
        (guest::CS_ACCESS_RIGHTS, To(0xC09B)),
    ]);
    let present = 0x5001;
    pae.0.extend([
        (guest::PDPTE0_FULL, present),
        (guest::PDPTE1_FULL, present),
        (guest::PDPTE2_FULL, present),
        // Not present: the rest does not matter.
        (guest::PDPTE3_FULL, u64::MAX - 1),
    ]);
    pae
}

#[test]
fn guests_as_they_are_set_up_are_valid() {
    for guest in [guest_64(), guest_real(), guest_8086(), guest_pae()] {
        expect_valid(&guest, &skylake());
        expect_valid(&guest, &everything());
    }
}

#[test]
fn a_guest_that_needs_no_unrestricted_mode_is_valid_without() {
    for guest in [guest_64(), guest_pae()] {
        expect_valid(&guest.with(&[(SECONDARY, Minus(UNRESTRICTED))]), &skylake());
    }
}

#[test]
fn a_violation_says_field_value_bits_rule_and_section() {
    let text = |field, value| {
        let vmcs = guest_64().with(&[(field, To(value))]);
        vmcs.violations(&skylake())[0].to_string()
    };
    assert_eq!(
        text(guest::CR4, 0x20),
        "guest CR4 = 0x20: bit 13 must be 1 in VMX operation (SDM Vol. 3C, 27.3.1.1)"
    );
    assert_eq!(
        text(guest::RFLAGS, 0x2A),
        "guest RFLAGS = 0x2a: bits 0x28 must be 0, as reserved (SDM Vol. 3C, 27.3.1.4)"
    );
    assert_eq!(
        text(guest::TR_ACCESS_RIGHTS, 0x83),
        "guest TR access rights = 0x83: must have type 11, a busy 64-bit TSS (SDM Vol. 3C, \
         27.3.1.2)"
    );
    assert_eq!(text(control::VPID, 0), "VPID = 0x0: must not be 0 (SDM Vol. 3C, 27.2.1.1)");
}

#[test]
fn several_violations_come_in_the_manual_s_order() {
    let vmcs = guest_64().with(&[
        (guest::RIP, To(1 << 60)),
        (host::CS_SELECTOR, To(0)),
        (control::VPID, To(0)),
        (guest::CR0, Minus(1 << 5)),
    ]);
    let found = vmcs.violations(&skylake());
    let fields: Vec<_> = found.iter().map(|violation| violation.field).collect();
    assert_eq!(fields, ["VPID", "host CS selector", "guest CR0", "guest RIP"]);
}

/// A VMCS of random values must not bring the checks down.
mod random {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{BuildHasher, RandomState};

    struct Noise(RandomState, u64);

    impl Vmcs for Noise {
        fn read(&self, field: u32) -> u64 {
            // The widths that the encoding says (SDM Vol. 3C, 25.11.2).
            let widths = [0xFFFF, u64::MAX, 0xFFFF_FFFF, u64::MAX];
            self.0.hash_one((self.1, field)) & widths[field as usize >> 13 & 3]
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(seed: u64) {
            let noise = Noise(RandomState::new(), seed);
            for limits in [skylake(), everything()] {
                let mut found = 0;
                find(&noise, &limits, |_| found += 1);
                prop_assert!(found > 0);
            }
        }
    }
}
