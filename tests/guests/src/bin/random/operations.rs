//! The operations, each with numbers out of the seed.

use super::{Random, bytes};
use bulkhead_guests::cpu::{self, cpuid, rdmsr, wrmsr};
use bulkhead_guests::{apic, interrupts, port};
use core::arch::asm;

/// What operations must know of the guest.
pub struct Place {
    /// Where RAM ends for certain.
    pub ram_end: u64,
}

/// What is done.
pub type Operation = fn(&mut Random, &Place);

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    identify,
    read_msr,
    write_msr,
    write_msr,
    input,
    output,
    string_input,
    string_output,
    load,
    store,
    load_device,
    store_device,
    hypercall,
    control_register,
    debug_register,
    extended_control_register,
    command,
    interrupts_on,
    privileged,
    bytes::run,
];

fn identify(random: &mut Random, _: &Place) {
    let leaf = match random.below(4) {
        0 => random.below(0x30),
        1 => 0x8000_0000 + random.below(0x20),
        2 => 0x4000_0000 + random.below(0x200),
        _ => random.any(),
    };
    cpuid(leaf as u32, random.value() as u32);
}

fn msr(random: &mut Random) -> u32 {
    let msr = match random.below(6) {
        0 => random.below(0x1000),
        1 => 0x800 + random.below(0x100),
        2 => 0xC000_0000 + random.below(0x2000),
        3 => 0x4000_0000 + random.below(0x200),
        4 => random.one_of(&[0x10, 0x1B, 0x3B, 0x174, 0x1A0, 0x277, 0xDA0, 0xC000_0080]),
        _ => random.any(),
    };
    msr as u32
}

fn read_msr(random: &mut Random, _: &Place) {
    rdmsr(msr(random));
}

fn write_msr(random: &mut Random, _: &Place) {
    /// TSC_AUX, by which the runtime knows its processor, and the command register, which has an operation of its own.
    const LEFT_OUT: [u32; 2] = [0xC000_0103, apic::register::ICR];
    let msr = msr(random);
    if LEFT_OUT.contains(&msr) {
        return;
    }
    let value = if random.below(3) == 0 { rdmsr(msr) ^ random.value() } else { random.value() };
    // SAFETY: what the runtime stands on is left out, or restored behind the operation.
    unsafe { wrmsr(msr, value) };
}

/// Ports by which a guest ends or restarts itself, and those of its console, which it needs to say how it went.
fn is_left_out(port: u16) -> bool {
    let near = |first: u16, last: u16| (first.saturating_sub(3)..=last).contains(&port);
    near(0x600, 0x602) || near(0xCF9, 0xCF9) || near(0x64, 0x64) || near(0x3F8, 0x3FF)
}

fn any_port(random: &mut Random) -> u16 {
    match random.below(3) {
        0 => random.below(0x400) as u16,
        1 => random.one_of(&[
            0x20, 0x21, 0x40, 0x42, 0x43, 0x61, 0x70, 0x71, 0x80, 0xA1, 0xCF8, 0xCFC, 0x3FD,
        ]),
        _ => random.any() as u16,
    }
}

fn input(random: &mut Random, _: &Place) {
    let from = any_port(random);
    match random.below(3) {
        0 => drop(port::read::<u8>(from)),
        1 => drop(port::read::<u16>(from)),
        _ => drop(port::read::<u32>(from)),
    }
}

fn output(random: &mut Random, _: &Place) {
    let to = any_port(random);
    if is_left_out(to) {
        return;
    }
    let value = random.value();
    match random.below(3) {
        0 => port::write(to, value as u8),
        1 => port::write(to, value as u16),
        _ => port::write(to, value as u32),
    }
}

/// Room for string instructions, in either direction from the middle.
static mut ROOM: [u8; 2 << 12] = [0; 2 << 12];

macro_rules! string {
    ($random:ident, $port:ident, $instruction:tt, $pointer:tt) => {{
        let middle = (&raw mut ROOM).cast::<u8>().wrapping_add(1 << 12);
        let (count, offset) = ($random.below(200), $random.below(16) as usize);
        let at = middle.wrapping_add(offset);
        // SAFETY: at most 200 elements of 4 bytes lie between the ends of `ROOM`, which nobody else uses.
        unsafe {
            if $random.below(2) == 0 {
                asm!("std", concat!("rep ", $instruction), "cld", in("dx") $port,
                    inout("rcx") count => _, inout($pointer) at => _, options(nostack));
            } else {
                asm!(concat!("rep ", $instruction), in("dx") $port,
                    inout("rcx") count => _, inout($pointer) at => _, options(nostack));
            }
        }
    }};
}

fn string_input(random: &mut Random, _: &Place) {
    let from = any_port(random);
    match random.below(3) {
        0 => string!(random, from, "insb", "rdi"),
        1 => string!(random, from, "insw", "rdi"),
        _ => string!(random, from, "insd", "rdi"),
    }
}

fn string_output(random: &mut Random, _: &Place) {
    let to = any_port(random);
    if is_left_out(to) {
        return;
    }
    match random.below(3) {
        0 => string!(random, to, "outsb", "rsi"),
        1 => string!(random, to, "outsw", "rsi"),
        _ => string!(random, to, "outsd", "rsi"),
    }
}

/// The end of what the guest has mapped, less an access.
const LAST: u64 = (1 << 32) - 8;

fn nowhere(random: &mut Random, place: &Place) -> u64 {
    place.ram_end + random.below(LAST - place.ram_end)
}

const IOAPIC: u64 = 0xFEC0_0000;
const LOCAL_APIC: u64 = 0xFEE0_0000;

/// An address of the IOAPIC's page or the local APIC's, but for its command register.
fn device(random: &mut Random) -> u64 {
    let page = random.one_of(&[IOAPIC, LOCAL_APIC]);
    let offset = match random.below(3) {
        0 => random.below(0x400) & !0xF,
        1 => random.one_of(&[0, 0x10, 0x40]),
        _ => random.below(0xFF8),
    };
    let is_command = page == LOCAL_APIC && (0x2F9..=0x31F).contains(&offset);
    if is_command { page } else { page + offset }
}

fn load_at(random: &mut Random, at: u64) {
    // SAFETY: no memory of the guest's is there.
    unsafe {
        match random.below(5) {
            0 => asm!("mov {0:l}, [{at}]", out(reg_abcd) _, at = in(reg) at, options(nostack)),
            1 => asm!("mov {0:x}, [{at}]", out(reg) _, at = in(reg) at, options(nostack)),
            2 => asm!("mov {0:e}, [{at}]", out(reg) _, at = in(reg) at, options(nostack)),
            3 => asm!("mov {0}, [{at}]", out(reg) _, at = in(reg) at, options(nostack)),
            _ => asm!("movsx {0}, word ptr [{at}]", out(reg) _, at = in(reg) at, options(nostack)),
        }
    }
}

fn store_at(random: &mut Random, at: u64) {
    let value = random.value();
    // SAFETY: no memory of the guest's is there.
    unsafe {
        match random.below(5) {
            0 => asm!("mov [{at}], {0:l}", in(reg_abcd) value, at = in(reg) at, options(nostack)),
            1 => asm!("mov [{at}], {0:x}", in(reg) value, at = in(reg) at, options(nostack)),
            2 => asm!("mov [{at}], {0:e}", in(reg) value, at = in(reg) at, options(nostack)),
            3 => asm!("mov [{at}], {0}", in(reg) value, at = in(reg) at, options(nostack)),
            _ => asm!("mov dword ptr [{at}], 0x5a5a", at = in(reg) at, options(nostack)),
        }
    }
}

fn load(random: &mut Random, place: &Place) {
    let at = nowhere(random, place);
    load_at(random, at);
}

fn store(random: &mut Random, place: &Place) {
    let at = nowhere(random, place);
    // The devices' pages have operations of their own.
    if at >> 22 != IOAPIC >> 22 {
        store_at(random, at);
    }
}

fn load_device(random: &mut Random, _: &Place) {
    let at = device(random);
    load_at(random, at);
}

fn store_device(random: &mut Random, _: &Place) {
    let at = device(random);
    store_at(random, at);
}

fn hypercall(random: &mut Random, _: &Place) {
    cpu::vmcall(random.value());
}

fn control_register(random: &mut Random, _: &Place) {
    /// PAE, LA57, SMEP, SMAP, PKE, CET, FRED and what else decides which memory the guest can reach.
    const CR4_LEFT_OUT: u64 = 1 << 5 | 1 << 12 | 0xF << 20 | 1 << 24 | 1 << 32;
    /// PE and PG.
    const CR0_LEFT_OUT: u64 = 1 | 1 << 31;
    /// All but the address of the top-level table.
    const CR3_FLAGS: u64 = 0xFFF | 0xFFF << 52;
    let value = random.value();
    // SAFETY: the bits by which the guest finds its memory stay.
    unsafe {
        match random.below(4) {
            0 => cpu::write_cr0(cpu::read_cr0() ^ value & !CR0_LEFT_OUT),
            1 => cpu::write_cr4(cpu::read_cr4() ^ value & !CR4_LEFT_OUT),
            2 => cpu::write_cr3(cpu::read_cr3() ^ value & CR3_FLAGS),
            _ => cpu::write_cr8(value),
        }
    }
}

fn debug_register(random: &mut Random, _: &Place) {
    /// With general detection each access to a debug register is #DB, that which ends it among them.
    const GENERAL_DETECT: u64 = 1 << 13;
    let value = random.value();
    // SAFETY: breakpoints are handled, and off again behind the operation.
    unsafe {
        match random.below(6) {
            0 => cpu::write_dr0(value),
            1 => cpu::write_dr1(value),
            2 => cpu::write_dr2(value),
            3 => cpu::write_dr3(value),
            4 => cpu::write_dr6(value),
            _ => cpu::write_dr7(value & !GENERAL_DETECT),
        }
    }
}

fn extended_control_register(random: &mut Random, _: &Place) {
    let register = if random.below(4) == 0 { random.any() as u32 } else { 0 };
    cpu::xsetbv(register, random.value());
}

/// Any command to the local APIC but INIT, by which the guest would restart itself.
fn command(random: &mut Random, _: &Place) {
    const MODE: u64 = 0b111 << 8;
    let icr = random.value();
    if icr & MODE != apic::icr::INIT {
        apic::command(icr);
    }
}

fn interrupts_on(random: &mut Random, _: &Place) {
    interrupts::let_in_for(random.below(500));
}

/// Instructions that no guest has, or that do nothing.
fn privileged(random: &mut Random, place: &Place) {
    macro_rules! instructions {
        ($($text:literal),* $(,)?) => {
            &[$(|| {
                // SAFETY: a fault is the caller's to expect; what they would read or write is zero bytes of
                // this guest's.
                unsafe { asm!($text, in("rax") 0_u64, in("rcx") 0_u64, in("rdx") 0_u64, options(nostack)) };
            }),*]
        };
    }
    const INSTRUCTIONS: &[fn()] = instructions![
        "vmxoff",
        "vmlaunch",
        "vmresume",
        "vmcall",
        "vmfunc",
        "getsec",
        "monitor",
        "mwait",
        "rdpmc",
        "wbinvd",
        "invd",
        "rsm",
        "xgetbv",
        "rdtscp",
        "pause",
        "clts",
        "ud2",
        "int3",
        "vmread rax, rdx",
        "vmwrite rax, rdx",
        "encls",
        "vmmcall",
        "skinit",
        "clgi",
        "stgi",
    ];
    if random.below(8) == 0 {
        cpu::invalidate(random.below(place.ram_end));
    }
    random.one_of(INSTRUCTIONS)();
}
