//! How much memory the hypervisor itself needs, besides its image.
//!
//! It follows from what there is to serve: the machine's processors, and the guests with their memory. All of it is set
//! aside at boot, so that a guest that runs, or starts again, never needs more. Each figure is an upper bound; the
//! kernel's tests hold its code to them, and a boot says how much of the heap was in use.

use alloc::vec::Vec;
use bulkhead_manifest::limits;

/// Bytes of a KiB, in which figures are shown.
pub const KIB: u64 = 1 << 10;
/// Bytes of a frame: what tables are made of.
pub const FRAME: u64 = 4096;
/// Most cores that the hypervisor uses.
pub const MOST_CORES: u64 = limits::MAX_CORES as u64 + 1;

/// Bytes of a core's main stack.
pub const MAIN_STACK: u64 = 64 << 10;
/// Bytes of each of a core's stacks for NMI, #DF and #MC.
pub const INTERRUPT_STACK: u64 = 16 << 10;
/// How many of these a core has.
pub const INTERRUPT_STACKS: u64 = 3;
/// Host-virtual bytes that a core's stacks take, with an unmapped page below each.
pub const STACKS_STRIDE: u64 =
    MAIN_STACK + INTERRUPT_STACKS * INTERRUPT_STACK + (1 + INTERRUPT_STACKS) * FRAME;

/// What one page table, one page directory and one page-directory-pointer table map.
const TABLE_SPAN: u64 = 2 << 20;
const DIRECTORY_SPAN: u64 = 1 << 30;
const POINTERS_SPAN: u64 = 512 << 30;

/// Ranges that the hypervisor maps of the memory that it owns: the start-up frame, and pieces for heap and tables.
pub const MOST_OWNED: u64 = 4;

/// MSR bitmaps and I/O bitmaps of a guest.
const BITMAPS: u64 = 4 + 2;

/// Bytes of answers that wait for the port of the control protocol.
pub const CONTROL_QUEUE: u64 = 20 << 10;
/// Heap that is there whatever is served: the instruction decoder's tables of 96 KiB and 20 KiB while they are made, the
/// log's queue of 12 KiB, 32 records of the audit trail, of 512 bytes at the most, what passes while lines are made of
/// reports, the lines that an operator has typed, and the control protocol's queue.
const HEAP: u64 = (180 << 10) + CONTROL_QUEUE;
/// Heap for a core: its descriptor tables, its entry in the table of cores, its place in the lines of the plan.
const HEAP_OF_CORE: u64 = 1 << 10;
/// Heap for a guest's run: queues of its serial port (16 KiB of output, 4 KiB of input), its other devices.
const HEAP_OF_RUN: u64 = 24 << 10;
/// Heap for the report of a fault, which may have all fields of a VMCS, while the list of these grows. All processors of a
/// guest may make one at the same time.
const HEAP_OF_REPORT: u64 = 8 << 10;
/// Heap for a guest. Two runs, as the next is made before the last one is given up.
const HEAP_OF_GUEST: u64 = 2 * HEAP_OF_RUN;
/// Heap for a virtual processor: its exit counters (2 KiB), its entries in ACPI tables while these are made. Twice, too.
const HEAP_OF_PROCESSOR: u64 = 2 * (3 << 10);
/// How often a guest's texts are there: in its place, twice as a line of JSON, in two runs, and while the plan is made and logged.
const TEXTS: u64 = 10;
/// Heap for each EPT table: its place in the list of what a run holds, which doubles as it grows.
const HEAP_OF_TABLE: u64 = 8 * 4;

/// Of so many parts of the heap one is lost to holes between what is in use.
const HOLES: u64 = 5;

/// What a guest makes the hypervisor need memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Its processors.
    pub cores: u32,
    /// Bytes of its memory, a multiple of 2 MiB.
    pub memory: u64,
    /// Bytes of its name, its kernel's name and its command line.
    pub text: usize,
}

/// What the machine makes the hypervisor need memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Processors; no more than [`MOST_CORES`] count.
    pub cores: usize,
    /// IOAPICs.
    pub ioapics: usize,
    /// Bytes of the bundle.
    pub bundle: u64,
    /// Bytes of the framebuffer; 0 where the log is not shown.
    pub framebuffer: u64,
    /// Bytes of memory for the hypervisor and guests, an upper bound.
    pub memory: u64,
    /// Bytes of heap that operators take: themselves, and what the dearest of their passwords is checked in.
    pub operators: u64,
}

/// What is set aside for one guest, in bytes, besides its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Of the heap.
    pub heap: u64,
    /// Whole frames: VMCSs, bitmaps, the page tables of the window to its memory.
    pub tables: u64,
    /// Whole frames: its EPT.
    pub ept: u64,
}

/// What is set aside, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Heap, that of all guests included.
    pub heap: u64,
    /// Page tables that all cores share.
    pub shared: u64,
    /// Stacks and tables of the cores.
    pub cores: u64,
    /// What is each guest's own, in the manifest's order.
    pub guests: Vec<Own>,
    /// What is nobody's at first: guests may be given the processors and the memory that are left over, and one of them may
    /// lose its place to a core that fails.
    pub spare: Own,
}

impl Footprint {
    /// Works out what it takes to serve these guests on this machine.
    pub fn new(extent: &Extent, guests: impl IntoIterator<Item = Demand>) -> Self {
        let cores = (extent.cores as u64).min(MOST_CORES);
        // All but the service core.
        let (mut spare_cores, mut spare_memory) = (cores.saturating_sub(1), extent.memory);
        let own = |demand: Demand| {
            spare_cores = spare_cores.saturating_sub(demand.cores.into());
            spare_memory = spare_memory.saturating_sub(demand.memory);
            Own::of(&demand)
        };
        let guests: Vec<_> = guests.into_iter().map(own).collect();
        let mut spare = Own::running(spare_cores, spare_memory);
        // Where memory is shared in another way, a guest's may begin to lie below and above the hole for devices.
        spare.ept += guests.len() as u64 * FRAME;
        // What a core that has failed may use is lost; its guest may have another place all the same.
        let largest = guests.iter().fold(Own::default(), |most, own| most.most(own));
        let spare = spare.and(&largest);
        let used = HEAP + cores * HEAP_OF_CORE + sum(&guests, |own| own.heap) + spare.heap;
        // What operators take is taken at once and kept: there are no holes in it.
        let heap = used + used.div_ceil(HOLES - 1) + extent.operators;
        Self {
            heap: heap.next_multiple_of(FRAME),
            shared: shared_tables(extent, cores) * FRAME,
            cores: cores * core_frames() * FRAME,
            guests,
            spare,
        }
    }

    /// What is set aside for all guests together.
    pub fn for_guests(&self) -> Own {
        self.guests.iter().fold(self.spare, |sum, own| sum.and(own))
    }

    /// Tables and stacks, those of the guests included, without their EPT.
    pub fn tables(&self) -> u64 {
        self.shared + self.cores + sum(&self.guests, |own| own.tables) + self.spare.tables
    }

    /// The EPT of all guests.
    pub fn ept(&self) -> u64 {
        sum(&self.guests, |own| own.ept) + self.spare.ept
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.heap + self.tables() + self.ept()
    }
}

impl Own {
    /// What it takes to serve a guest; without processors and memory, one that is not to run.
    pub fn of(demand: &Demand) -> Self {
        let Demand { cores, memory, text } = *demand;
        let heap = HEAP_OF_GUEST + text as u64 * TEXTS;
        if cores == 0 || memory == 0 {
            return Self { heap, tables: 0, ept: 0 };
        }
        let Self { heap: more, tables, ept } = Self::running(cores.into(), memory);
        Self { heap: heap + more, tables: tables + BITMAPS * FRAME, ept }
    }

    /// What these processors and this memory take, with whatever guests.
    fn running(cores: u64, memory: u64) -> Self {
        // The window is one entry of the top level.
        let window = 1 + memory.div_ceil(DIRECTORY_SPAN);
        let ept = ept_tables(memory);
        let heap = cores * (HEAP_OF_PROCESSOR + HEAP_OF_REPORT) + (ept + BITMAPS) * HEAP_OF_TABLE;
        Self { heap, tables: (cores + window) * FRAME, ept: ept * FRAME }
    }

    /// Both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            heap: self.heap.saturating_add(other.heap),
            tables: self.tables.saturating_add(other.tables),
            ept: self.ept.saturating_add(other.ept),
        }
    }

    /// Of each the more.
    #[must_use]
    fn most(&self, other: &Self) -> Self {
        Self {
            heap: self.heap.max(other.heap),
            tables: self.tables.max(other.tables),
            ept: self.ept.max(other.ept),
        }
    }

    /// Whether it is there in what is set aside: frames are frames, whatever they are for.
    pub fn fits(&self, set_aside: &Self) -> bool {
        self.heap <= set_aside.heap && self.frames() <= set_aside.frames()
    }

    /// Bytes of frames.
    pub fn frames(&self) -> u64 {
        self.tables.saturating_add(self.ept)
    }
}

fn sum(guests: &[Own], of: fn(&Own) -> u64) -> u64 {
    guests.iter().map(of).sum()
}

/// Frames of a core: its stacks, its top-level table, its VMXON region.
const fn core_frames() -> u64 {
    (MAIN_STACK + INTERRUPT_STACKS * INTERRUPT_STACK) / FRAME + 2
}

/// The most page tables below the top level for `bytes` at any address, where only the ends need small pages. A gibibyte
/// or more may lie across entries of the top level.
const fn in_large_pages(bytes: u64) -> u64 {
    2 + bytes.div_ceil(DIRECTORY_SPAN) + 1 + bytes.div_ceil(POINTERS_SPAN) + 1
}

/// The same in small pages.
const fn in_small_pages(bytes: u64) -> u64 {
    bytes.div_ceil(TABLE_SPAN)
        + 1
        + bytes.div_ceil(DIRECTORY_SPAN)
        + 1
        + bytes.div_ceil(POINTERS_SPAN)
        + 1
}

/// Page tables that all cores share: what is at which address is the table in `kernel/src/memory/address_space.rs`.
fn shared_tables(extent: &Extent, cores: u64) -> u64 {
    const IMAGE: u64 = 4 << 20;
    // Roots: the shared one, the one that cores start with, and one in which a guest's window is made.
    let roots = 3;
    // The start-up frame, one to one.
    let start_up = 3;
    // One gibibyte at the most, each: the pointer table is counted with the bundle.
    let owned = MOST_OWNED * 4;
    let ioapics = extent.ioapics as u64 * 2;
    let bundle = in_large_pages(extent.bundle);
    let image = in_small_pages(IMAGE);
    let framebuffer = if extent.framebuffer > 0 { in_small_pages(extent.framebuffer) } else { 0 };
    let stacks = in_small_pages(cores * STACKS_STRIDE);
    roots + start_up + owned + ioapics + bundle + image + framebuffer + stacks
}

/// The most EPT tables that map so many bytes of RAM, which starts at 0 and goes on at 4 GiB, in pages of 2 MiB: larger
/// ones need fewer tables, and smaller ones do not occur, as a guest's memory is aligned.
pub const fn ept_tables(memory: u64) -> u64 {
    /// Where the lower part ends, and the upper begins: `kernel/src/memory/ram_layout.rs`.
    const LOW_END: u64 = 3 << 30;
    const HIGH_START: u64 = 4 << 30;
    let low = if memory < LOW_END { memory } else { LOW_END };
    let high = memory - low;
    let end = if high > 0 { HIGH_START + high } else { low };
    1 + end.div_ceil(POINTERS_SPAN) + low.div_ceil(DIRECTORY_SPAN) + high.div_ceil(DIRECTORY_SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn machine(cores: usize) -> Extent {
        Extent {
            cores,
            ioapics: 1,
            bundle: 20 * MIB,
            framebuffer: 0,
            memory: 512 * MIB,
            operators: 0,
        }
    }

    fn guest(cores: u32, memory: u64) -> Demand {
        Demand { cores, memory, text: 80 }
    }

    #[test]
    fn four_cores_with_three_guests_leave_the_image_2_mib_and_more_of_4() {
        let guests = [(1, 128 * MIB), (1, 160 * MIB), (1, 16 * MIB)];
        let footprint = Footprint::new(&machine(4), guests.map(|(c, m)| guest(c, m)));
        let without_ept = footprint.bytes() - footprint.ept();
        assert!(without_ept < 2 * MIB, "{footprint:?}");
        // The last nine for what is left over, or lost.
        assert_eq!(footprint.ept(), (3 * 3 + 3 + 3 + 3) * FRAME);
        assert!(footprint.heap.is_multiple_of(FRAME) && footprint.tables().is_multiple_of(FRAME));
    }

    #[test]
    fn operators_take_what_they_say() {
        let with = Extent { operators: 7 * MIB, ..machine(4) };
        let [none, some] = [machine(4), with].map(|extent| Footprint::new(&extent, []).heap);
        assert_eq!(some, none + 7 * MIB);
    }

    #[test]
    fn guests_may_be_given_what_is_left_over() {
        let guests = [(1, 128 * MIB), (2, 64 * MIB)].map(|(cores, memory)| guest(cores, memory));
        let extent = Extent { memory: 16 * GIB, ..machine(8) };
        let set_aside = Footprint::new(&extent, guests).for_guests();
        let fits =
            |demands: [Demand; 2]| Own::of(&demands[0]).and(&Own::of(&demands[1])).fits(&set_aside);
        assert!(fits(guests));
        // All of the machine to one of them, or all of it shared in another way.
        assert!(fits([guest(6, 15 * GIB), guest(1, 4 * MIB)]));
        assert!(fits([guest(3, 8 * GIB - 2 * MIB), guest(4, 8 * GIB)]));
        assert!(fits([guest(3, 4 * GIB - 2 * MIB), guest(4, 12 * GIB)]));
        // One that is not to run takes little.
        let none = Own::of(&guest(0, 0));
        assert!(none.and(&Own::of(&guest(7, 16 * GIB))).fits(&set_aside) && none.frames() == 0);
        assert!(!fits([guest(6, 15 * GIB), guest(1, 512 * GIB)]));
        assert!(!fits([guest(60, 8 * GIB), guest(1, GIB)]), "more processors than there are");
    }

    #[test]
    fn a_guest_that_has_lost_its_place_may_be_given_another() {
        let guests = [(1, 128 * MIB), (3, 2 * GIB), (2, 64 * MIB)].map(|(c, m)| guest(c, m));
        let set_aside = Footprint::new(&machine(7), guests).for_guests();
        let all = guests.iter().fold(Own::default(), |sum, guest| sum.and(&Own::of(guest)));
        for lost in &guests {
            assert!(all.and(&Own::of(lost)).fits(&set_aside), "{lost:?}");
        }
    }

    #[test]
    fn each_core_takes_the_same_up_to_the_most() {
        let of = |cores| Footprint::new(&machine(cores), []).cores;
        assert_eq!(of(8), 8 * of(1));
        assert_eq!(of(200), of(64));
        assert_eq!(of(1), MAIN_STACK + 3 * INTERRUPT_STACK + 2 * FRAME);
    }

    #[test]
    fn ept_is_counted_to_the_table() {
        for (memory, tables) in [
            (4 * MIB, 3),
            (GIB, 3),
            (GIB + 2 * MIB, 4),
            (3 * GIB, 5),
            (3 * GIB + 2 * MIB, 6),
            (4 * GIB, 6),
            // Up to 512 GiB, and 1 GiB beyond.
            (511 * GIB, 2 + 511),
            (512 * GIB, 3 + 512),
        ] {
            assert_eq!(ept_tables(memory), tables, "{memory:#x}");
        }
    }

    #[test]
    fn a_guest_of_hundreds_of_gib_is_counted_with_its_window() {
        let footprint = Footprint::new(&machine(64), [guest(63, 512 * GIB)]);
        let own = footprint.guests[0];
        assert_eq!(own.tables, (63 + 6 + 513) * FRAME);
        assert_eq!(own.ept, 515 * FRAME);
        assert!(own.heap > 515 * 8 * 3, "{own:?}");
    }
}
