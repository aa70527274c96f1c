//! Whether a machine has what the guests want: asked by the packer where the machine is known, and by the hypervisor of
//! the machine that is really there.

use crate::descriptor::Descriptor;
use crate::size::Size;
use alloc::string::String;
use core::fmt::Write;
use thiserror::Error;

/// What guests ask of a machine, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    cores: u64,
    memory: u64,
    cores_each: String,
    memory_each: String,
}

/// Why guests cannot run on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DoesNotFit {
    /// A machine with one core, whatever the guests.
    #[error(
        "this machine has one core only; the service core needs one and a guest needs one, so two at least"
    )]
    OneCore,
    /// The guests want more cores than there are.
    #[error(
        "the guests need {needed} {} ({each}) besides the service core's, this machine has {total}: \
         {} left for guests; give them fewer, or use a machine with at least {}",
        plural(*needed), total.saturating_sub(1), needed.saturating_add(1)
    )]
    Cores {
        /// Cores of all guests together, without the service core.
        needed: u64,
        /// Each guest's share, for the message.
        each: String,
        /// Cores of the machine, with the service core.
        total: u32,
    },
    /// The guests want more memory than there is for them.
    #[error("the guests need {} of memory ({each}), this machine has {} for guests; give them less", Size(*needed), Size(*available))]
    Memory {
        /// Bytes of all guests together.
        needed: u64,
        /// Each guest's share, for the message.
        each: String,
        /// Bytes that the machine has for guests.
        available: u64,
    },
}

fn plural(cores: u64) -> &'static str {
    if cores == 1 { "core" } else { "cores" }
}

impl Requirements {
    /// Adds a guest of `cores` cores and `memory` bytes.
    pub fn add(&mut self, name: &str, cores: u32, memory: u64) {
        self.cores = self.cores.saturating_add(u64::from(cores));
        self.memory = self.memory.saturating_add(memory);
        let comma = if self.cores_each.is_empty() { "" } else { ", " };
        // Writing to a `String` cannot fail.
        let _ = write!(self.cores_each, "{comma}{name} {cores}");
        let _ = write!(self.memory_each, "{comma}{name} {}", Size(memory));
    }

    /// Cores of all guests together, without the service core.
    pub fn cores(&self) -> u64 {
        self.cores
    }

    /// Bytes of memory of all guests together.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether a machine of `cores_total` cores, one of which becomes the service core, and `guest_memory` bytes for
    /// guests is large enough. This is arithmetic: siblings of one physical core, or memory in pieces, can make the
    /// machine smaller still.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn fit(&self, cores_total: u32, guest_memory: u64) -> Result<(), DoesNotFit> {
        if cores_total < 2 {
            return Err(DoesNotFit::OneCore);
        }
        if self.cores > u64::from(cores_total - 1) {
            return Err(DoesNotFit::Cores {
                needed: self.cores,
                each: self.cores_each.clone(),
                total: cores_total,
            });
        }
        if self.memory > guest_memory {
            return Err(DoesNotFit::Memory {
                needed: self.memory,
                each: self.memory_each.clone(),
                available: guest_memory,
            });
        }
        Ok(())
    }
}

impl Descriptor {
    /// What the guests ask of a machine.
    pub fn requirements(&self) -> Requirements {
        let mut all = Requirements::default();
        for guest in &self.guests {
            all.add(&guest.name, guest.cores.count(), guest.memory);
        }
        all
    }

    /// Whether a machine of `cores_total` cores (the service core among them) and `guest_memory` bytes for guests is
    /// large enough; see [`Requirements::fit`].
    ///
    /// # Errors
    /// What there is too little of.
    pub fn fits(&self, cores_total: u32, guest_memory: u64) -> Result<(), DoesNotFit> {
        self.requirements().fit(cores_total, guest_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn two() -> Requirements {
        let mut all = Requirements::default();
        all.add("linux", 4, 512 << 20);
        all.add("probe", 1, 16 << 20);
        all
    }

    #[test]
    fn the_service_core_counts() {
        assert_eq!(two().fit(6, 528 << 20), Ok(()));
        assert_eq!(
            two().fit(5, u64::MAX).unwrap_err().to_string(),
            "the guests need 5 cores (linux 4, probe 1) besides the service core's, this machine has 5: \
             4 left for guests; give them fewer, or use a machine with at least 6"
        );
    }

    #[test]
    fn one_core_only() {
        let message = "this machine has one core only; the service core needs one and a guest needs one, \
                       so two at least";
        assert_eq!(two().fit(1, u64::MAX).unwrap_err().to_string(), message);
        assert_eq!(Requirements::default().fit(0, 0), Err(DoesNotFit::OneCore));
    }

    #[test]
    fn memory_that_is_there_is_rounded_down() {
        assert_eq!(
            two().fit(6, (528 << 20) - 1).unwrap_err().to_string(),
            "the guests need 528 MiB of memory (linux 512 MiB, probe 16 MiB), this machine has 527 MiB for guests; \
             give them less"
        );
    }

    #[test]
    fn sums_do_not_wrap() {
        let mut all = Requirements::default();
        all.add("a", u32::MAX, u64::MAX);
        all.add("b", u32::MAX, u64::MAX);
        assert_eq!((all.cores(), all.memory()), (2 * u64::from(u32::MAX), u64::MAX));
    }
}
