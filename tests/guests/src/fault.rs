//! Instructions that are to fault: run them, see what came, go on behind them.

use crate::cpu::rflags;
use crate::interrupts::{CODE_SELECTOR, DATA_SELECTOR, Frame};
use crate::smp;
use core::arch::naked_asm;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An exception that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub vector: u8,
    /// Its error code, or 0.
    pub error_code: u64,
    /// The instruction.
    pub rip: u64,
}

impl Fault {
    /// The exception that a frame is of.
    pub fn of(frame: &Frame) -> Self {
        Self { vector: frame.vector(), error_code: frame.error_code, rip: frame.rip }
    }
}

/// Names of exceptions by vector (SDM Vol. 3A, table 6-1).
const NAMES: [&str; 22] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP",
    "#PF", "15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
];

/// What a vector is called.
pub fn name(vector: u8) -> &'static str {
    NAMES.get(usize::from(vector)).copied().unwrap_or("an interrupt")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:#x}) at {:#x}", name(self.vector), self.error_code, self.rip)
    }
}

/// A call that may be abandoned.
struct Guard {
    /// The stack pointer to go back to. Written by `guarded`.
    rsp: u64,
    fault: Option<Fault>,
    /// The call around this one.
    outer: *mut Guard,
}

/// The innermost call that is going on, on each processor.
static INNERMOST: [AtomicPtr<Guard>; smp::MOST] =
    [const { AtomicPtr::new(ptr::null_mut()) }; smp::MOST];

fn innermost() -> &'static AtomicPtr<Guard> {
    &INNERMOST[smp::number()]
}

/// Calls `attempt`; the first exception in it that has no handler ends it and is returned, and
/// interrupts are off then. What the closure holds is not dropped in that case.
pub fn expect_fault<F: FnOnce()>(attempt: F) -> Option<Fault> {
    extern "C" fn call<F: FnOnce()>(attempt: *mut Option<F>) {
        // SAFETY: `expect_fault` passes its own variable, which nothing else touches meanwhile.
        if let Some(attempt) = unsafe { (*attempt).take() } {
            attempt();
        }
    }

    let mut attempt = Some(attempt);
    let mut guard = Guard { rsp: 0, fault: None, outer: innermost().load(Ordering::SeqCst) };
    let guard = &raw mut guard;
    innermost().store(guard, Ordering::SeqCst);
    // SAFETY: `call` takes what it is given; the guard lives until the call is over. An abandoned
    // call leaves frames of plain functions behind, which have nothing to clean up.
    unsafe {
        let attempt = &raw mut attempt;
        guarded(&raw mut (*guard).rsp, call::<F> as *const () as u64, attempt.cast());
        innermost().store((*guard).outer, Ordering::SeqCst);
        (*guard).fault
    }
}

/// Ends the innermost guarded call, if there is one: the frame then leads behind it.
pub(crate) fn recover(frame: &mut Frame) -> bool {
    let guard = innermost().load(Ordering::SeqCst);
    if guard.is_null() {
        return false;
    }
    // SAFETY: it belongs to a call of `expect_fault` that is going on.
    unsafe {
        (*guard).fault = Some(Fault::of(frame));
        frame.rsp = (*guard).rsp;
    }
    frame.rip = landing as *const () as u64;
    frame.cs = CODE_SELECTOR.into();
    frame.ss = DATA_SELECTOR.into();
    frame.rflags &= !(rflags::IF | rflags::TF | rflags::AC);
    true
}

/// Calls `function(argument)`, so that [`landing`] can return in its place.
///
/// # Safety
/// `function` is an `extern "C" fn(*mut ())` that `argument` is for.
#[unsafe(naked)]
unsafe extern "C" fn guarded(rsp: *mut u64, function: u64, argument: *mut ()) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // For the alignment at a call.
        "sub rsp, 8",
        "mov [rdi], rsp",
        "mov rdi, rdx",
        "call rsi",
        "jmp {landing}",
        landing = sym landing,
    )
}

/// The end of [`guarded`].
///
/// # Safety
/// Only to be jumped to, with RSP as `guarded` noted it.
#[unsafe(naked)]
unsafe extern "C" fn landing() {
    naked_asm!(
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
