//! VM entry and VM exit.
//!
//! [`run`] enters the guest with VMLAUNCH. At an exit the processor loads the
//! host state, whose RIP is [`exit_entry`] and whose RSP is where `run` stood:
//! the guest's general-purpose registers are pushed there, cleared, so that no
//! guest value reaches Rust in a register, and the handler is called. When it
//! says so, the registers are popped and the guest resumed; otherwise `run`
//! returns. Guest vector state stays in the registers throughout: root mode is
//! compiled without them.

use core::arch::naked_asm;

/// General-purpose registers of a guest, by the processor's numbers: RAX, RCX,
/// RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15. RSP's place is unused; it is in the VMCS.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(pub [u64; 16]);

/// Indices into [`Registers`].
pub mod reg {
    /// Accumulator.
    pub const RAX: usize = 0;
    /// Counter.
    pub const RCX: usize = 1;
    /// Data.
    pub const RDX: usize = 2;
    /// Base.
    pub const RBX: usize = 3;
    /// Stack pointer: in the VMCS, not here.
    pub const RSP: usize = 4;
    /// Source index.
    pub const RSI: usize = 6;
}

/// What to do after an exit has been handled.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Resume = 0,
    /// Return from [`run`].
    Leave = 1,
}

/// Serves exits of the guest that runs on this core.
pub trait ExitHandler {
    /// Called with interrupts off on the stack that [`run`] was called on.
    extern "C" fn handle(&mut self, registers: &mut Registers) -> Next;
}

/// How [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The handler asked to leave.
    Left,
    /// VMLAUNCH or VMRESUME failed: bit 0 of RFLAGS is CF (no current VMCS), bit 6 ZF (see
    /// the VM-instruction error field).
    EntryFailed {
        /// RFLAGS after the instruction.
        rflags: u64,
    },
}

/// Runs the guest of the current VMCS, which must be "clear", until the handler leaves.
///
/// # Safety
/// The current VMCS's host state must be this core's, with [`exit_entry`]`::<H>` as RIP; its
/// guest state and EPT must confine the guest to what it owns. Interrupts must be off.
pub unsafe fn run<H: ExitHandler>(handler: &mut H, registers: &Registers) -> Ended {
    // SAFETY: the caller's contract.
    let rflags = unsafe { launch(handler as *mut H as *mut (), registers) };
    if rflags == 0 { Ended::Left } else { Ended::EntryFailed { rflags } }
}

/// VMCS field "host RSP" (SDM Vol. 3D, appendix B).
const HOST_RSP: u32 = x86::vmx::vmcs::host::RSP;

/// Saves what the ABI asks for, tells the VMCS where the stack is, loads the
/// guest's registers and launches. Returns 0, or RFLAGS of a failed entry
/// (never 0: bit 1 is always set).
#[unsafe(naked)]
unsafe extern "C" fn launch(handler: *mut (), registers: *const Registers) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // The handler's argument, found by `exit_entry` at a fixed distance. After it
        // the stack is aligned for the call there: 16 registers are 128 bytes.
        "push rdi",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        "mov rax, [rsi + 8*0]",
        "mov rcx, [rsi + 8*1]",
        "mov rdx, [rsi + 8*2]",
        "mov rbx, [rsi + 8*3]",
        "mov rbp, [rsi + 8*5]",
        "mov rdi, [rsi + 8*7]",
        "mov r8,  [rsi + 8*8]",
        "mov r9,  [rsi + 8*9]",
        "mov r10, [rsi + 8*10]",
        "mov r11, [rsi + 8*11]",
        "mov r12, [rsi + 8*12]",
        "mov r13, [rsi + 8*13]",
        "mov r14, [rsi + 8*14]",
        "mov r15, [rsi + 8*15]",
        "mov rsi, [rsi + 8*6]",
        "vmlaunch",
        "jmp {failed}",
        host_rsp = const HOST_RSP,
        failed = sym entry_failed,
    )
}

/// VMLAUNCH or VMRESUME fell through: RSP is as `launch` left it.
#[unsafe(naked)]
unsafe extern "C" fn entry_failed() {
    naked_asm!(
        "pushfq",
        "pop rax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Where every VM exit arrives. The address belongs in the VMCS's host RIP.
///
/// # Safety
/// Only a VM exit may come here, with RSP as `launch` left it.
#[unsafe(naked)]
pub unsafe extern "C" fn exit_entry<H: ExitHandler>() {
    naked_asm!(
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push r11",
        "push r10",
        "push r9",
        "push r8",
        "push rdi",
        "push rsi",
        "push rbp",
        // RSP's place.
        "push 0",
        "push rbx",
        "push rdx",
        "push rcx",
        "push rax",
        "mov rdi, [rsp + 128]",
        "mov rsi, rsp",
        "xor eax, eax",
        "xor ecx, ecx",
        "xor edx, edx",
        "xor ebx, ebx",
        "xor ebp, ebp",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "xor r12d, r12d",
        "xor r13d, r13d",
        "xor r14d, r14d",
        "xor r15d, r15d",
        "call {handle}",
        "test rax, rax",
        "jnz 2f",
        "pop rax",
        "pop rcx",
        "pop rdx",
        "pop rbx",
        "pop rbp",
        "pop rbp",
        "pop rsi",
        "pop rdi",
        "pop r8",
        "pop r9",
        "pop r10",
        "pop r11",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "vmresume",
        "jmp {failed}",
        "2:",
        "add rsp, 128 + 8",
        "xor eax, eax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        handle = sym H::handle,
        failed = sym entry_failed,
    )
}
