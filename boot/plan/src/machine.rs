//! A machine, and the line of the boot log that describes it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::str::FromStr;
use thiserror::Error;

/// What a line that describes a machine begins with, behind what the log puts before it.
const START: &str = "machine: cores ";
/// The parts that follow, in this order.
const THREAD_BITS: &str = ", thread bits ";
const HYPERVISOR: &str = ", hypervisor ";
const FREE: &str = ", free ";
const ESTIMATED: &str = "about ";
/// Stands for a list without elements.
const NONE: &str = "none";
/// Behind a core that cannot run guests.
const UNUSABLE: char = 'x';
/// CPUID gives the bits that tell threads apart in five bits (SDM Vol. 2A, CPUID leaf 0BH, EAX\[4:0\]).
const MOST_THREAD_BITS: u32 = 31;

/// One core: a thread, where a physical core has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its number in the log and in manifests; 0 is the service core.
    pub number: u32,
    /// Its APIC ID.
    pub apic_id: u32,
    /// Whether it can run guests, if it is not the service core.
    pub usable: bool,
}

/// What there is to give away.
///
/// Displays as one line of the boot log, and is read from it:
///
/// ```text
/// machine: cores 0=0 1=1 2=2x, thread bits 0, hypervisor 0x1e600000-0x1fe00000, free 0x1000-0x9f000 0x2000000-0x1e600000
/// ```
///
/// A core is `NUMBER=APIC-ID`, with an `x` behind it if it cannot run guests; a range of memory is `START-END`, the end
/// not in it; `none` stands for an empty list, and `about` before the free memory says that it is an estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The cores, by ascending number from 0 on; the first is the service core.
    pub cores: Vec<Core>,
    /// Low bits of an APIC ID that tell the threads of a physical core apart.
    pub thread_bits: u32,
    /// Host-physical memory that the hypervisor took for itself.
    pub hypervisor: Vec<Range<u64>>,
    /// Host-physical memory for guests.
    pub free: Vec<Range<u64>>,
    /// Whether `free` is an estimate, of a machine that has not been booted.
    pub estimated: bool,
}

/// A text that describes no machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAMachine {
    /// No line of it does.
    #[error("no line \"machine: cores …\" is in it; a boot log has one before the plan")]
    NoLine,
    /// A part of the line is missing.
    #[error("the line \"machine: …\" lacks \"{0}\"; copy all of it from a boot log")]
    Lacks(&'static str),
    /// Something in the line is not what it should be.
    #[error("in the line \"machine: …\" there is \"{found}\" where {wanted} should be")]
    Element {
        /// What is there.
        found: String,
        /// What should be there.
        wanted: &'static str,
    },
    /// The cores are not numbered 0, 1, 2 and so on.
    #[error("the line \"machine: …\" has core {found} where core {wanted} should be")]
    Order {
        /// The number that is there.
        found: u32,
        /// The number that should be there.
        wanted: usize,
    },
    /// Two cores have one APIC ID.
    #[error("the line \"machine: …\" has the APIC ID {0} twice; each core has one of its own")]
    ApicId(u32),
    /// Two ranges of memory overlap.
    #[error("in the line \"machine: …\" memory at {0:#x} is there twice")]
    Overlap(u64),
}

impl Core {
    /// Which physical core it is a thread of: the same number for all of them.
    pub(crate) fn physical(&self, thread_bits: u32) -> u32 {
        self.apic_id.checked_shr(thread_bits).unwrap_or(0)
    }
}

impl Machine {
    /// The machine that a boot log describes, or a line of one.
    ///
    /// The first such line counts: the hypervisor prints it before a guest runs, and what guests print comes behind it.
    ///
    /// # Errors
    /// What is missing or wrong in it.
    pub fn find_in(log: &str) -> Result<Self, NotAMachine> {
        log.lines()
            .find_map(|line| line.get(line.find(START)?..))
            .ok_or(NotAMachine::NoLine)?
            .parse()
    }

    /// No core twice, no memory twice.
    fn check(self) -> Result<Self, NotAMachine> {
        for (wanted, core) in self.cores.iter().enumerate() {
            if usize::try_from(core.number) != Ok(wanted) {
                return Err(NotAMachine::Order { found: core.number, wanted });
            }
            let before = self.cores.iter().take(wanted);
            if before.map(|core| core.apic_id).any(|id| id == core.apic_id) {
                return Err(NotAMachine::ApicId(core.apic_id));
            }
        }
        let mut ranges: Vec<_> = self.hypervisor.iter().chain(&self.free).collect();
        ranges.sort_by_key(|range| range.start);
        match ranges.iter().zip(ranges.iter().skip(1)).find(|(one, next)| next.start < one.end) {
            Some((_, next)) => Err(NotAMachine::Overlap(next.start)),
            None => Ok(self),
        }
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.number, self.apic_id)?;
        if self.usable { Ok(()) } else { write!(f, "{UNUSABLE}") }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |range: &Range<u64>| format!("{:#x}-{:#x}", range.start, range.end);
        let cores = list(self.cores.iter().map(ToString::to_string));
        let (hypervisor, free) = (self.hypervisor.iter().map(range), self.free.iter().map(range));
        let about = if self.estimated { ESTIMATED } else { "" };
        let (hypervisor, free) = (list(hypervisor), list(free));
        write!(f, "{START}{cores}{THREAD_BITS}{}", self.thread_bits)?;
        write!(f, "{HYPERVISOR}{hypervisor}{FREE}{about}{free}")
    }
}

fn list(elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<_> = elements.collect();
    if elements.is_empty() { NONE.to_string() } else { elements.join(" ") }
}

/// Reads what `Display` writes.
impl FromStr for Machine {
    type Err = NotAMachine;

    fn from_str(line: &str) -> Result<Self, NotAMachine> {
        fn part<'a>(line: &'a str, end: &'static str) -> Result<(&'a str, &'a str), NotAMachine> {
            line.split_once(end).ok_or(NotAMachine::Lacks(end))
        }
        let line = line.trim().strip_prefix(START).ok_or(NotAMachine::Lacks(START))?;
        let (cores, rest) = part(line, THREAD_BITS)?;
        let (bits, rest) = part(rest, HYPERVISOR)?;
        let (hypervisor, rest) = part(rest, FREE)?;
        let (estimated, free) = match rest.strip_prefix(ESTIMATED) {
            Some(free) => (true, free),
            None => (false, rest),
        };
        let thread_bits = bits.parse().ok().filter(|&bits| bits <= MOST_THREAD_BITS);
        let range = |text: &str| element(text, "a range of memory such as 0x1000-0x9f000", range);
        let machine = Self {
            cores: elements(cores)
                .map(|text| element(text, "a core such as 1=1 or 1=1x", core))
                .collect::<Result<_, _>>()?,
            thread_bits: thread_bits.ok_or_else(|| NotAMachine::Element {
                found: bits.to_string(),
                wanted: "a number of bits, 0 to 31",
            })?,
            hypervisor: elements(hypervisor).map(range).collect::<Result<_, _>>()?,
            free: elements(free).map(range).collect::<Result<_, _>>()?,
            estimated,
        };
        machine.check()
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split_ascii_whitespace().filter(|&element| element != NONE)
}

fn element<T>(
    text: &str,
    wanted: &'static str,
    read: fn(&str) -> Option<T>,
) -> Result<T, NotAMachine> {
    read(text).ok_or_else(|| NotAMachine::Element { found: text.escape_debug().collect(), wanted })
}

fn core(text: &str) -> Option<Core> {
    let (text, usable) = text.strip_suffix(UNUSABLE).map_or((text, true), |text| (text, false));
    let (number, apic_id) = text.split_once('=')?;
    Some(Core { number: number.parse().ok()?, apic_id: apic_id.parse().ok()?, usable })
}

fn range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once('-')?;
    let address = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(address(start)?..address(end)?).filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "machine: cores 0=0 1=2 2=4x, thread bits 1, hypervisor 0x1e600000-0x1fe00000, \
                        free 0x1000-0x9f000 0x2000000-0x1e600000";

    #[test]
    fn a_line_is_read_and_written() {
        let machine = Machine::find_in(LINE).unwrap();
        assert_eq!(machine.cores[2], Core { number: 2, apic_id: 4, usable: false });
        assert_eq!((machine.cores.len(), machine.thread_bits), (3, 1));
        assert_eq!(
            machine.hypervisor.as_slice(),
            core::slice::from_ref(&(0x1E60_0000..0x1FE0_0000))
        );
        assert_eq!(machine.free, [0x1000..0x9_F000, 0x200_0000..0x1E60_0000]);
        assert_eq!(machine.to_string(), LINE);
        let empty = Machine { free: Vec::new(), estimated: true, ..machine };
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }

    #[test]
    fn the_first_line_of_a_log_counts() {
        let log = format!(
            "Bulkhead 0.1.0\r\n[   0.391235] plan: {LINE}\r\nplan: machine: cores nonsense\r\n"
        );
        assert_eq!(Machine::find_in(&log), LINE.parse());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |old: &str, new: &str| {
            Machine::find_in(&LINE.replace(old, new)).unwrap_err().to_string()
        };
        assert_eq!(
            with("machine", "a machine of"),
            "no line \"machine: cores …\" is in it; a boot log has one before the plan"
        );
        assert_eq!(
            with(", free", ""),
            "the line \"machine: …\" lacks \", free \"; copy all of it from a boot log"
        );
        for (old, new, wanted) in [
            ("1=2", "1:2", "a core such as 1=1 or 1=1x"),
            ("1=2", "1=4294967296", "a core such as 1=1 or 1=1x"),
            ("bits 1", "bits 32", "a number of bits, 0 to 31"),
            ("0x9f000", "9f000", "a range of memory such as 0x1000-0x9f000"),
            ("0x1000-0x9f000", "0x9f000-0x1000", "a range of memory such as 0x1000-0x9f000"),
        ] {
            let message = with(old, new);
            assert!(message.ends_with(&format!("where {wanted} should be")), "{message}");
        }
        assert_eq!(with("1=2", "3=2"), "the line \"machine: …\" has core 3 where core 1 should be");
        assert_eq!(
            with("1=2", "1=0"),
            "the line \"machine: …\" has the APIC ID 0 twice; each core has one of its own"
        );
        assert_eq!(
            with("-0x1e600000", "-0x1e601000"),
            "in the line \"machine: …\" memory at 0x1e600000 is there twice"
        );
    }
}
