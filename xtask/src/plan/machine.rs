//! The machine to plan for: from a boot log, or as an emulator's would be.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bulkhead_plan::footprint::{Demand, Extent, Footprint, MOST_CORES};
use bulkhead_plan::{Core, Machine};

use crate::emulator::Size;

const MIB: u64 = 1 << 20;
/// Host-physical memory below 640 KiB that the boot stages leave, and the highest frame of it, which the hypervisor takes
/// for the start-up code of the other cores. Frame 0 stays unused.
const LOW: Range<u64> = 0x1000..0x9_E000;
const START_UP: Range<u64> = 0x9_E000..0x9_F000;
/// The BIOS keeps this much of the highest memory below 4 GiB for its own tables.
const FIRMWARE: u64 = 64 << 10;
/// From here on the boot stages put the hypervisor's image and the bundle. How long they are is known only when the
/// guests' files are: this is what the demo's take.
const IMAGE: u64 = 16 * MIB;
const IMAGE_AND_BUNDLE: u64 = 17 * MIB;
/// Where a machine has more memory than fits below the PCI hole, it ends at 3 GiB and goes on at 4 GiB.
const HOLE: Range<u64> = 3 << 30..4 << 30;
const MOST_BELOW_HOLE: u64 = 3584 * MIB;
/// The machine whose boot log is in a file.
pub fn of_log(log: &Path) -> Result<Machine> {
    let shown = log.display();
    let bytes = fs::read(log).with_context(|| format!("reading {shown}"))?;
    // What a guest printed need not be text.
    Machine::find_in(&String::from_utf8_lossy(&bytes)).with_context(|| shown.to_string())
}

/// The machine that an emulator makes, by BIOS, for guests that make these demands and operators that take so many bytes: cores and the hypervisor's memory are
/// what a boot without a screen's log finds, free memory is an estimate.
pub fn of_emulator(
    size: Size,
    operators: u64,
    demands: impl IntoIterator<Item = Demand>,
) -> Result<Machine> {
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
    let extent = Extent {
        cores: cores as usize,
        ioapics: 1,
        bundle: IMAGE_AND_BUNDLE,
        framebuffer: 0,
        memory,
        operators,
    };
    let needed = Footprint::new(&extent, demands).bytes();
    // As the hypervisor takes it: from the top.
    let end = low_end.saturating_sub(FIRMWARE);
    let own = end.saturating_sub(needed)..end;
    let image = IMAGE..IMAGE + IMAGE_AND_BUNDLE;
    if own.start < image.end {
        let least = (image.end + needed + FIRMWARE).div_ceil(MIB);
        bail!(
            "--memory {memory_mib}: too little for the hypervisor alone; give it {least} or more"
        );
    }
    let free = [LOW, MIB..image.start, image.end..own.start];
    Ok(Machine {
        cores: (0..cores.min(MOST_CORES as u32))
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

    /// As Bochs with 600 MiB and 5 cores logged it, with a bundle of 80 KiB.
    const BOCHS: &str = "machine: cores 0=0 1=1 2=2 3=3 4=4, thread bits 0, hypervisor 0x9e000-0x9f000 \
        0x25663000-0x257f0000, free 0x1000-0x9e000 0x100000-0x1000000 0x112c000-0x25663000";

    fn model(cores: u32, threads: u32, memory_mib: u32) -> Result<Machine> {
        let guest = Demand { cores: 1, memory: 16 * MIB, text: "g0".len() + "hello".len() };
        of_emulator(Size { cores, threads, memory_mib }, 0, [guest; 3])
    }

    #[test]
    fn an_emulated_machine_is_what_its_boot_log_says_but_for_the_bundle() {
        let mut logged: Machine = BOCHS.parse().unwrap();
        logged.free[2].start = IMAGE + IMAGE_AND_BUNDLE;
        logged.estimated = true;
        assert_eq!(model(5, 1, 600).unwrap(), logged);
    }

    #[test]
    fn memory_goes_on_above_the_hole() {
        let below = model(2, 2, 3583).unwrap();
        assert_eq!(below.hypervisor[1].end, 3583 * MIB - FIRMWARE);
        assert_eq!(below.thread_bits, 1);
        let above = model(2, 1, 4096).unwrap();
        assert_eq!(above.free.last(), Some(&(4 << 30..5 << 30)));
        assert_eq!(above.hypervisor[1].end, (3 << 30) - FIRMWARE);
    }

    #[test]
    fn machines_that_are_none() {
        let message = |cores, memory_mib| model(cores, 1, memory_mib).unwrap_err().to_string();
        assert!(message(0, 512).starts_with("--cores 0: "));
        assert_eq!(
            message(2, 34),
            "--memory 34: too little for the hypervisor alone; give it 35 or more"
        );
        assert!(model(2, 1, 35).is_ok());
        assert_eq!(model(200, 1, 512).unwrap().cores.len(), 64);
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
