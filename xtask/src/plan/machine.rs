//! The machine to plan for: from a boot log, or as an emulator's would be.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bulkhead_plan::{Core, Machine};

use crate::emulator::Size;

const MIB: u64 = 1 << 20;
/// Host-physical memory below 640 KiB that the boot stages leave, and the highest frame of it, which the hypervisor takes
/// for the start-up code of the other cores. Frame 0 stays unused.
const LOW: Range<u64> = 0x1000..0x9_E000;
const START_UP: Range<u64> = 0x9_E000..0x9_F000;
/// Heap and tables of the hypervisor, 8 and 16 MiB: `kernel/src/control/memory_map.rs`.
const HYPERVISOR: u64 = 24 * MIB;
/// What they are aligned to.
const ALIGNMENT: u64 = 2 * MIB;
/// The BIOS keeps this much of the highest memory below 4 GiB for its own tables.
const FIRMWARE: u64 = 64 << 10;
/// From here on the boot stages put the hypervisor's image and the bundle. How long they are is known only when the
/// guests' files are: this is what the demo's take.
const IMAGE: u64 = 16 * MIB;
const IMAGE_AND_BUNDLE: u64 = 17 * MIB;
/// Where a machine has more memory than fits below the PCI hole, it ends at 3 GiB and goes on at 4 GiB.
const HOLE: Range<u64> = 3 << 30..4 << 30;
const MOST_BELOW_HOLE: u64 = 3584 * MIB;
/// The hypervisor uses no more cores.
const MOST_CORES: u32 = 64;

/// The machine whose boot log is in a file.
pub fn of_log(log: &Path) -> Result<Machine> {
    let shown = log.display();
    let bytes = fs::read(log).with_context(|| format!("reading {shown}"))?;
    // What a guest printed need not be text.
    Machine::find_in(&String::from_utf8_lossy(&bytes)).with_context(|| shown.to_string())
}

/// The machine that an emulator makes, by BIOS: cores and the hypervisor's memory are what a boot finds, free memory is an
/// estimate.
pub fn of_emulator(size: Size) -> Result<Machine> {
    let Size { cores, threads, memory_mib } = size;
    if cores == 0 {
        bail!("--cores 0: a machine has a core at least, and two to run a guest");
    }
    let memory = u64::from(memory_mib) * MIB;
    let (low_end, high) = if memory < MOST_BELOW_HOLE {
        (memory, None)
    } else {
        (HOLE.start, Some(HOLE.end..HOLE.end + (memory - HOLE.start)))
    };
    let end = low_end.saturating_sub(FIRMWARE);
    // As the hypervisor takes them: from the top.
    let own_end = end / ALIGNMENT * ALIGNMENT;
    let own = own_end.saturating_sub(HYPERVISOR)..own_end;
    let image = IMAGE..IMAGE + IMAGE_AND_BUNDLE;
    if own.start < image.end {
        let least = (image.end + HYPERVISOR + ALIGNMENT) / MIB;
        bail!(
            "--memory {memory_mib}: too little for the hypervisor alone; give it {least} or more"
        );
    }
    let free = [LOW, MIB..image.start, image.end..own.start, own.end..end];
    Ok(Machine {
        cores: (0..cores.min(MOST_CORES))
            .map(|number| Core { number, apic_id: number, usable: true })
            .collect(),
        // Emulators number the threads of a physical core one after the other, as processors do.
        thread_bits: threads.next_power_of_two().ilog2(),
        hypervisor: vec![START_UP, own],
        free: free.into_iter().chain(high).filter(|run| !run.is_empty()).collect(),
        estimated: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Bochs with 664 MiB and 5 cores logged it, with a bundle of 80 KiB.
    const BOCHS: &str = "machine: cores 0=0 1=1 2=2 3=3 4=4, thread bits 0, hypervisor 0x9e000-0x9f000 \
        0x27e00000-0x29600000, free 0x1000-0x9e000 0x100000-0x1000000 0x1108000-0x27e00000 0x29600000-0x297f0000";

    #[test]
    fn an_emulated_machine_is_what_its_boot_log_says_but_for_the_bundle() {
        let model = of_emulator(Size { cores: 5, threads: 1, memory_mib: 664 }).unwrap();
        let mut logged: Machine = BOCHS.parse().unwrap();
        logged.free[2].start = IMAGE + IMAGE_AND_BUNDLE;
        logged.estimated = true;
        assert_eq!(model, logged);
    }

    #[test]
    fn memory_goes_on_above_the_hole() {
        let below = of_emulator(Size { cores: 2, threads: 2, memory_mib: 3583 }).unwrap();
        assert_eq!(below.free.last().unwrap().end, 3583 * MIB - FIRMWARE);
        assert_eq!(below.thread_bits, 1);
        let above = of_emulator(Size { cores: 2, threads: 1, memory_mib: 4096 }).unwrap();
        assert_eq!(above.free.last(), Some(&(4 << 30..5 << 30)));
        assert_eq!(above.hypervisor[1], (3 << 30) - 26 * MIB..(3 << 30) - 2 * MIB);
    }

    #[test]
    fn machines_that_are_none() {
        let message = |cores, memory_mib| {
            of_emulator(Size { cores, threads: 1, memory_mib }).unwrap_err().to_string()
        };
        assert!(message(0, 512).starts_with("--cores 0: "));
        assert_eq!(
            message(2, 58),
            "--memory 58: too little for the hypervisor alone; give it 59 or more"
        );
        assert!(of_emulator(Size { cores: 2, threads: 1, memory_mib: 59 }).is_ok());
        assert_eq!(
            of_emulator(Size { cores: 200, threads: 1, memory_mib: 512 }).unwrap().cores.len(),
            64
        );
    }

    #[test]
    fn a_log_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("boot.log");
        let message =
            || format!("{:#}", of_log(&log).unwrap_err()).replace(log.to_str().unwrap(), "LOG");
        assert_eq!(message(), "reading LOG: No such file or directory (os error 2)");
        std::fs::write(&log, b"\xFF\xFE Bulkhead 0.1.0\r\n").unwrap();
        assert_eq!(
            message(),
            "LOG: no line \"machine: cores …\" is in it; a boot log has one before the plan"
        );
        std::fs::write(&log, [b"\xFF\r\n[   0.391235] plan: ", BOCHS.as_bytes(), b"\r\n"].concat())
            .unwrap();
        assert_eq!(of_log(&log).unwrap(), BOCHS.parse().unwrap());
    }
}
