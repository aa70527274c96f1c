//! The hypervisor tries what it must not be able to do: write to its code, execute its data, leave its stacks, reach a
//! guest's memory from a core that is not the guest's. For a build to be tested, in which each core does it at its start, and
//! again when it is given its first guest. Where something else follows than must, the core panics.

use super::cores::Core;
use super::plan::Definition;
use crate::arch::local;
use crate::arch::protection::Found;
use crate::arch::testing::host_msrs;
use crate::arch::testing::probe::{self, Access, code};
use crate::memory::address_space::{DIRECT, USER, WINDOW};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use log::info;
use spin::Once;

/// What must follow: nothing, or a page fault with this error code.
type Followed = Result<(), u64>;

/// The page's rights must forbid a write, or a fetch.
const NO_WRITE: Followed = Err(code::PRESENT | code::WRITE);
const NO_FETCH: Followed = Err(code::PRESENT | code::FETCH);
/// The page's owner is a user: SMAP must forbid a read.
const NO_USER_READ: Followed = Err(code::PRESENT);
/// Nothing may be mapped.
const UNMAPPED_READ: Followed = Err(0);
const UNMAPPED_WRITE: Followed = Err(code::WRITE);

/// RET.
const RETURN: u8 = 0xC3;
static DATA: AtomicU8 = AtomicU8::new(RETURN);
static READ_ONLY: [u8; 16] = [RETURN; 16];

/// A guest, as others may not know it.
struct Neighbour {
    name: String,
    /// Host-physical.
    memory: Range<u64>,
    cores: Vec<usize>,
}

static NEIGHBOURS: Once<Vec<Neighbour>> = Once::new();
/// Cores that have looked for their neighbours, a bit for each.
static LOOKED: AtomicU64 = AtomicU64::new(0);

/// Tries one access on this core.
fn check(what: &str, access: Access, at: u64, must: Followed) {
    let core = local::core_index();
    // SAFETY: what may succeed is an access to memory of the hypervisor's that stays as it is, to a RET, or to a guest's memory
    // before the guest has it. Whatever else succeeds ends in a panic.
    let followed = unsafe { probe::touch(access, at) };
    assert!(
        followed == must,
        "self-test: {what} at {at:#x}: {followed:x?} followed, {must:x?} must follow"
    );
    match must {
        Ok(()) => info!("self-test: core {core}: {what}: done, as it must be"),
        Err(code) => {
            info!("self-test: core {core}: {what}: page fault (code {code:#x}), as it must be");
        }
    }
}

/// What each core tries of its own.
pub fn at_start(core: &Core) {
    use Access::{Execute, Read, Write};
    let own_code = probe::own_return();
    check("a read of its own code", Read, own_code, Ok(()));
    check("a call to its own code", Execute, own_code, Ok(()));
    check("a write to its own code", Write, own_code, NO_WRITE);
    let read_only = black_box(&raw const READ_ONLY) as u64;
    check("a write to read-only data", Write, read_only, NO_WRITE);
    check("a call to read-only data", Execute, read_only, NO_FETCH);
    check("a write to data", Write, DATA.as_ptr() as u64, Ok(()));
    check("a call to data", Execute, DATA.as_ptr() as u64, NO_FETCH);
    let heap = Box::new(RETURN);
    check("a call to the heap", Execute, black_box(&raw const *heap) as u64, NO_FETCH);
    let stack = RETURN;
    check("a call to the stack", Execute, black_box(&raw const stack) as u64, NO_FETCH);
    for (stack, below) in core.below_stacks() {
        check(&alloc::format!("a read below the {stack} stack"), Read, below, UNMAPPED_READ);
        check(&alloc::format!("a write below the {stack} stack"), Write, below, UNMAPPED_WRITE);
    }
    check("a read at address 0", Read, 0, UNMAPPED_READ);
    let found = Found::here();
    if found.contains(Found::SMAP) {
        check("a read of a user's page", Read, USER, NO_USER_READ);
    }
    if found.contains(Found::SMEP) {
        check("a call to a user's page", Execute, USER, NO_FETCH);
    }
    host_msrs::remember();
    info!("self-test: core {}: passed", core.index);
}

/// Tells the cores which guests there are. The service core tries to reach each.
pub fn place(definitions: &[Definition]) {
    let neighbour = |definition: &Definition| {
        let place = definition.place.as_ref()?;
        let cores = place.cores.iter().map(|core| core.index).collect();
        Some(Neighbour { name: definition.name.clone(), memory: place.at.clone(), cores })
    };
    NEIGHBOURS.call_once(|| definitions.iter().filter_map(neighbour).collect());
    look_for_neighbours();
}

/// What each core tries of its guest's memory, and of the others', once, before its guest has it.
pub fn look_for_neighbours() {
    use Access::{Read, Write};
    let core = local::core_index();
    let Some(neighbours) = NEIGHBOURS.get() else { return };
    // Nobody's at boot: what it has been given since is not in the list.
    if core != 0 && !neighbours.iter().any(|neighbour| neighbour.cores.contains(&core)) {
        return;
    }
    if LOOKED.fetch_or(1 << (core % 64), Ordering::SeqCst) >> (core % 64) & 1 != 0 {
        return;
    }
    // Up to where its own guest's memory goes.
    let mut window = WINDOW;
    for Neighbour { name, memory, cores } in neighbours {
        let what = |access: &str| alloc::format!("a {access} of guest {name}'s memory");
        if cores.contains(&core) {
            check(&what("read"), Read, WINDOW, Ok(()));
            check(&what("write"), Write, WINDOW, Ok(()));
            window += memory.end - memory.start;
            continue;
        }
        for at in [memory.start, memory.end - 1] {
            check(&what("read"), Read, DIRECT + at, UNMAPPED_READ);
            check(&what("write"), Write, DIRECT + at, UNMAPPED_WRITE);
        }
    }
    check("a read behind its window", Read, window, UNMAPPED_READ);
    info!("self-test: core {core}: passed beside {} guests", neighbours.len());
}

/// Looks whether a guest that has ended has left this core's model-specific registers as they were at its start.
pub fn look_at_registers() {
    let core = local::core_index();
    let seen = host_msrs::compare();
    if let Some((msr, was, is)) = seen.first {
        panic!("self-test: MSR {msr:#x} was {was:#x} at the core's start and is {is:#x}");
    }
    info!(
        "self-test: core {core}: {} model-specific registers are as at its start",
        seen.registers
    );
}
