//! How large an emulated machine is made for its guests.

use anyhow::{Result, anyhow, bail};
use bulkhead_boot::Manifest;

/// Memory besides the guests' in MiB: the hypervisor's own, the image with its bundle, and some that is left over.
const MORE_MEMORY: u64 = 384;
/// The least memory that a machine gets unless it is named.
const LEAST_MEMORY: u64 = 512;

/// Cores and memory of an emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Processor cores, the service core among them; all threads of physical cores.
    pub cores: u32,
    /// Threads of each physical core.
    pub threads: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Size {
    /// A machine on which the guests of a manifest run, where it is not named: a physical core for each core that they
    /// want, and 384 MiB more than they want, at least 512.
    ///
    /// # Errors
    /// If no number of MiB that an emulator takes is enough, or the cores cannot have so many threads each.
    pub fn of(
        manifest: &Manifest,
        cores: Option<u32>,
        threads: u32,
        memory_mib: Option<u32>,
    ) -> Result<Self> {
        let guests = manifest.guests();
        // A core that is named has to be there, whatever the number of the others.
        let highest = guests.iter().flat_map(|guest| guest.cores.numbers()).max().copied();
        let physical = u32::try_from(manifest.requirements().cores()).unwrap_or(u32::MAX);
        let needed = physical.saturating_add(1).saturating_mul(threads);
        let needed = needed.max(highest.unwrap_or(1) + 1).div_ceil(threads) * threads;
        let cores = cores.unwrap_or(needed);
        if !cores.is_multiple_of(threads) {
            bail!(
                "--cores {cores}: physical cores have {threads} threads each; give it a multiple of {threads}"
            );
        }
        let wanted = guests.iter().map(|guest| guest.memory >> 20).fold(0, u64::saturating_add);
        let memory_mib = match memory_mib {
            Some(memory_mib) => memory_mib,
            None => u32::try_from(wanted.saturating_add(MORE_MEMORY).max(LEAST_MEMORY)).map_err(
                |_| anyhow!("the guests want {wanted} MiB; name a machine with --memory"),
            )?,
        };
        Ok(Self { cores, threads, memory_mib })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn manifest(guests: &[(&str, &str)]) -> Manifest {
        let guest = |(index, (cores, memory)): (usize, &(&str, &str))| {
            format!(
                "[[guest]]\nname = \"g{index}\"\ncores = {cores}\nmemory = \"{memory}\"\nkernel = \"k\"\n\
                 owner = \"me\"\npurpose = \"a test\"\nclassification = \"test\"\nexpires = \"never\"\n"
            )
        };
        let text: String = guests.iter().enumerate().map(guest).collect();
        Manifest::parse(&text, Path::new("m.toml")).unwrap()
    }

    fn size(guests: &[(&str, &str)], cores: Option<u32>, memory: Option<u32>) -> (u32, u32) {
        let manifest = manifest(guests);
        let size = Size::of(&manifest, cores, 1, memory).unwrap();
        (size.cores, size.memory_mib)
    }

    #[test]
    fn a_machine_is_as_large_as_its_guests_need() {
        assert_eq!(size(&[("1", "16 MiB")], None, None), (2, 512));
        assert_eq!(size(&[("2", "128 MiB"), ("1", "1 GiB")], None, None), (4, 1536));
        // Cores that are named have to be there; others find room between them.
        assert_eq!(size(&[("[6, 2]", "16 MiB"), ("1", "16 MiB")], None, None), (7, 512));
        assert_eq!(size(&[("[2]", "16 MiB"), ("3", "16 MiB")], None, None), (5, 512));
        assert_eq!(size(&[("3", "1 GiB")], Some(2), Some(64)), (2, 64));
    }

    #[test]
    fn threads_come_with_their_physical_core() {
        let cores = |of: &str, cores: Option<u32>| {
            Size::of(&manifest(&[(of, "16 MiB")]), cores, 2, None).map(|size| size.cores)
        };
        assert_eq!(cores("2", None).unwrap(), 6);
        assert_eq!(cores("[8]", None).unwrap(), 10);
        assert_eq!(cores("1", Some(2)).unwrap(), 2);
        assert_eq!(
            cores("1", Some(3)).unwrap_err().to_string(),
            "--cores 3: physical cores have 2 threads each; give it a multiple of 2"
        );
    }
}
