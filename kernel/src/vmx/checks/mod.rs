//! Which field made a VM entry fail.
//!
//! The processor says only that an entry failed, and whether for the controls, the host state or
//! the guest state. So the checks of SDM Vol. 3C, 27.2 and 27.3 are written down here once more,
//! over a copy of the VMCS and a description of the processor: plain logic that runs after a failed
//! entry, on the core that prints the report, and that names every field that is not as it must be.
//!
//! Names and numbers of sections are those of the manual. A control that the processor lacks is
//! named for that alone; what would follow from it is not checked.
//!
//! Not covered, as no field of the VMCS decides it: structures in memory (the TPR on the
//! virtual-APIC page, the revision behind the VMCS link pointer, PDPTEs without EPT, the contents
//! of MSR areas), the address of the VMCS itself, and tracing that is on in IA32_RTIT_CTL. Nor are
//! the fields behind tertiary controls, PASID translation and FRED, nor the reserved bits of a
//! guest's IA32_RTIT_CTL, which depend on the processor's kind of tracing.

mod common;
mod controls;
mod group;
mod guest_other;
mod guest_registers;
mod guest_segments;
mod host;
mod limits;
#[cfg(test)]
mod tests;

pub use limits::Limits;

use core::fmt;
use group::{Active, Control};

/// What can read a VMCS.
pub trait Vmcs {
    /// The value of the field with an encoding (SDM Vol. 3D, appendix B), zero-extended.
    fn read(&self, field: u32) -> u64;
}

/// A field that is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The bits that the rule is about, 0 where it is about the whole value.
    pub bits: u64,
    /// What must hold.
    pub rule: &'static str,
    /// Section of the manual's Vol. 3C that says so.
    pub section: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:#x}: ", self.field, self.value)?;
        match self.bits.count_ones() {
            0 => {}
            1 => write!(f, "bit {} ", self.bits.trailing_zeros())?,
            _ => write!(f, "bits {:#x} ", self.bits)?,
        }
        write!(f, "{} (SDM Vol. 3C, {})", self.rule, self.section)
    }
}

/// Goes through the checks, in the manual's order, and calls `found` with each that fails.
pub fn find(vmcs: &impl Vmcs, limits: &Limits, mut found: impl FnMut(Violation)) {
    let active = Active::read(vmcs, limits);
    let mut checker = Checker { vmcs, limits, active, section: "", found: &mut found };
    controls::check(&mut checker);
    host::check(&mut checker);
    guest_registers::check(&mut checker);
    guest_segments::check(&mut checker);
    guest_other::check(&mut checker);
}

/// A field of the VMCS.
#[derive(Clone, Copy)]
struct Field {
    encoding: u32,
    name: &'static str,
}

impl Field {
    const fn new(encoding: u32, name: &'static str) -> Self {
        Self { encoding, name }
    }
}

/// A reserved bit is set.
const RESERVED: &str = "must be 0, as reserved";
/// An address is too large.
const BEYOND_WIDTH: &str = "must be 0, beyond the physical-address width";
/// A linear address is not canonical.
const CANONICAL: &str = "must be canonical";
/// More than 32 bits are used where there are 32.
const UPPER_HALF: &str = "must be 0, above 32 bits";

/// One pass through the checks.
struct Checker<'a> {
    vmcs: &'a dyn Vmcs,
    limits: &'a Limits,
    active: Active,
    section: &'static str,
    found: &'a mut dyn FnMut(Violation),
}

impl Checker<'_> {
    fn read(&self, field: Field) -> u64 {
        self.vmcs.read(field.encoding)
    }

    /// Whether a control is 1, and the processor has it.
    fn has(&self, control: Control) -> bool {
        self.active.has(control)
    }

    fn report(&mut self, field: Field, bits: u64, rule: &'static str) {
        let value = self.read(field);
        let section = self.section;
        (self.found)(Violation { field: field.name, value, bits, rule, section });
    }

    /// A rule about the whole value.
    fn require(&mut self, holds: bool, field: Field, rule: &'static str) {
        if !holds {
            self.report(field, 0, rule);
        }
    }

    /// The bits of `mask` must be 0.
    fn zero(&mut self, field: Field, mask: u64, rule: &'static str) {
        let bits = self.read(field) & mask;
        if bits != 0 {
            self.report(field, bits, rule);
        }
    }

    /// The bits of `mask` must be 1.
    fn ones(&mut self, field: Field, mask: u64, rule: &'static str) {
        let bits = !self.read(field) & mask;
        if bits != 0 {
            self.report(field, bits, rule);
        }
    }

    /// Must be canonical for the widest linear addresses that the processor has: for bases and
    /// MSRs the paging mode does not matter.
    fn canonical(&mut self, field: Field) {
        let holds = canonical(self.read(field), self.limits.linear_bits);
        self.require(holds, field, CANONICAL);
    }
}

/// Whether bits 63 to `width` - 1 are all alike.
const fn canonical(address: u64, width: u32) -> bool {
    let spare = 64u32.saturating_sub(width);
    spare == 0 || spare >= 64 || ((address << spare) as i64 >> spare) as u64 == address
}

/// The lowest bits of a value.
const fn low_bits(count: u32) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}
