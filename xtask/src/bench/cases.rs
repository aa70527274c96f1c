//! What is measured, and what it is to cost.

use super::figures::Kind;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Ticks of the TSC, which are instructions in Bochs.
    Instructions,
    /// Exits per emulated second.
    ExitsPerSecond,
    /// KiB of memory, or of a file.
    Kib,
    /// Lines of code.
    Lines,
}

/// The most that a case is to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Not said.
    None,
    /// So much.
    Most(f64),
    /// So many times the figure of the bare machine.
    TimesBare(f64),
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// What it is called in the guest's lines and in the JSON file.
    pub name: &'static str,
    /// What it is called in the table.
    pub title: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// The most that it is to cost under Bulkhead.
    pub target: Target,
    /// How far two readings of the same thing may lie apart, in the unit.
    pub wobble: f64,
}

/// With several processors the TSC moves in steps of five, which a batch of ten operations divides by ten.
const STEP_IN_A_BATCH: f64 = 0.5;
/// A sleep is no batch. Three readings are in it, each up to a step off.
const STEPS_OF_A_SLEEP: f64 = 15.0;
/// Which of two processors goes first in Bochs, and so how long each looks for the other's answer, depends on how
/// many instructions ran before on all of them, the service core's with the console among them.
const TAKING_TURNS: f64 = 35.0;

impl Case {
    /// What the target comes to, where the figure of the bare machine is known if it is needed.
    pub fn most(&self, bare: Option<f64>) -> Option<f64> {
        match self.target {
            Target::None => None,
            Target::Most(most) => Some(most),
            Target::TimesBare(times) => bare.map(|bare| bare * times),
        }
    }
}

const fn case(name: &'static str, title: &'static str, unit: Unit, target: Target) -> Case {
    Case { name, title, unit, target, wobble: STEP_IN_A_BATCH }
}

const fn wobbling(wobble: f64, case: Case) -> Case {
    Case { wobble, ..case }
}

const fn operation(name: &'static str, title: &'static str, most: f64) -> Case {
    case(name, title, Unit::Instructions, Target::Most(most))
}

const fn plain(name: &'static str, title: &'static str) -> Case {
    case(name, title, Unit::Instructions, Target::None)
}

/// All cases, in the table's order. Those before `FIRST_OF_SYSTEM` are operations of the guest `bench`.
pub const CASES: &[Case] = &[
    operation("cpuid", "CPUID", 120.0),
    operation("vmcall", "VMCALL", 120.0),
    operation("rdmsr-apic-base", "RDMSR of the APIC base", 140.0),
    operation("wrmsr-lvt", "WRMSR of an LVT entry", 140.0),
    operation("x2apic-id", "x2APIC ID read", 140.0),
    operation("eoi", "EOI", 10.0),
    operation("tpr", "TPR", 10.0),
    operation("self-ipi", "IPI to itself, by its own MSR", 10.0),
    plain("icr-self", "IPI to itself, through ICR"),
    operation("icr-other", "IPI to another processor, sender's side", 180.0),
    wobbling(TAKING_TURNS, plain("ipi-round-trip", "IPI to another processor and back")),
    operation("timer-count", "one-shot timer count", 10.0),
    wobbling(
        STEPS_OF_A_SLEEP,
        operation("hlt-timer", "HLT until the timer, beyond its count", 10.0),
    ),
    operation("uart-status", "UART status read", 200.0),
    plain("uart-byte", "UART byte written"),
    operation("out-absent", "OUT to an absent port", 200.0),
    operation("rdtsc", "RDTSC", 10.0),
    plain("read-cr3", "MOV from CR3"),
    plain("write-cr3", "MOV to CR3"),
    plain("invlpg", "INVLPG"),
    plain("first-touch", "first touch of a page, mean"),
    plain("tlb-page", "page read with an empty TLB"),
    plain("copy-kib", "KiB copied"),
    plain("control", "100 NOPs"),
    plain("syscall", "system call in Linux"),
    case("linux-boot", "Linux, entry to userspace", Unit::Instructions, Target::TimesBare(1.02)),
    operation("start", "hypervisor's entry to guest's first instruction", 20e6),
    case("exits-idle", "exits of an idle Linux", Unit::ExitsPerSecond, Target::Most(0.0)),
    case("exits-busy", "exits of a computing Linux", Unit::ExitsPerSecond, Target::Most(0.0)),
    case("memory", "hypervisor's memory, 4 cores", Unit::Kib, Target::Most(4096.0)),
    case("memory-image", "of which image", Unit::Kib, Target::None),
    case("memory-heap", "of which heap", Unit::Kib, Target::None),
    case("memory-cores", "of which for cores", Unit::Kib, Target::None),
    case("memory-guest", "for a guest of 2 cores", Unit::Kib, Target::None),
    case("memory-ept", "EPT of that guest", Unit::Kib, Target::None),
    case("image", "hypervisor's file", Unit::Kib, Target::None),
    case("lines", "code in root mode on a guest's core", Unit::Lines, Target::Most(10_000.0)),
];

/// The first case that is not of the guest `bench`.
const FIRST_OF_SYSTEM: &str = "syscall";

/// The operations of the guest `bench`.
pub fn operations() -> impl Iterator<Item = &'static Case> {
    CASES.iter().take_while(|case| case.name != FIRST_OF_SYSTEM)
}

/// The other cases.
pub fn of_system() -> impl Iterator<Item = &'static Case> {
    CASES.iter().skip_while(|case| case.name != FIRST_OF_SYSTEM)
}

/// The columns in which a case can have a figure.
pub const COLUMNS: [Kind; 3] = [Kind::Bare, Kind::Bulkhead, Kind::Kvm];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_divide_in_two() {
        let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert_eq!(operations().count() + of_system().count(), CASES.len());
        assert!(operations().count() > 0 && of_system().count() > 0);
    }

    #[test]
    fn a_target_may_depend_on_the_bare_machine() {
        let boot = CASES.iter().find(|case| case.name == "linux-boot").unwrap();
        assert_eq!(boot.most(Some(100.0)), Some(102.0));
        assert_eq!(boot.most(None), None);
    }
}
