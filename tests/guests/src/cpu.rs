//! The processor's instructions, and names for the bits that the guests use.

use core::arch::asm;

/// Bits of CR0 (SDM Vol. 3A, 2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Write protection holds for ring 0, too.
    pub const WP: u64 = 1 << 16;
    /// Alignment checks are possible.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4 (SDM Vol. 3A, 2.5).
pub mod cr4 {
    /// Page-table entries of 8 bytes.
    pub const PAE: u64 = 1 << 5;
    /// SSE, FXSAVE and FXRSTOR.
    pub const OSFXSR: u64 = 1 << 9;
    /// User-mode instruction prevention.
    pub const UMIP: u64 = 1 << 11;
    /// VMX enable.
    pub const VMXE: u64 = 1 << 13;
    /// SMX enable.
    pub const SMXE: u64 = 1 << 14;
    /// RDFSBASE and its like.
    pub const FSGSBASE: u64 = 1 << 16;
    /// XSAVE and extended states.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u64 = 1 << 20;
}

/// `IA32_EFER` and its bits (SDM Vol. 3A, 2.2.1).
pub mod efer {
    /// The register.
    pub const MSR: u32 = 0xC000_0080;
    /// Long mode is enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode is active.
    pub const LMA: u64 = 1 << 10;
}

/// Bits of RFLAGS (SDM Vol. 1, 3.4.3).
pub mod rflags {
    /// Trap: single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts.
    pub const IF: u64 = 1 << 9;
    /// Resume: no instruction breakpoint at the next instruction.
    pub const RF: u64 = 1 << 16;
    /// Alignment check.
    pub const AC: u64 = 1 << 18;
}

/// What CPUID answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let (eax, ebx, ecx, edx);
    // SAFETY: CPUID changes nothing but the four registers; the compiler keeps RBX to itself.
    unsafe {
        asm!(
            "mov {saved}, rbx", "cpuid", "xchg {saved}, rbx",
            saved = out(reg) ebx,
            inout("eax") leaf => eax, inout("ecx") subleaf => ecx, out("edx") edx,
            options(nomem, nostack, preserves_flags)
        );
    }
    let ebx: u64 = ebx;
    Cpuid { eax, ebx: ebx as u32, ecx, edx }
}

/// RDTSC.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << u32::BITS | u64::from(low)
}

/// RDMSR; #GP where there is no such register.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: no register that is read here has side effects; a fault is the caller's to expect.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << u32::BITS | u64::from(low)
}

/// WRMSR; #GP where there is no such register, or no such value for it.
///
/// # Safety
/// The value must not take away what the guest's own code stands on.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> u32::BITS) as u32,
            options(nostack, preserves_flags));
    }
}

macro_rules! register {
    ($($read:ident $write:ident $name:literal)*) => {
        $(
            #[doc = concat!("Reads ", $name, ".")]
            pub fn $read() -> u64 {
                let value;
                // SAFETY: reads a register.
                unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nostack)) };
                value
            }

            #[doc = concat!("Writes ", $name, ".")]
            ///
            /// # Safety
            /// The value must not take away what the guest's own code stands on.
            pub unsafe fn $write(value: u64) {
                // SAFETY: the caller's contract.
                unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) };
            }
        )*
    };
}
register! {
    read_cr0 write_cr0 "cr0"
    read_cr2 write_cr2 "cr2"
    read_cr3 write_cr3 "cr3"
    read_cr4 write_cr4 "cr4"
    read_cr8 write_cr8 "cr8"
    read_dr0 write_dr0 "dr0"
    read_dr1 write_dr1 "dr1"
    read_dr2 write_dr2 "dr2"
    read_dr3 write_dr3 "dr3"
    read_dr6 write_dr6 "dr6"
    read_dr7 write_dr7 "dr7"
}

/// XGETBV: an extended control register.
pub fn xgetbv(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register; a fault is the caller's to expect.
    unsafe {
        asm!("xgetbv", in("ecx") register, out("eax") low, out("edx") high, options(nostack))
    };
    u64::from(high) << u32::BITS | u64::from(low)
}

/// XSETBV: sets an extended control register.
pub fn xsetbv(register: u32, value: u64) {
    // SAFETY: no code here uses the states that XCR0 switches; a fault is the caller's to expect.
    unsafe {
        asm!("xsetbv", in("ecx") register, in("eax") value as u32,
            in("edx") (value >> u32::BITS) as u32, options(nostack));
    }
}

/// VMCALL with a number in RAX, as KVM's guests call; returns RAX.
pub fn vmcall(number: u64) -> i64 {
    let answer;
    // SAFETY: no hypercall is given an address.
    unsafe { asm!("vmcall", inout("rax") number => answer, options(nostack)) };
    answer
}

/// What a hypervisor that was built to be tested says of its model-specific registers on this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRegisters {
    /// How many it has looked at.
    pub compared: u64,
    /// How many are not as they were at the core's start.
    pub changed: u64,
    /// The number of the first of these.
    pub first: u32,
}

/// Has the hypervisor compare its model-specific registers with those of the core's start. `None` if it was not built for that.
pub fn host_registers() -> Option<HostRegisters> {
    /// RAX of the hypercall: "msrs".
    const REGISTERS: u64 = 0x6d73_7273;
    let (answer, compared, first): (i64, u64, u64);
    // SAFETY: the hypercall changes no other register.
    unsafe {
        asm!("vmcall", inout("rax") REGISTERS => answer, out("rcx") compared, out("rdx") first,
            options(nostack));
    }
    let changed = u64::try_from(answer).ok()?;
    Some(HostRegisters { compared, changed, first: first as u32 })
}

/// RFLAGS.
pub fn flags() -> u64 {
    let value;
    // SAFETY: copies the flags through the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) value, options(preserves_flags)) };
    value
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the interrupt table is loaded before a guest's `main`.
    unsafe { asm!("sti", options(nostack)) };
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    // SAFETY: always harmless.
    unsafe { asm!("cli", options(nostack)) };
}

/// Sleeps until an interrupt, which is let in; interrupts are off before and after. None is lost
/// in between: STI takes effect behind HLT's beginning.
pub fn halt() {
    // SAFETY: the interrupt table is loaded before a guest's `main`.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Sleeps with interrupts off, until an NMI or INIT.
pub fn halt_without_interrupts() {
    // SAFETY: an NMI has a handler.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

/// UD2: raises #UD.
pub fn undefined() {
    // SAFETY: a fault is the caller's to expect.
    unsafe { asm!("ud2", options(nostack)) };
}

/// INVLPG: forgets how an address is translated.
pub fn invalidate(address: u64) {
    // SAFETY: a translation that is forgotten is looked up again.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Stops for good.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: with interrupts off, only an NMI goes on from here.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// What LIDT and LGDT take (SDM Vol. 3A, 3.5.1).
#[repr(C, packed)]
#[derive(Clone, Copy, Debug)]
pub struct TablePointer {
    /// The table's last byte.
    pub limit: u16,
    /// Its address.
    pub base: u64,
}

impl TablePointer {
    /// A table.
    pub fn to<T>(table: *const T) -> Self {
        Self { limit: (size_of::<T>() - 1) as u16, base: table as u64 }
    }
}

/// LIDT: says where the interrupt descriptor table is.
///
/// # Safety
/// Its gates must be for code that can take their interrupts, as long as it is loaded.
pub unsafe fn load_interrupt_table(table: &TablePointer) {
    // SAFETY: the caller's contract.
    unsafe { asm!("lidt [{}]", in(reg) table, options(readonly, nostack, preserves_flags)) };
}

/// LGDT: says where the global descriptor table is.
///
/// # Safety
/// It must have the segments that are in use, as long as it is loaded.
pub unsafe fn load_global_table(table: &TablePointer) {
    // SAFETY: the caller's contract.
    unsafe { asm!("lgdt [{}]", in(reg) table, options(readonly, nostack, preserves_flags)) };
}

/// SGDT: where the global descriptor table is.
pub fn global_table() -> TablePointer {
    let mut table = TablePointer { limit: 0, base: 0 };
    // SAFETY: stores to the variable.
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut table, options(nostack, preserves_flags)) };
    table
}

/// Raises an exception that cannot be delivered, nor can the double fault that follows: the
/// processor shuts down.
pub fn triple_fault() -> ! {
    let empty = TablePointer { limit: 0, base: 0 };
    // SAFETY: nothing of the guest's is of use after this.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const empty, options(noreturn)) }
}
