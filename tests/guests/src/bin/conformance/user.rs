//! Code without privileges: what it does reaches the guest's kernel, or nobody.

use bulkhead_guests::boot::BootParams;
use bulkhead_guests::cpu::{self, TablePointer, cpuid, cr4, rflags};
use bulkhead_guests::fault::{Fault, expect_fault, name};
use bulkhead_guests::interrupts::vector::{
    ALIGNMENT_CHECK, GENERAL_PROTECTION, INVALID_OPCODE, PAGE_FAULT,
};
use bulkhead_guests::suite::{Outcome, Test};
use bulkhead_guests::{fail, skip};
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;

pub const TESTS: &[Test] = &[
    Test {
        title: "user code: a misaligned access is #AC",
        what: "CR0.AM, RFLAGS.AC, and four bytes at an odd address",
        run: misaligned,
    },
    Test {
        title: "user code: privileged instructions are #GP",
        what: "HLT, RDMSR, WRMSR, MOV CR0, INVD, IN, OUT, REP INSB",
        run: privileged,
    },
    Test {
        title: "user code: VMX instructions are #UD, and VMCALL is answered",
        what: "VMXON, VMREAD, VMLAUNCH; VMCALL, then #UD by UD2",
        run: vmx,
    },
    Test {
        title: "user code: string I/O into the kernel's memory is a fault",
        what: "REP INSB with IOPL 3, to a page that user code may not access",
        run: string_io,
    },
    Test { title: "user code: UMIP hides the tables", what: "SIDT with CR4.UMIP", run: umip },
];

/// CR0: alignment checks are possible.
const ALIGNMENT_MASK: u64 = 1 << 18;
/// RFLAGS: user code has I/O ports; and the bit that is always set.
const IOPL_3: u64 = 0b11 << 12;
const RESERVED_FLAG: u64 = 1 << 1;

fn misaligned(_: &BootParams) -> Outcome {
    let before = cpu::read_cr0();
    // SAFETY: the kernel's own code is not checked.
    unsafe { cpu::write_cr0(before | ALIGNMENT_MASK) };
    let fault = in_user_mode(code::misaligned, rflags::AC);
    // SAFETY: as it was.
    unsafe { cpu::write_cr0(before) };
    expect("a misaligned MOV", fault, ALIGNMENT_CHECK)
}

fn privileged(_: &BootParams) -> Outcome {
    let list: [(&str, Code); 8] = [
        ("HLT", code::hlt),
        ("RDMSR", code::rdmsr),
        ("WRMSR", code::wrmsr),
        ("MOV CR0", code::mov_cr0),
        ("INVD", code::invd),
        ("IN", code::port_in),
        ("OUT", code::port_out),
        ("REP INSB", code::insb),
    ];
    list.into_iter()
        .try_for_each(|(name, code)| expect(name, in_user_mode(code, 0), GENERAL_PROTECTION))
}

fn vmx(_: &BootParams) -> Outcome {
    let list: [(&str, Code); 4] = [
        ("VMXON", code::vmxon),
        ("VMREAD", code::vmread),
        ("VMLAUNCH", code::vmlaunch),
        ("UD2 behind VMCALL", code::vmcall),
    ];
    list.into_iter()
        .try_for_each(|(name, code)| expect(name, in_user_mode(code, 0), INVALID_OPCODE))
}

fn string_io(_: &BootParams) -> Outcome {
    match in_user_mode(code::insb_to_kernel, IOPL_3) {
        // The processor would say #PF; Bulkhead leaves string I/O to kernels.
        Some(Fault { vector: GENERAL_PROTECTION | PAGE_FAULT, .. }) => Ok(()),
        Some(fault) => fail!("REP INSB: {fault}"),
        None => fail!("REP INSB: no fault"),
    }
}

fn umip(_: &BootParams) -> Outcome {
    const EXTENDED: u32 = 7;
    const UMIP: u32 = 1 << 2;
    if cpuid(EXTENDED, 0).ecx & UMIP == 0 {
        skip!("the processor has no UMIP");
    }
    let before = cpu::read_cr4();
    // SAFETY: the kernel's own code is not concerned.
    unsafe { cpu::write_cr4(before | cr4::UMIP) };
    let fault = in_user_mode(code::sidt, 0);
    // SAFETY: as it was.
    unsafe { cpu::write_cr4(before) };
    expect("SIDT", fault, GENERAL_PROTECTION)
}

fn expect(what: &str, fault: Option<Fault>, vector: u8) -> Outcome {
    match fault {
        Some(fault) if fault.vector == vector && fault.error_code == 0 => Ok(()),
        Some(fault) => fail!("{what}: {fault}, not {}", name(vector)),
        None => fail!("{what}: no {}", name(vector)),
    }
}

type Code = unsafe extern "C" fn() -> !;

/// What runs without privileges; each ends in a fault, if only that of its UD2.
mod code {
    use super::naked_asm;

    macro_rules! code {
        ($($name:ident: $($text:literal),*;)*) => {
            $(
                /// # Safety
                /// For user mode.
                #[unsafe(naked)]
                pub unsafe extern "C" fn $name() -> ! {
                    naked_asm!($($text,)* "ud2")
                }
            )*
        };
    }
    code! {
        misaligned: "mov eax, [rsp - 63]";
        hlt: "hlt";
        rdmsr: "mov ecx, 0x1b", "rdmsr";
        wrmsr: "mov ecx, 0x808", "xor eax, eax", "xor edx, edx", "wrmsr";
        mov_cr0: "mov rax, cr0";
        invd: "invd";
        port_in: "mov edx, 0x3fd", "in al, dx";
        port_out: "mov edx, 0x600", "mov al, 0x34", "out dx, al";
        insb: "mov edx, 0x1230", "lea rdi, [rsp - 64]", "mov ecx, 8", "rep insb";
        insb_to_kernel: "mov edx, 0x1230", "mov edi, 0x100000", "mov ecx, 8", "rep insb";
        vmxon: "vmxon [rsp - 64]";
        vmread: "vmread rax, rcx";
        vmlaunch: "vmlaunch";
        vmcall: "vmcall";
        sidt: "sidt [rsp - 64]";
    }
}

/// Segments: those of the kernel at the places that the loader gave them, then user data, user
/// code, and the two halves of the task's descriptor.
const USER_DATA: u64 = 0x20 | 3;
const USER_CODE: u64 = 0x28 | 3;
const TASK: u16 = 0x30;
type Segments = [u64; 8];

/// A 64-bit task-state segment (SDM Vol. 3A, 8.7): the stack for ring 0 is at byte 4.
#[repr(C, packed)]
struct Task {
    reserved: u32,
    ring_0_stack: u64,
    rest: [u8; 92],
}

#[repr(C, align(16))]
struct Stack([u8; 4096]);

/// What a switch to user mode needs.
struct World {
    segments: Segments,
    task: Task,
    kernel_stack: Stack,
    user_stack: Stack,
}

struct Shared(UnsafeCell<World>);

// SAFETY: there is one processor, and `in_user_mode` does not call itself.
unsafe impl Sync for Shared {}

static WORLD: Shared = Shared(UnsafeCell::new(World {
    segments: [
        0,
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        0,
        0,
    ],
    task: Task { reserved: 0, ring_0_stack: 0, rest: [0; 92] },
    kernel_stack: Stack([0; 4096]),
    user_stack: Stack([0; 4096]),
}));

/// Runs code without privileges, with more flags set; returns what ended it.
fn in_user_mode(code: Code, flags: u64) -> Option<Fault> {
    let world = WORLD.0.get();
    // SAFETY: nothing else accesses the world, and its addresses are good for as long as the
    // guest runs. The segments in use stay as they are.
    let user_stack = unsafe {
        (*world).task.ring_0_stack = (&raw const (*world).kernel_stack).add(1) as u64;
        let [low, high] = task_descriptor(&raw const (*world).task as u64);
        (*world).segments[6] = low;
        (*world).segments[7] = high;
        cpu::load_global_table(&TablePointer::to(&raw const (*world).segments));
        asm!("ltr {:x}", in(reg) TASK, options(nostack, preserves_flags));
        open_to_user(code as *const () as u64);
        (&raw const (*world).user_stack).add(1) as u64
    };
    let entry = code as *const () as u64;
    expect_fault(|| {
        // SAFETY: the code ends in a fault, which comes back here through the task's stack.
        unsafe {
            asm!("push {ss}", "push {stack}", "push {flags}", "push {cs}", "push {entry}", "iretq",
                ss = in(reg) USER_DATA, stack = in(reg) user_stack,
                flags = in(reg) flags | RESERVED_FLAG, cs = in(reg) USER_CODE,
                entry = in(reg) entry, options(noreturn));
        }
    })
}

/// An available 64-bit TSS, present (SDM Vol. 3A, 8.2.3).
fn task_descriptor(base: u64) -> [u64; 2] {
    const AVAILABLE: u64 = 0x89 << 40;
    const LIMIT: u64 = size_of::<Task>() as u64 - 1;
    let low = LIMIT | (base & 0xFF_FFFF) << 16 | AVAILABLE | (base >> 24 & 0xFF) << 56;
    [low, base >> 32]
}

/// Gives user code the 2 MiB page that the guest is in, through the loader's page tables.
///
/// # Safety
/// The tables are the loader's: three levels, mapped one to one.
unsafe fn open_to_user(address: u64) {
    const USER: u64 = 1 << 2;
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    const INDEX: u64 = 0x1FF;
    const SHIFTS: [u32; 3] = [39, 30, 21];
    let mut table = cpu::read_cr3() & ADDRESS;
    for shift in SHIFTS {
        let entry = (table as *mut u64).wrapping_add((address >> shift & INDEX) as usize);
        // SAFETY: the caller's contract.
        unsafe {
            entry.write_volatile(entry.read_volatile() | USER);
            table = entry.read_volatile() & ADDRESS;
        }
    }
    // SAFETY: the same tables as before.
    unsafe { cpu::write_cr3(cpu::read_cr3()) };
}
