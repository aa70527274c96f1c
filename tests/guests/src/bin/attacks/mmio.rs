//! Devices' memory.

use crate::place::{NOWHERE, Place, WIDTHS, load, ones, store};
use crate::{Followed, followed, runs};
use bulkhead_guests::ioapic::{self, register};
use bulkhead_guests::suite::same;
use bulkhead_guests::{cpu, ensure, fail, interrupts};
use core::arch::asm;

runs! { "mmio":
    reads_devices_that_it_has_not,
    writes_devices_that_it_has_not,
    reads_the_ioapic_at_every_offset,
    writes_the_ioapic_at_every_offset,
    crosses_pages_of_devices,
    locks_a_device,
    exchanges_with_a_device,
    adds_to_a_device,
    copies_a_string_from_a_device,
    fills_a_device_with_a_string,
    loads_16_bytes_of_a_device,
    exchanges_16_bytes_of_a_device,
    saves_512_bytes_to_a_device,
    pushes_what_a_device_says,
    calls_where_a_device_says,
}

/// HPET, TPM, VT-d, PCI configuration by memory, flash, and the local APIC, which is in x2APIC mode: its version,
/// end of interrupt and command.
const ABSENT: [u64; 10] = [
    NOWHERE,
    0xFED4_0000,
    0xFED9_0000,
    0xB000_0000,
    0xE000_0000,
    0xFF00_0000,
    0xFFFF_FFF0,
    0xFEE0_0030,
    0xFEE0_00B0,
    0xFEE0_0300,
];
const IOAPIC: u64 = 0xFEC0_0000;
const PAGE: u64 = 4096;

fn reads_devices_that_it_has_not(_: &Place) -> Followed {
    for at in ABSENT {
        for width in WIDTHS {
            same(format_args!("{width} bytes at {at:#x}"), load(at, width), ones(width))?;
        }
    }
    followed!("all ones at {} places, in every width", ABSENT.len())
}

fn writes_devices_that_it_has_not(_: &Place) -> Followed {
    let before = interrupts::count_all();
    for at in ABSENT {
        for width in WIDTHS {
            for value in [0, u64::MAX] {
                // SAFETY: no memory of the guest's is there.
                unsafe { store(at, width, value) };
                same(format_args!("{width} bytes at {at:#x}"), load(at, width), ones(width))?;
            }
        }
    }
    interrupts::let_in_for(300_000);
    same("interrupts that came", interrupts::count_all() - before, 0)?;
    followed!("nothing was kept at {} places, in every width", ABSENT.len())
}

/// What is at an offset of the IOAPIC's page, with this register selected.
fn expected(offset: u64, width: u64, selected: u8) -> u64 {
    let part = |offset: u64, width: u64| match (offset, width) {
        (0, _) => u64::from(selected),
        (0x10, 4) => ioapic::read(selected).into(),
        _ => ones(width),
    };
    // A bus of 32 bits.
    if width == 8 { part(offset, 4) | part(offset + 4, 4) << 32 } else { part(offset, width) }
}

fn reads_the_ioapic_at_every_offset(_: &Place) -> Followed {
    ioapic::select(register::VERSION);
    let mut count = 0;
    for offset in 0..PAGE - 8 {
        for width in WIDTHS {
            let read = load(IOAPIC + offset, width);
            // An access that begins before a register and ends in it meets none.
            let here = expected(offset, width, register::VERSION);
            same(format_args!("{width} bytes at offset {offset:#x}"), read, here)?;
            count += 1;
        }
    }
    followed!("all ones but at its registers, in {count} accesses")
}

fn writes_the_ioapic_at_every_offset(_: &Place) -> Followed {
    const REGISTERS: [u64; 2] = [0, 0x10];
    let entries = || (0..24).map(|pin| ioapic::read(ioapic::entry(pin)));
    let before = entries().fold(0, |sum: u32, entry| sum.rotate_left(1) ^ entry);
    ioapic::select(ioapic::entry(0));
    for offset in 0..PAGE - 8 {
        for width in WIDTHS {
            // Eight bytes are two accesses.
            let reached = REGISTERS.contains(&offset) || REGISTERS.contains(&(offset + 4));
            if !reached {
                // SAFETY: a device's page.
                unsafe { store(IOAPIC + offset, width, 0x30) };
            }
        }
    }
    let after = entries().fold(0, |sum: u32, entry| sum.rotate_left(1) ^ entry);
    same("what its entries come to", after.into(), before.into())?;
    followed!("its 24 entries are as before")
}

fn crosses_pages_of_devices(_: &Place) -> Followed {
    ioapic::select(register::VERSION);
    // The page before has nothing; the register that selects begins the IOAPIC's.
    let into = load(IOAPIC - 4, 8);
    same("8 bytes into it", into, u64::from(register::VERSION) << 32 | ones(4))?;
    for (at, width) in [
        (IOAPIC - 1, 2),
        (IOAPIC - 2, 4),
        (IOAPIC + PAGE - 1, 2),
        (IOAPIC + PAGE - 2, 4),
        (IOAPIC + PAGE - 4, 8),
        (IOAPIC + PAGE - 1, 8),
        (NOWHERE + PAGE - 1, 2),
        (NOWHERE + PAGE - 3, 4),
        (NOWHERE + PAGE - 5, 8),
    ] {
        let read = load(at, width);
        same(format_args!("{width} bytes at {at:#x}"), read, ones(width))?;
        // SAFETY: no memory of the guest's is there.
        unsafe { store(at, width, 0) };
    }
    ensure!(ioapic::read(register::VERSION) != u32::MAX, "its version is not there");
    followed!("all ones, and {into:#x} into its first register")
}

/// An access with an instruction that is not emulated: it ends the guest.
macro_rules! ends {
    ($name:ident, $($assembly:tt)*) => {
        fn $name(_: &Place) -> Followed {
            // SAFETY: the guest ends here.
            unsafe { asm!($($assembly)*) };
            fail!("the guest goes on")
        }
    };
}

static mut ROOM: [u64; 8] = [0; 8];

ends!(locks_a_device, "lock cmpxchg [{}], {}", in(reg) NOWHERE, in(reg) 1u64, inout("rax") 0u64 => _);
ends!(exchanges_with_a_device, "xchg [{}], {}", in(reg) NOWHERE, inout(reg) 1u64 => _);
ends!(adds_to_a_device, "add [{}], {}", in(reg) NOWHERE, in(reg) 1u64);
ends!(copies_a_string_from_a_device, "rep movsb", inout("rsi") NOWHERE => _,
    inout("rdi") &raw mut ROOM => _, inout("rcx") 64u64 => _);
ends!(fills_a_device_with_a_string, "rep stosd", inout("rdi") NOWHERE => _, in("rax") 0u64,
    inout("rcx") 16u64 => _);
ends!(exchanges_16_bytes_of_a_device, "xchg rbx, {1}", "lock cmpxchg16b [{0}]", "xchg rbx, {1}",
    in(reg) NOWHERE, inout(reg) 0u64 => _, inout("rax") 0u64 => _, inout("rdx") 0u64 => _, in("rcx") 0u64);
ends!(pushes_what_a_device_says, "push qword ptr [{}]", in(reg) NOWHERE);
ends!(calls_where_a_device_says, "call qword ptr [{}]", in(reg) NOWHERE);

fn with_vectors() {
    // SAFETY: no code of the guest's uses vector registers.
    unsafe { cpu::write_cr4(cpu::read_cr4() | cpu::cr4::OSFXSR) };
}

fn loads_16_bytes_of_a_device(_: &Place) -> Followed {
    with_vectors();
    // SAFETY: the guest ends here.
    unsafe { asm!("movups xmm0, [{}]", in(reg) NOWHERE) };
    fail!("the guest goes on")
}

fn saves_512_bytes_to_a_device(_: &Place) -> Followed {
    with_vectors();
    // SAFETY: the guest ends here.
    unsafe { asm!("fxsave [{}]", in(reg) NOWHERE) };
    fail!("the guest goes on")
}
