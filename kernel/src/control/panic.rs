//! A defect of the hypervisor's: the core that met it stops, and the guest that it served.

use super::cores::{self, State};
use super::log as console;
use crate::arch::local::{self, StackBounds};
use crate::arch::{apic, backtrace, cpu};
use core::panic::PanicInfo;

/// Most return addresses that are printed.
const DEPTH: usize = 32;
/// How far above its frame a stack may be read before the core has one of its own.
const EARLY_STACK: u64 = 4096;

/// Prints the message and a backtrace, and parks the core for good.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let index = local::core_index();
    let frame = cpu::frame_pointer();
    match info.location() {
        Some(at) => console::panic_line(format_args!(
            "panic: core {index}: {} at {}:{}",
            info.message(),
            at.file(),
            at.line()
        )),
        None => console::panic_line(format_args!("panic: core {index}: {}", info.message())),
    }
    let early = StackBounds { bottom: frame, top: frame.saturating_add(EARLY_STACK) & !0xFFF };
    let stack = local::stack().unwrap_or(early);
    let mut addresses = [0; DEPTH];
    let found = backtrace::collect(frame, stack, &mut addresses);
    for address in &addresses[..found] {
        console::panic_line(format_args!("  backtrace: {address:#x}"));
    }
    if let Some(core) = cores::try_get(index) {
        if core.state() == State::Running {
            core.died();
            cores::ring_service_core();
        } else {
            core.died();
        }
    }
    if index == 0 {
        console::panic_line(format_args!("bulkhead: halted: the service core cannot go on"));
    } else {
        console::panic_line(format_args!("bulkhead: core {index} is parked, the others go on"));
        apic::quiesce();
    }
    cpu::park()
}
