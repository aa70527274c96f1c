//! A defect of the hypervisor's: the core that met it stops, and the guest that it served.

use super::cores::{self, State};
use super::log as console;
use crate::arch::local::{self, StackBounds};
use crate::arch::{apic, backtrace, cpu};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

/// Most return addresses that are printed.
const DEPTH: usize = 32;
/// How far above its frame a stack may be read before the core has one of its own.
const EARLY_STACK: u64 = 4096;

/// Cores that are printing what happened to them.
static PRINTING: AtomicU64 = AtomicU64::new(0);
/// How long the end of the run waits for them, in looks.
const PATIENCE: u32 = 500_000_000;

/// Waits until each core that has panicked has said why.
pub fn wait_for_reports() {
    for _ in 0..PATIENCE {
        if PRINTING.load(Ordering::SeqCst) == 0 {
            break;
        }
        cpu::pause();
    }
}

/// Cores that have panicked, a bit for each.
static PANICKED: AtomicU64 = AtomicU64::new(0);

/// Prints the message and a backtrace, and parks the core for good.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let index = local::core_index();
    let frame = cpu::frame_pointer();
    PRINTING.fetch_add(1, Ordering::SeqCst);
    // The others are told first: what follows takes long, and may fail.
    if let Some(core) = cores::try_get(index) {
        let running = core.state() == State::Running;
        core.died();
        if running {
            cores::ring_service_core();
        }
    }
    if PANICKED.fetch_or(1 << (index % 64), Ordering::SeqCst) >> (index % 64) & 1 != 0 {
        // A panic in a panic: printing is what fails.
        PRINTING.store(0, Ordering::SeqCst);
        cpu::park();
    }
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
    if index == 0 {
        console::panic_line(format_args!("bulkhead: halted: the service core cannot go on"));
    } else {
        console::panic_line(format_args!("bulkhead: core {index} is parked, the others go on"));
        apic::quiesce();
    }
    PRINTING.fetch_sub(1, Ordering::SeqCst);
    cpu::park()
}
