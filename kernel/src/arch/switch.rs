//! VM entry and VM exit.
//!
//! [`run`] enters the guest with VMLAUNCH. At an exit the processor loads the
//! host state, whose RIP is an [`exit_point`] and whose RSP is where `run` stood:
//! the guest's general-purpose registers are stored there, cleared, so that no
//! guest value reaches Rust in a register, and the handler is called. When it
//! says so, the registers are popped and the guest resumed; otherwise `run`
//! returns. Guest vector state stays in the registers throughout: root mode is
//! compiled without them.

use super::descriptors::DATA_SELECTOR;
use super::msr::Msr;
use super::protection::SPEC_CTRL_IBRS;
use bitflags::bitflags;
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
/// The current VMCS's host state must be this core's, with [`exit_point`]`::<H>(crossing)` as RIP, which
/// is that of its processor; its guest state and EPT must confine the guest to what it owns. Interrupts must be off.
pub unsafe fn run<H: ExitHandler>(
    handler: &mut H,
    registers: &Registers,
    crossing: Crossing,
) -> Ended {
    // What `exit_entry` does at the entries that follow. VERW is an instruction of every processor's.
    if crossing.contains(Crossing::FLUSH_L1) {
        // SAFETY: the processor has the command, as it needs it; it changes no memory.
        unsafe { Msr::FLUSH_CMD.write(FLUSH_L1D) };
    }
    if crossing.sets_ibrs() {
        // SAFETY: the processor has the register; this permits predictions, those of the guest to come.
        unsafe { Msr::SPEC_CTRL.write(0) };
    }
    // SAFETY: the caller's contract.
    let rflags = unsafe { launch(handler as *mut H as *mut (), registers) };
    if crossing.sets_ibrs() {
        // SAFETY: as above. Without an exit it has not been set again.
        unsafe { Msr::SPEC_CTRL.write(SPEC_CTRL_IBRS) };
    }
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
        "verw word ptr [rip + {selector}]",
        "vmlaunch",
        "jmp {failed}",
        host_rsp = const HOST_RSP,
        selector = sym VERW_SELECTOR,
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

bitflags! {
    /// What is done against speculation at each exit and entry, besides what is done on every processor.
    /// Which a processor needs, [`Defence`](super::protection::Defence) knows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Crossing: u8 {
        /// At exits: a CALL has retired before there is any RET.
        const CALL = 1;
        /// At exits: each entry of the return-stack buffer is made anew.
        const REFILL = 2;
        /// The same, then IBRS is set; at entries it is cleared, so that guests are not slowed down.
        const REFILL_AND_IBRS = 3;
        /// At entries: the core's buffers are overwritten.
        const VERW = 4;
        /// At entries: the L1 data cache is written back and emptied.
        const FLUSH_L1 = 8;
    }
}

impl Crossing {
    /// Nothing.
    pub const PLAIN: Self = Self::empty();
    /// Those bits that are about exits.
    const AT_EXIT: u8 = 3;

    fn sets_ibrs(self) -> bool {
        self.contains(Self::REFILL_AND_IBRS)
    }
}

/// `IA32_FLUSH_CMD`: writes the L1 data cache back and empties it.
const FLUSH_L1D: u64 = 1 << 0;
/// What VERW looks at: its overwriting of buffers is quickest with a segment that can be written.
static VERW_SELECTOR: u16 = DATA_SELECTOR;

/// Entries of a return-stack buffer (Intel's Optimization Reference Manual, 3.4.1.4: returns that
/// are more than 16 calls deep are not predicted). Those processors have more that have enhanced IBRS, too.
const RETURN_STACK: usize = 16;
// The addresses that the CALLs push are overwritten by the registers: they make the room for them.
const _: () = assert!(RETURN_STACK * size_of::<u64>() == size_of::<Registers>());

/// Where VM exits arrive on a processor that needs `crossing`: what belongs in the VMCS's host RIP.
pub fn exit_point<H: ExitHandler>(crossing: Crossing) -> u64 {
    let points: [unsafe extern "C" fn(); 16] = [
        exit_entry::<H, 0>,
        exit_entry::<H, 1>,
        exit_entry::<H, 2>,
        exit_entry::<H, 3>,
        exit_entry::<H, 4>,
        exit_entry::<H, 5>,
        exit_entry::<H, 6>,
        exit_entry::<H, 7>,
        exit_entry::<H, 8>,
        exit_entry::<H, 9>,
        exit_entry::<H, 10>,
        exit_entry::<H, 11>,
        exit_entry::<H, 12>,
        exit_entry::<H, 13>,
        exit_entry::<H, 14>,
        exit_entry::<H, 15>,
    ];
    points[usize::from(crossing.bits() % 16)] as usize as u64
}

/// Where VM exits arrive; `CROSSING` is a [`Crossing`].
///
/// The guest may have filled the return-stack buffer with addresses of its choice. A RET that is not
/// preceded by its CALL would go there, speculatively: there is one, on the way out of [`run`], and the
/// processor may run ahead to it. So the CALLs come first of all.
///
/// # Safety
/// Only a VM exit may come here, with RSP as `launch` left it.
#[unsafe(naked)]
unsafe extern "C" fn exit_entry<H: ExitHandler, const CROSSING: u8>() {
    naked_asm!(
        // Room for the registers. What runs ahead of a CALL, or returns by it, meets INT3.
        ".if ({crossing} & {at_exit}) == {call}",
        "call 3f",
        "int3",
        "3:",
        "lfence",
        "sub rsp, 8*15",
        ".elseif ({crossing} & {at_exit}) == 0",
        "sub rsp, 8*16",
        ".else",
        ".rept {return_stack}",
        "call 3f",
        "int3",
        "3:",
        ".endr",
        ".endif",
        "mov [rsp + 8*0], rax",
        "mov [rsp + 8*1], rcx",
        "mov [rsp + 8*2], rdx",
        "mov [rsp + 8*3], rbx",
        // RSP's place.
        "mov qword ptr [rsp + 8*4], 0",
        "mov [rsp + 8*5], rbp",
        "mov [rsp + 8*6], rsi",
        "mov [rsp + 8*7], rdi",
        "mov [rsp + 8*8], r8",
        "mov [rsp + 8*9], r9",
        "mov [rsp + 8*10], r10",
        "mov [rsp + 8*11], r11",
        "mov [rsp + 8*12], r12",
        "mov [rsp + 8*13], r13",
        "mov [rsp + 8*14], r14",
        "mov [rsp + 8*15], r15",
        // Before any indirect branch.
        ".if ({crossing} & {at_exit}) == {refill_and_ibrs}",
        "mov ecx, {spec_ctrl}",
        "mov eax, {ibrs}",
        "xor edx, edx",
        "wrmsr",
        ".endif",
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
        ".if {crossing} & {flush_l1}",
        "mov ecx, {flush_cmd}",
        "mov eax, {flush_l1d}",
        "xor edx, edx",
        "wrmsr",
        ".endif",
        ".if ({crossing} & {at_exit}) == {refill_and_ibrs}",
        "mov ecx, {spec_ctrl}",
        "xor eax, eax",
        "xor edx, edx",
        "wrmsr",
        ".endif",
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
        // Behind all that reads memory of the hypervisor's.
        ".if {crossing} & {verw}",
        "verw word ptr [rip + {selector}]",
        ".endif",
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
        crossing = const CROSSING,
        at_exit = const Crossing::AT_EXIT,
        call = const Crossing::CALL.bits(),
        refill_and_ibrs = const Crossing::REFILL_AND_IBRS.bits(),
        verw = const Crossing::VERW.bits(),
        flush_l1 = const Crossing::FLUSH_L1.bits(),
        return_stack = const RETURN_STACK,
        spec_ctrl = const Msr::SPEC_CTRL.number(),
        ibrs = const SPEC_CTRL_IBRS,
        flush_cmd = const Msr::FLUSH_CMD.number(),
        flush_l1d = const FLUSH_L1D,
        selector = sym VERW_SELECTOR,
        handle = sym H::handle,
        failed = sym entry_failed,
    )
}
