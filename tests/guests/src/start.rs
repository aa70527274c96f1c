//! From the first instruction to the guest's `main`.

use crate::boot::BootParams;
use crate::{console, interrupts};

/// Bytes of the stack.
pub const STACK_SIZE: usize = 64 << 10;

/// The memory of the stack, which grows down from its end.
#[repr(C, align(16))]
pub struct Stack([u8; STACK_SIZE]);

impl Stack {
    /// One that nothing was pushed on yet.
    #[expect(clippy::new_without_default, reason = "64 KiB are not made by value but in a static")]
    pub const fn new() -> Self {
        Self([0; STACK_SIZE])
    }
}

/// Makes ready what every guest uses: exceptions have handlers from here on.
///
/// # Safety
/// To be called once, first of all, with the address that the loader gave.
pub unsafe fn prepare(boot_params: u64) -> BootParams {
    console::prepare();
    // SAFETY: the caller's contract.
    unsafe {
        interrupts::load();
        BootParams::at(boot_params)
    }
}

/// Makes `$main`, a `fn(&BootParams) -> !`, what the guest does.
///
/// The entry point is part of the binary and not of this library, so that the linker cannot
/// miss it. What the loader left as a stack is too small to keep.
///
/// The local APIC is put into x2APIC mode first, unless `$apic`, a `fn()`, is given to do something else.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, $crate::apic::enter_x2apic_mode);
    };
    ($main:path, $apic:path) => {
        /// The first instruction: `rsi` points at `boot_params`.
        ///
        /// # Safety
        /// For the loader alone.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn _start() -> ! {
            static mut STACK: $crate::start::Stack = $crate::start::Stack::new();

            extern "C" fn start(boot_params: u64) -> ! {
                // SAFETY: the address is the one that the loader gave, and interrupts are off.
                let boot = unsafe { $crate::start::prepare(boot_params) };
                $apic();
                let main: fn(&$crate::boot::BootParams) -> ! = $main;
                main(&boot)
            }

            ::core::arch::naked_asm!(
                "cld",
                "lea rsp, [rip + {stack} + {size}]",
                // The end of the chain of frames.
                "xor ebp, ebp",
                "mov rdi, rsi",
                "call {start}",
                "ud2",
                stack = sym STACK,
                size = const $crate::start::STACK_SIZE,
                start = sym start,
            )
        }
    };
}
