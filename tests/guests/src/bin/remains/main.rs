//! Looks for anything of an earlier run, in memory, in its processors and in its devices; says what it
//! found; leaves something everywhere; and ends.
//!
//! A run ends in the line `clean` or in `N remains`, with a line `remains: …` for each before it. `end=reset`
//! on the command line, or nothing, makes it reset itself then, `end=triple` shut down. Where the manifest
//! says that it is to be started again, the next run looks for what this one has left. With `end=look`
//! it looks itself, which shows that it would be seen, and powers off.
#![no_std]
#![no_main]

mod devices;
mod local_apic;
mod registers;
mod vector;

use bulkhead_guests::apic::{self, base, icr, register};
use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::rdmsr;
use bulkhead_guests::interrupts::{count_all_of, count_of, vector as exception};
use bulkhead_guests::memory::{first_nonzero, unloaded};
use bulkhead_guests::trampoline::Found;
use bulkhead_guests::{acpi, console, cpu, power, println, smp, start};
use core::arch::naked_asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Ticks in which an interrupt of an earlier run's would come.
const A_WHILE: u64 = 300_000;
/// Where the local APIC's registers are after reset.
const APIC_PAGE: u64 = 0xFEE0_0000;
/// What is left everywhere: a canonical address, too.
const PATTERN: u64 = 0x0000_5EC2_E75E_C2E7;

/// General registers as they were at the entry point: rax, rbx, rcx, rdx, rdi, rbp, r8 to r15, flags.
static mut AT_ENTRY: [u64; 15] = [0; 15];
const NAMES: [&str; 15] = [
    "RAX", "RBX", "RCX", "RDX", "RDI", "RBP", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    "RFLAGS",
];
static mut STACK: start::Stack = start::Stack::new();

/// The first instruction: `rsi` points at `boot_params`. It keeps the registers before anything else does.
///
/// # Safety
/// For the loader alone.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn _start() -> ! {
    extern "C" fn begin(boot_params: u64) -> ! {
        // SAFETY: the address is the one that the loader gave, and interrupts are off.
        let boot = unsafe { start::prepare(boot_params) };
        main(&boot)
    }

    naked_asm!(
        "mov [rip + {kept}], rax",
        "mov [rip + {kept} + 8], rbx",
        "mov [rip + {kept} + 16], rcx",
        "mov [rip + {kept} + 24], rdx",
        "mov [rip + {kept} + 32], rdi",
        "mov [rip + {kept} + 40], rbp",
        "mov [rip + {kept} + 48], r8",
        "mov [rip + {kept} + 56], r9",
        "mov [rip + {kept} + 64], r10",
        "mov [rip + {kept} + 72], r11",
        "mov [rip + {kept} + 80], r12",
        "mov [rip + {kept} + 88], r13",
        "mov [rip + {kept} + 96], r14",
        "mov [rip + {kept} + 104], r15",
        "lea rsp, [rip + {stack} + {size}]",
        "pushfq",
        "pop [rip + {kept} + 112]",
        "cld",
        "xor ebp, ebp",
        "mov rdi, rsi",
        "call {begin}",
        "ud2",
        kept = sym AT_ENTRY,
        stack = sym STACK,
        size = const start::STACK_SIZE,
        begin = sym begin,
    )
}

/// What was found that should not be there.
static REMAINS: AtomicU64 = AtomicU64::new(0);

/// Notes it when something is not as it is after reset.
fn expect(what: impl fmt::Display, found: u64, expected: u64) {
    if found != expected {
        REMAINS.fetch_add(1, Ordering::SeqCst);
        println!("remains: processor {}: {what} is {found:#x}, not {expected:#x}", smp::number());
    }
}

fn main(boot: &BootParams) -> ! {
    // Until the register has been looked at, it may say anything.
    let number = registers::take_number();
    look_at_general_registers();
    expect("TSC_AUX", number, 0);
    expect("the APIC base", rdmsr(register::BASE), APIC_PAGE | base::EN | base::BSP);
    apic::enter_x2apic_mode();
    look_at_processor();
    look_at_memory(boot);
    devices::look();
    look_for_interrupts();
    let second = acpi::processors(boot).count() > 1;
    if second {
        look_at_second();
    }
    conclude();
    if second {
        smp::begin(1, leave_and_disturb);
    }
    devices::leave();
    leave_in_memory(boot);
    leave_in_processor();
    match boot.option("end") {
        Some("triple") => cpu::triple_fault(),
        Some("look") => {
            look_at_processor();
            look_at_memory(boot);
            devices::look();
            look_for_interrupts();
            conclude();
            power::power_off()
        }
        _ => power::reset(),
    }
}

/// Says what was found.
fn conclude() {
    match REMAINS.swap(0, Ordering::SeqCst) {
        0 => println!("clean"),
        remains => println!("{remains} remains"),
    }
    console::flush();
}

fn look_at_general_registers() {
    const FLAGS: u64 = 1 << 1;
    // SAFETY: written before any Rust ran.
    let at_entry = unsafe { AT_ENTRY };
    for (name, value) in NAMES.into_iter().zip(at_entry) {
        expect(name, value, if name == "RFLAGS" { FLAGS } else { 0 });
    }
}

/// What every processor has for itself. Interrupts are off.
fn look_at_processor() {
    registers::look();
    vector::look();
    local_apic::look();
}

fn leave_in_processor() {
    vector::leave();
    local_apic::leave();
    // Last, as it takes the processor's number away.
    registers::leave();
}

fn look_at_memory(boot: &BootParams) {
    for range in unloaded(boot, u64::MAX >> 1) {
        if let Some((word, at)) = first_nonzero(range) {
            expect(format_args!("memory at {at:#x}"), word, 0);
        }
    }
}

fn leave_in_memory(boot: &BootParams) {
    for range in unloaded(boot, u64::MAX >> 1) {
        for at in range.step_by(size_of::<u64>()) {
            // The start-up code of the second processor is there; it is not used any more.
            // SAFETY: RAM that is neither the guest's image nor anything of the loader's.
            unsafe { (at as *mut u64).write_volatile(PATTERN) };
        }
    }
}

/// Lets interrupts in for a while: none may come.
fn look_for_interrupts() {
    let number = smp::number();
    let came = || count_all_of(number) + count_of(number, exception::NMI);
    bulkhead_guests::interrupts::handle(exception::NMI, |_| {});
    apic::enable();
    cpu::enable_interrupts();
    smp::delay(A_WHILE);
    cpu::disable_interrupts();
    expect("the count of interrupts that came by themselves", came(), 0);
}

fn look_at_second() {
    let Some(found) = smp::start(1, || {
        look_at_processor();
        look_for_interrupts();
    }) else {
        expect("the count of starts of processor 1", 0, 1);
        return;
    };
    let Found { general, debug, control: [_, cr2, ..], .. } = found;
    let registers = general.into_iter().chain(debug).chain([cr2]);
    let names = [
        "EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP", "ESP", "DR0", "DR1", "DR2", "DR3", "DR6",
        "DR7", "CR2",
    ];
    for (name, value) in names.into_iter().zip(registers) {
        let expected = match name {
            // The processor's version, as SDM Vol. 3A, table 10-1 has it.
            "EDX" => u64::from(cpu::cpuid(1, 0).eax),
            "DR6" => registers::DR6_RESET,
            "DR7" => registers::DR7_RESET,
            _ => 0,
        };
        expect(format_args!("processor 1's first {name}"), value.into(), expected);
    }
    expect("processor 1's TSC_AUX", smp::found_auxiliary(1), 0);
    if !smp::ends(1, smp::PATIENCE) {
        expect("the count of processor 1's ended jobs", 0, 1);
    }
}

/// On the second processor: leaves all, then sends IPIs and NMIs to the first without end, so that some
/// are on their way whenever it ends.
fn leave_and_disturb() {
    leave_in_processor();
    loop {
        for vector in [0x51, 0x62, 0x73, 0xFE] {
            apic::command(icr::to(0) | icr::ASSERT | vector);
        }
        apic::command(icr::to(0) | icr::NMI | icr::ASSERT);
    }
}
