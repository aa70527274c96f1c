//! Memory that is not the guest's.

use crate::map::{self, PRESENT};
use crate::place::{MAPPED_END, NOWHERE, PAGE, Place, WIDTHS, load, ones, store};
use crate::{Followed, followed, runs};
use bulkhead_guests::console::COM1;
use bulkhead_guests::cpu::{self, TablePointer};
use bulkhead_guests::fault::expect_fault;
use bulkhead_guests::interrupts::vector::PAGE_FAULT;
use bulkhead_guests::suite::{Shortfall, same};
use bulkhead_guests::{ensure, fail, port};
use core::arch::asm;

runs! { "memory":
    reads_where_nothing_is,
    writes_where_nothing_is,
    executes_where_nothing_is,
    reads_the_hypervisor,
    writes_to_the_hypervisor,
    executes_the_hypervisor,
    reads_the_neighbour,
    writes_to_the_neighbour,
    executes_the_neighbour,
    reads_behind_the_end_of_ram,
    writes_behind_the_end_of_ram,
    executes_behind_the_end_of_ram,
    crosses_the_end_of_ram,
    reads_above_4_gib,
    uses_address_bits_that_there_are_not,
    points_page_tables_at_themselves,
    has_page_tables_in_the_last_page_of_ram,
    has_a_page_table_in_the_hypervisor,
    has_its_page_root_in_the_neighbour,
    has_a_stack_in_the_hypervisor,
    has_an_interrupt_table_in_the_neighbour,
    sends_strings_from_others,
    takes_strings_into_others,
}

/// What is written where it may not be kept.
const MARK: u64 = 0x4B52_414D_4B52_414D;
/// The same in memory.
static OWN: u64 = MARK;
/// The console's scratch register, which keeps a byte.
const SCRATCH: u16 = COM1 + 7;
const MIB: usize = 1 << 20;

/// Addresses where neither RAM nor a device is.
fn nowhere(place: &Place) -> impl Iterator<Item = u64> {
    const DEVICES: [u64; 2] = [0xFEC0_0000, 0xFEE0_0000];
    (place.ram_end..MAPPED_END).step_by(MIB).filter(|at| !DEVICES.contains(at))
}

/// Fails unless all ones are read at each address; gives how many there are.
fn ones_at(addresses: impl Iterator<Item = u64>) -> Result<u64, Shortfall> {
    let mut count = 0;
    for at in addresses {
        same(format_args!("what is at {at:#x}"), load(at, 8), u64::MAX)?;
        count += 1;
    }
    ensure!(count > 0, "nothing was tried");
    Ok(count)
}

/// Fails unless a write to each address is lost; gives how many there are.
fn lost_at(addresses: impl Iterator<Item = u64>) -> Result<u64, Shortfall> {
    ones_at(addresses.inspect(|&at| {
        // SAFETY: no memory of the guest's is there.
        unsafe { store(at, 8, MARK) };
    }))
}

fn reads_where_nothing_is(place: &Place) -> Followed {
    followed!("all ones at {} addresses", ones_at(nowhere(place))?)
}

fn writes_where_nothing_is(place: &Place) -> Followed {
    followed!("nothing was kept at {} addresses", lost_at(nowhere(place))?)
}

/// Calls an address, from which nothing can come back.
fn execute(at: u64) -> Followed {
    // SAFETY: the guest ends here.
    unsafe { asm!("call {}", in(reg) at) };
    fail!("the code at {at:#x} came back")
}

fn executes_where_nothing_is(_: &Place) -> Followed {
    execute(0xD000_0000)
}

fn reads_the_hypervisor(place: &Place) -> Followed {
    let outside = ones_at(place.hypervisor_pages().filter(|&at| at >= place.ram_end))?;
    let mut inside = 0;
    for at in place.hypervisor_pages().filter(|&at| at < place.ram_end) {
        // Its own RAM, in which nobody has written.
        same(format_args!("what is at {at:#x}"), load(at, 8), 0)?;
        inside += 1;
    }
    followed!("all ones in {outside} pages; {inside} are addresses of its own, empty memory")
}

fn writes_to_the_hypervisor(place: &Place) -> Followed {
    let outside = lost_at(place.hypervisor_pages().filter(|&at| at >= place.ram_end))?;
    let mut inside = 0;
    for at in place.hypervisor_pages().filter(|&at| at < place.ram_end) {
        // SAFETY: RAM that the guest uses for nothing.
        unsafe { store(at, 8, MARK) };
        same(format_args!("what is at {at:#x}"), load(at, 8), MARK)?;
        // SAFETY: as above.
        unsafe { store(at, 8, 0) };
        inside += 1;
    }
    followed!("nothing was kept in {outside} pages; {inside} are addresses of its own memory")
}

fn executes_the_hypervisor(place: &Place) -> Followed {
    execute(place.hypervisor_start())
}

fn reads_the_neighbour(place: &Place) -> Followed {
    followed!("all ones in {} pages", ones_at(place.neighbour_pages())?)
}

fn writes_to_the_neighbour(place: &Place) -> Followed {
    followed!("nothing was kept in {} pages", lost_at(place.neighbour_pages())?)
}

fn executes_the_neighbour(place: &Place) -> Followed {
    execute(place.neighbour.start)
}

fn reads_behind_the_end_of_ram(place: &Place) -> Followed {
    for width in WIDTHS {
        let what = format_args!("{width} bytes behind RAM");
        same(what, load(place.ram_end, width), ones(width))?;
    }
    followed!("all ones")
}

fn writes_behind_the_end_of_ram(place: &Place) -> Followed {
    for width in WIDTHS {
        // SAFETY: no memory is there.
        unsafe { store(place.ram_end, width, 0) };
        let what = format_args!("{width} bytes behind RAM");
        same(what, load(place.ram_end, width), ones(width))?;
    }
    followed!("all ones afterwards")
}

fn executes_behind_the_end_of_ram(place: &Place) -> Followed {
    execute(place.ram_end)
}

fn crosses_the_end_of_ram(place: &Place) -> Followed {
    let last = place.ram_end - 4;
    // SAFETY: the last bytes of RAM, which the guest uses for nothing.
    unsafe { store(last, 4, 0x1234_5678) };
    let read = load(last, 8);
    // SAFETY: as above.
    unsafe { store(last, 8, MARK) };
    let (kept, behind) = (load(last, 4), load(place.ram_end, 4));
    // SAFETY: as above.
    unsafe { store(last, 4, 0) };
    // What is read of RAM's part is not all ones on a processor, but nothing of others'.
    ensure!([u64::MAX, 0xFFFF_FFFF_1234_5678].contains(&read), "{read:#x} was read");
    ensure!([0x1234_5678, MARK & 0xFFFF_FFFF].contains(&kept), "RAM has {kept:#x}");
    same("what is behind RAM", behind, ones(4))?;
    followed!("{read:#x} was read; RAM has {kept:#x} then")
}

fn reads_above_4_gib(_: &Place) -> Followed {
    let bits = map::address_bits();
    let mut count = 0;
    for bit in 32..bits {
        let last = u64::MAX >> (64 - bits) & !(map::LARGE_PAGE - 1);
        for at in [1 << bit, last] {
            let linear = map::open(at, 0);
            same(format_args!("what is at {at:#x}"), load(linear, 8), u64::MAX)?;
            count += 1;
        }
    }
    map::close();
    followed!("all ones at {count} addresses of {bits} bits")
}

fn uses_address_bits_that_there_are_not(_: &Place) -> Followed {
    /// #PF: the page is there, and a bit is reserved.
    const RESERVED: u64 = 0b1001;
    let bits = map::address_bits();
    for bit in bits..52 {
        let linear = map::open(0, 1 << bit);
        match expect_fault(|| _ = load(linear, 8)) {
            Some(fault) if fault.vector == PAGE_FAULT && fault.error_code == RESERVED => {}
            Some(fault) => fail!("bit {bit}: {fault}"),
            None => fail!("bit {bit}: no fault"),
        }
    }
    map::close();
    followed!("#PF(0x9) for bits {bits} to 51")
}

/// Sends a byte from memory to the scratch register by OUTSB, and gives what has arrived there.
fn send_string(from: u64) -> u8 {
    port::write(SCRATCH, 0u8);
    // SAFETY: reads a byte; the port keeps it.
    unsafe { asm!("outsb", in("dx") SCRATCH, inout("rsi") from => _, options(nostack)) };
    port::read(SCRATCH)
}

/// Takes a byte from the scratch register into memory by INSB.
///
/// # Safety
/// Nothing that the guest needs is there.
unsafe fn take_string(into: u64, byte: u8) {
    port::write(SCRATCH, byte);
    // SAFETY: the caller's contract.
    unsafe { asm!("insb", in("dx") SCRATCH, inout("rdi") into => _, options(nostack)) };
}

fn points_page_tables_at_themselves(_: &Place) -> Followed {
    /// The entry that leads to its own table, and the address at which the table then is.
    const ENTRY: usize = 510;
    const TABLE: u64 = 0xFFFF_FF7F_BFDF_E000;
    let root = cpu::read_cr3() & map::ADDRESS;
    map::set_top(ENTRY, root | PRESENT);
    let read = load(TABLE + 8 * ENTRY as u64, 8);
    let sent = send_string(TABLE + 8 * ENTRY as u64 + 1);
    // SAFETY: an entry of the table that leads nowhere.
    unsafe { take_string(TABLE + 8 * 300, 0xA0) };
    let taken = load(TABLE + 8 * 300, 8);
    map::set_top(300, 0);
    map::set_top(ENTRY, 0);
    // The processor may have noted that the entry was used, and that the page was written.
    const NOTED: u64 = 0b11 << 5;
    same("its entry through itself", read & !NOTED, root | PRESENT)?;
    same("the byte that was sent", sent.into(), root >> 8 & 0xFF)?;
    same("the entry that was taken", taken, 0xA0)?;
    followed!("the table's own entry, {read:#x}, through itself")
}

fn has_page_tables_in_the_last_page_of_ram(place: &Place) -> Followed {
    let directory = place.ram_end - PAGE;
    let own = &raw const OWN as u64;
    map::open_by(directory, own & !(map::LARGE_PAGE - 1) | map::LARGE | PRESENT);
    let linear = map::WINDOW + (own & (map::LARGE_PAGE - 1));
    let (read, sent) = (load(linear, 8), send_string(linear));
    map::close();
    // SAFETY: RAM that the guest uses for nothing else.
    unsafe { store(directory, 8, 0) };
    same("what is read through it", read, MARK)?;
    same("what is sent through it", sent.into(), MARK & 0xFF)?;
    followed!("loads and strings go through it")
}

fn has_a_page_table_in_the_hypervisor(place: &Place) -> Followed {
    map::set_top(1, place.hypervisor_start() | PRESENT);
    // SAFETY: the guest ends here.
    unsafe { asm!("mov al, [{}]", in(reg) map::WINDOW, out("al") _) };
    fail!("a load through it came back")
}

fn has_its_page_root_in_the_neighbour(place: &Place) -> Followed {
    // SAFETY: the guest ends here.
    unsafe { cpu::write_cr3(place.neighbour.start) };
    fail!("the guest goes on")
}

fn has_a_stack_in_the_hypervisor(place: &Place) -> Followed {
    // SAFETY: the guest ends here.
    unsafe {
        asm!("mov rsp, {}", "int3", in(reg) place.hypervisor_start() + PAGE, options(noreturn))
    }
}

fn has_an_interrupt_table_in_the_neighbour(place: &Place) -> Followed {
    let table = TablePointer { limit: 0xFFF, base: place.neighbour.start };
    // SAFETY: the guest ends here.
    unsafe {
        cpu::load_interrupt_table(&table);
        asm!("int3");
    }
    fail!("the guest goes on")
}

/// Addresses of the others.
fn others(place: &Place) -> impl Iterator<Item = u64> {
    const STEP: usize = 16;
    let hypervisor = place.hypervisor_pages().filter(|&at| at >= place.ram_end);
    hypervisor.chain(place.neighbour_pages()).step_by(STEP).chain([NOWHERE])
}

fn sends_strings_from_others(place: &Place) -> Followed {
    let mut count = 0;
    for at in others(place) {
        same(format_args!("what is sent from {at:#x}"), send_string(at).into(), ones(1))?;
        count += 1;
    }
    followed!("all ones from {count} addresses")
}

fn takes_strings_into_others(place: &Place) -> Followed {
    let mut count = 0;
    for at in others(place) {
        // SAFETY: no memory of the guest's is there.
        unsafe { take_string(at, 0x5A) };
        same(format_args!("what is at {at:#x}"), load(at, 1), ones(1))?;
        count += 1;
    }
    // The register is the guest's own all the time.
    port::write(SCRATCH, 0x77u8);
    same("the scratch register", port::read::<u8>(SCRATCH).into(), 0x77)?;
    followed!("nothing was kept at {count} addresses")
}
