//! The table of attacks: what the guest *attacks* tries against the hypervisor and its neighbour, and what must follow.
//!
//! Tests on the host read this table too, so it is data alone: what is done is in the guest, by the same names.

mod covert;
mod instructions;
mod interrupts;
mod memory;
mod mmio;
mod modes;
mod msr;
mod ports;
mod reuse;

/// What becomes of the guest that tries something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on, and says itself what followed.
    GoesOn,
    /// The hypervisor stops it with a report: for this reason, with all of these in the line of its exit, at an instruction
    /// whose bytes begin so.
    ///
    /// `{hypervisor}` and `{neighbour}` stand for the host-physical addresses at which the last of the hypervisor's memory and the
    /// neighbour's memory begin.
    Report {
        /// Why it was stopped.
        stopped: &'static str,
        /// What is in the line of its exit.
        exit: &'static [&'static str],
        /// The instruction; empty where it does not matter.
        bytes: &'static str,
    },
    /// It never ends, until the operator stops it.
    Never,
}

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its title, with `_` in place of spaces.
    pub name: &'static str,
    /// What is tried.
    pub tries: &'static str,
    /// What must follow.
    pub must_follow: &'static str,
    /// What becomes of the guest.
    pub end: End,
}

/// The attacks of one file, and what they are called.
pub type Group = (&'static str, &'static [Attack]);

/// All attacks, in the order in which they are tried.
pub const GROUPS: [Group; 9] = [
    ("memory", memory::ATTACKS),
    ("mmio", mmio::ATTACKS),
    ("instructions", instructions::ATTACKS),
    ("msr", msr::ATTACKS),
    ("ports", ports::ATTACKS),
    ("interrupts", interrupts::ATTACKS),
    ("modes", modes::ATTACKS),
    ("covert", covert::ATTACKS),
    ("reuse", reuse::ATTACKS),
];

/// The attacks of a group.
///
/// # Panics
/// If there is no such group.
pub const fn group(name: &str) -> &'static [Attack] {
    let mut index = 0;
    while index < GROUPS.len() {
        if same(GROUPS[index].0, name) {
            return GROUPS[index].1;
        }
        index += 1;
    }
    panic!("no such group of attacks")
}

/// Whether what is done bears the names of a group, in their order: so that the table tells the truth.
pub const fn names_are<const N: usize>(group: &[Attack], names: &[&str; N]) -> bool {
    let mut index = 0;
    while index < N && index < group.len() {
        if !same(group[index].name, names[index]) {
            return false;
        }
        index += 1;
    }
    index == N && index == group.len()
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// An attack after which the guest goes on.
const fn survived(name: &'static str, tries: &'static str, must_follow: &'static str) -> Attack {
    Attack { name, tries, must_follow, end: End::GoesOn }
}

/// An attack after which the guest is stopped: with a reason, an exit, and the bytes of an instruction.
const fn ended(
    name: &'static str,
    tries: &'static str,
    stopped: &'static str,
    exit: &'static [&'static str],
    bytes: &'static str,
) -> Attack {
    let must_follow = "the guest is stopped, and the report says where";
    Attack { name, tries, must_follow, end: End::Report { stopped, exit, bytes } }
}
