//! Tests of the EPT builder, with tables in a vector.

use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The fake frames' first address; not zero, so that a forgotten address shows.
const FIRST_FRAME: u64 = 0x7_0000_0000;

struct Frames {
    tables: Vec<[u64; ENTRIES]>,
    limit: usize,
}

impl Frames {
    fn new() -> Self {
        Self { tables: Vec::new(), limit: usize::MAX }
    }

    fn number(table: HostPhysical) -> usize {
        assert!(table.is_aligned(FRAME_SIZE));
        ((table.as_u64() - FIRST_FRAME) / FRAME_SIZE) as usize
    }
}

impl TableFrames for Frames {
    fn allocate(&mut self) -> Option<HostPhysical> {
        if self.tables.len() == self.limit {
            return None;
        }
        self.tables.push([0; ENTRIES]);
        let number = self.tables.len() as u64 - 1;
        Some(HostPhysical::new(FIRST_FRAME + number * FRAME_SIZE))
    }

    fn read(&self, table: HostPhysical, index: Index) -> u64 {
        self.tables[Self::number(table)][index.get()]
    }

    fn write(&mut self, table: HostPhysical, index: Index, entry: u64) {
        self.tables[Self::number(table)][index.get()] = entry;
    }
}

const FULL: Capabilities = Capabilities {
    page_sizes: PageSizes { two_mib: true, one_gib: true },
    execute_only: true,
    physical_bits: 46,
};

fn build(capabilities: Capabilities) -> (Frames, Ept) {
    let mut frames = Frames::new();
    let ept = Ept::new(&mut frames, capabilities).unwrap();
    (frames, ept)
}

/// Maps RAM with the largest pages there are.
fn map((frames, ept): &mut (Frames, Ept), guest: u64, host: u64, len: u64) -> Result<(), MapError> {
    let (guest, host) = (GuestPhysical::new(guest), HostPhysical::new(host));
    ept.map(frames, guest, host, len, Rights::ALL, MemoryType::WriteBack, PageSize::OneGib)
}

fn host_and_size((frames, ept): &(Frames, Ept), guest: u64) -> Option<(u64, PageSize)> {
    let found = ept.translate(frames, GuestPhysical::new(guest));
    found.map(|(host, _, _, size)| (host.as_u64(), size))
}

#[test]
fn entries_have_the_manuals_bits() {
    let mut guest = build(FULL);
    let (frames, ept) = (&mut guest.0, &mut guest.1);
    let at = (GuestPhysical::new(0x5000), HostPhysical::new(0x1234_5000));
    let (ram, small) = (MemoryType::WriteBack, PageSize::FourKib);
    ept.map(frames, at.0, at.1, 0x1000, Rights::READ_EXECUTE, ram, small).unwrap();
    // Root, PDPT, PD, PT in the order of allocation; RWX on the way, R-X and WB (6 << 3) in the leaf.
    assert_eq!(frames.tables[0][0], (FIRST_FRAME + 0x1000) | 0b111);
    assert_eq!(frames.tables[2][0], (FIRST_FRAME + 0x3000) | 0b111);
    assert_eq!(frames.tables[3][5], 0x1234_5000 | 0b101 | 6 << 3);
    // An uncached 1 GiB page at 1 GiB, writable: bit 7 marks the page.
    let at = (GuestPhysical::new(GIB), HostPhysical::new(3 * GIB));
    ept.map(frames, at.0, at.1, GIB, Rights::READ_WRITE, MemoryType::Uncached, PageSize::OneGib)
        .unwrap();
    assert_eq!(frames.tables[1][1], (3 * GIB) | 0b011 | 1 << 7);
    assert_eq!(ept.tables(), 4);
}

#[test]
fn eptp_names_root_type_length_and_flags() {
    let (_, ept) = build(FULL);
    assert_eq!(ept.eptp(false), FIRST_FRAME | 6 | 3 << 3);
    assert_eq!(ept.eptp(true), FIRST_FRAME | 6 | 3 << 3 | 1 << 6);
}

#[test]
fn capabilities_are_read_from_the_msr() {
    // What Bochs's Skylake-X reports: execute-only, 2 MiB and 1 GiB.
    assert_eq!(Capabilities::from_msr(0x0000_0f01_0633_4141, 46), FULL);
    let none = Capabilities::from_msr(0, 39);
    assert_eq!(none.page_sizes, PageSizes { two_mib: false, one_gib: false });
    assert!(!none.execute_only);
    assert_eq!(none.physical_bits, 39);
}

#[test]
fn pages_grow_with_alignment_and_shrink_at_the_ends() {
    let mut guest = build(FULL);
    // From 4 KiB below 2 MiB to 4 KiB past 2 GiB + 2 MiB.
    let start = 2 * MIB - FRAME_SIZE;
    map(&mut guest, start, 4 * GIB + start, 2 * GIB + 2 * FRAME_SIZE).unwrap();
    assert_eq!(host_and_size(&guest, start - 1), None);
    assert_eq!(host_and_size(&guest, start), Some((4 * GIB + start, PageSize::FourKib)));
    assert_eq!(host_and_size(&guest, 2 * MIB), Some((4 * GIB + 2 * MIB, PageSize::TwoMib)));
    assert_eq!(host_and_size(&guest, GIB + 7), Some((5 * GIB + 7, PageSize::OneGib)));
    assert_eq!(host_and_size(&guest, 2 * GIB), Some((6 * GIB, PageSize::TwoMib)));
    let end = 2 * GIB + 2 * MIB;
    assert_eq!(host_and_size(&guest, end), Some((4 * GIB + end, PageSize::FourKib)));
    assert_eq!(host_and_size(&guest, end + FRAME_SIZE), None);
    // Root, PDPT, two PDs, two PTs.
    assert_eq!(guest.1.tables(), 6);
    assert_eq!(guest.0.tables.len(), 6);
}

#[test]
fn large_pages_need_capability_permission_and_common_alignment() {
    let sizes =
        |two_mib, one_gib| Capabilities { page_sizes: PageSizes { two_mib, one_gib }, ..FULL };
    for (capabilities, expected) in [
        (sizes(false, false), PageSize::FourKib),
        (sizes(true, false), PageSize::TwoMib),
        (sizes(true, true), PageSize::OneGib),
        (sizes(false, true), PageSize::OneGib),
    ] {
        let mut guest = build(capabilities);
        map(&mut guest, GIB, GIB, GIB).unwrap();
        assert_eq!(host_and_size(&guest, GIB + MIB), Some((GIB + MIB, expected)));
    }
    // The host's address is 2 MiB-aligned only.
    let mut guest = build(FULL);
    map(&mut guest, GIB, GIB + 2 * MIB, GIB).unwrap();
    assert_eq!(host_and_size(&guest, GIB), Some((GIB + 2 * MIB, PageSize::TwoMib)));
    // The caller wants small pages.
    let (frames, ept) = (&mut guest.0, &mut guest.1);
    let (at, to) = (GuestPhysical::new(4 * GIB), HostPhysical::new(4 * GIB));
    let ram = MemoryType::WriteBack;
    ept.map(frames, at, to, 2 * MIB, Rights::ALL, ram, PageSize::FourKib).unwrap();
    assert_eq!(host_and_size(&guest, 4 * GIB), Some((4 * GIB, PageSize::FourKib)));
}

#[test]
fn overlap_is_refused_and_changes_nothing() {
    let mut guest = build(FULL);
    map(&mut guest, 4 * MIB, GIB, FRAME_SIZE).unwrap();
    map(&mut guest, 2 * GIB, 2 * GIB, GIB).unwrap();
    let before = guest.0.tables.clone();
    for (at, len, first) in [
        (4 * MIB, FRAME_SIZE, 4 * MIB),
        (0, 8 * MIB, 4 * MIB),
        (2 * GIB + 5 * FRAME_SIZE, FRAME_SIZE, 2 * GIB + 5 * FRAME_SIZE),
        (GIB, 3 * GIB, 2 * GIB),
    ] {
        let overlap = Err(MapError::Overlap(GuestPhysical::new(first)));
        assert_eq!(map(&mut guest, at, 8 * GIB, len), overlap);
        assert_eq!(guest.0.tables, before);
    }
    // Neighbours are no overlap.
    map(&mut guest, 4 * MIB + FRAME_SIZE, 8 * GIB, FRAME_SIZE).unwrap();
    map(&mut guest, 4 * MIB - FRAME_SIZE, 9 * GIB, FRAME_SIZE).unwrap();
}

#[test]
fn misaligned_and_empty_ranges_are_refused() {
    let mut guest = build(FULL);
    for (at, to, len) in [(1, 0, 4096), (0, 0x800, 4096), (0, 0, 4097), (0, 0, 0)] {
        assert_eq!(map(&mut guest, at, to, len), Err(MapError::Misaligned));
    }
    assert_eq!(guest.1.tables(), 1);
}

#[test]
fn ranges_beyond_the_limits_are_refused() {
    let mut guest = build(FULL);
    let top = 1 << FULL.physical_bits;
    assert_eq!(map(&mut guest, top, 0, FRAME_SIZE), Err(MapError::BeyondLimit));
    assert_eq!(map(&mut guest, 0, top - FRAME_SIZE, 2 * FRAME_SIZE), Err(MapError::BeyondLimit));
    let last = u64::MAX - FRAME_SIZE + 1;
    assert_eq!(map(&mut guest, last, 0, 2 * FRAME_SIZE), Err(MapError::BeyondLimit));
    map(&mut guest, top - FRAME_SIZE, top - FRAME_SIZE, FRAME_SIZE).unwrap();
    // A wide processor: hosts may lie above 48 bits, guests may not.
    let mut guest = build(Capabilities { physical_bits: 52, ..FULL });
    assert_eq!(map(&mut guest, 1 << GUEST_BITS, 0, FRAME_SIZE), Err(MapError::BeyondLimit));
    map(&mut guest, 0, 1 << 51, FRAME_SIZE).unwrap();
    assert_eq!(host_and_size(&guest, 1), Some(((1 << 51) + 1, PageSize::FourKib)));
    assert_eq!(host_and_size(&guest, 1 << GUEST_BITS), None);
}

#[test]
fn rights_that_the_processor_lacks_are_refused() {
    let attempt = |capabilities, read, write, execute| {
        let (mut frames, mut ept) = build(capabilities);
        let rights = Rights { read, write, execute };
        let (at, to) = (GuestPhysical::new(0), HostPhysical::new(0));
        ept.map(&mut frames, at, to, 4096, rights, MemoryType::WriteBack, PageSize::FourKib)
            .map(|()| ept.translate(&frames, at).unwrap().1 == rights)
            .ok()
    };
    let plain = Capabilities { execute_only: false, ..FULL };
    assert_eq!(attempt(FULL, false, false, true), Some(true));
    assert_eq!(attempt(plain, false, false, true), None);
    assert_eq!(attempt(FULL, false, true, false), None);
    assert_eq!(attempt(FULL, false, true, true), None);
    assert_eq!(attempt(FULL, false, false, false), None);
    for (write, execute) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(attempt(plain, true, write, execute), Some(true));
    }
}

#[test]
fn running_out_of_frames_is_an_error_that_can_be_retried() {
    let mut guest = build(FULL);
    guest.0.limit = 3;
    let (start, len) = (2 * MIB - FRAME_SIZE, 2 * MIB);
    assert_eq!(map(&mut guest, start, GIB + start, len), Err(MapError::OutOfFrames));
    assert_eq!(host_and_size(&guest, start), None);
    // An empty table may now stand where a large page would go; smaller pages are used there.
    guest.0.limit = usize::MAX;
    map(&mut guest, 0, 0, GIB).unwrap();
    assert_eq!(host_and_size(&guest, start), Some((start, PageSize::TwoMib)));
    let mut none = Frames { tables: Vec::new(), limit: 0 };
    assert!(Ept::new(&mut none, FULL).is_none());
}

proptest! {
    #[test]
    fn every_page_of_a_mapped_range_translates_and_its_neighbours_do_not(
        guest_page in 1u64..(8 << 18), host_page in 0u64..(8 << 18), pages in 1u64..1500,
        two_mib: bool, one_gib: bool, aligned: bool,
    ) {
        let mask = if aligned { !511 } else { !0 };
        let (at, to) = ((guest_page & mask | 512) * FRAME_SIZE, (host_page & mask) * FRAME_SIZE);
        let page_sizes = PageSizes { two_mib, one_gib };
        let mut guest = build(Capabilities { page_sizes, ..FULL });
        map(&mut guest, at, to, pages * FRAME_SIZE).unwrap();
        for page in 0..pages {
            let (host, _) = host_and_size(&guest, at + page * FRAME_SIZE + 5).unwrap();
            prop_assert_eq!(host, to + page * FRAME_SIZE + 5);
        }
        prop_assert_eq!(host_and_size(&guest, at - 1), None);
        prop_assert_eq!(host_and_size(&guest, at + pages * FRAME_SIZE), None);
    }

    #[test]
    fn decoding_any_entry_never_panics(raw: u64, level in 1u32..=4) {
        let _ = Entry::decode(raw, level);
    }
}
