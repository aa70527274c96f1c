//! A guest that does what it cannot go on from; `fault=NAME` on the command line says what. Each
//! prints a line, does it, and prints another if it is still there.
#![no_std]
#![no_main]

mod edge;

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, TablePointer};
use bulkhead_guests::{console, power, println, task_switch};
use core::arch::asm;

bulkhead_guests::entry!(main);

/// Guest-physical addresses where there is neither RAM nor a device; where PCs have the HPET, and
/// in the hole for PCI.
const NOWHERE: u64 = 0xFED0_0000;
const NOWHERE_ELSE: u64 = 0xD000_0000;
/// Of a page-table entry: present and writable.
const PRESENT: u64 = 0b11;

const FAULTS: [(&str, &str, fn()); 15] = [
    ("fetch", "jumping to where there is no RAM", fetch),
    ("page-table", "using a page table where there is no RAM", page_table),
    ("page-root", "loading CR3 with an address where there is no RAM", page_root),
    ("stack", "taking an exception on a stack where there is no RAM", stack),
    ("interrupt-table", "taking an exception by a table where there is no RAM", interrupt_table),
    ("undecodable", "a locked exchange where there is no RAM", undecodable),
    ("string", "copying a string from where there is no RAM", string),
    ("vector", "loading a vector register from where there is no RAM", vector),
    ("task-switch", "switching tasks by hardware", task_switch::switch),
    ("edge", "running CPUID at the last canonical address", edge::cpuid_at_the_last_address),
    ("entry", "asking a hypervisor that was built for it for a VM entry that fails", failed_entry),
    ("leftover", "leaving an interrupt of every vector pending", leftover),
    ("panic", "asking a hypervisor that was built for it to panic", panic),
    ("overflow", "asking a hypervisor that was built for it to fill its stack", overflow),
    ("triple", "taking an exception without a table", triple),
];

fn main(boot: &BootParams) -> ! {
    let wanted = boot.option("fault").unwrap_or("");
    match FAULTS.into_iter().find(|&(name, ..)| name == wanted) {
        Some((name, what, act)) => {
            println!("fault {name}: {what}");
            console::flush();
            act();
            println!("fault {name}: survived");
        }
        None => {
            println!("fault={wanted}: no such fault; there are:");
            for (name, what, _) in FAULTS {
                println!("  {name}: {what}");
            }
        }
    }
    power::power_off()
}

fn fetch() {
    // SAFETY: the guest ends here.
    unsafe { asm!("call {}", in(reg) NOWHERE) };
}

fn page_table() {
    /// The second entry of the top-level table, and the address that it translates.
    const ENTRY: usize = 1;
    const ADDRESS: u64 = 1 << 39;
    let root = cpu::read_cr3() as *mut u64;
    // SAFETY: the loader's table, mapped one to one; the entry was empty, and the guest ends here.
    unsafe {
        root.add(ENTRY).write_volatile(NOWHERE_ELSE | PRESENT);
        asm!("mov al, [{}]", in(reg) ADDRESS, out("al") _);
    }
}

fn page_root() {
    // SAFETY: the guest ends here.
    unsafe { cpu::write_cr3(NOWHERE_ELSE) };
}

fn stack() {
    // SAFETY: the guest ends here.
    unsafe { asm!("mov rsp, {}", "int3", in(reg) NOWHERE_ELSE + 0x1000, options(noreturn)) };
}

fn interrupt_table() {
    let table = TablePointer { limit: 0xFFF, base: NOWHERE_ELSE };
    // SAFETY: the guest ends here.
    unsafe {
        cpu::load_interrupt_table(&table);
        asm!("int3");
    }
}

fn undecodable() {
    // SAFETY: the guest ends here.
    unsafe {
        asm!("lock cmpxchg [{at}], {value}", at = in(reg) NOWHERE, value = in(reg) 1u64,
            inout("rax") 0u64 => _);
    }
}

fn string() {
    let mut copy = [0u8; 64];
    // SAFETY: writes the array; the guest ends here.
    unsafe {
        asm!("rep movsb", inout("rsi") NOWHERE => _, inout("rdi") &raw mut copy => _,
            inout("rcx") copy.len() => _);
    }
}

fn vector() {
    /// CR4: SSE can be used.
    const OSFXSR: u64 = 1 << 9;
    // SAFETY: the guest ends here, and no code of its own uses vector registers.
    unsafe {
        cpu::write_cr4(cpu::read_cr4() | OSFXSR);
        asm!("movups xmm0, [{}]", in(reg) NOWHERE);
    }
}

fn triple() {
    cpu::triple_fault()
}

/// Not a fault of the guest's: what it leaves to whoever has the core next. Interrupts are off, so that
/// none is taken.
fn leftover() {
    /// x2APIC: an interrupt to oneself.
    const SELF_IPI: u32 = 0x83F;
    /// Vectors below are errors to an APIC.
    const FIRST: u64 = 16;
    // SAFETY: the APIC is the guest's, and interrupts are off.
    unsafe {
        asm!("cli");
        for vector in FIRST..=0xFF {
            cpu::wrmsr(SELF_IPI, vector);
        }
    }
}

fn panic() {
    /// RAX of the hypercall that panics, in a hypervisor built with the feature `testing`: "panic".
    const INJECT_PANIC: u64 = 0x70_616e_6963;
    // SAFETY: a hypercall changes no register but RAX.
    unsafe { asm!("vmcall", inout("rax") INJECT_PANIC => _) };
}

fn overflow() {
    /// RAX of the hypercall that calls itself without an end, in such a hypervisor: "stack".
    const STACK: u64 = 0x73_7461_636b;
    // SAFETY: a hypercall changes no register but RAX.
    unsafe { asm!("vmcall", inout("rax") STACK => _) };
}

fn failed_entry() {
    /// RAX of the hypercall after which the VM entry fails, in such a hypervisor: "entry".
    const INJECT_FAILED_ENTRY: u64 = 0x65_6e74_7279;
    // SAFETY: a hypercall changes no register but RAX.
    unsafe { asm!("vmcall", inout("rax") INJECT_FAILED_ENTRY => _) };
}
