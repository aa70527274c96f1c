//! What the first process does of its own: mounts, modules, measuring, the end.

use std::arch::asm;
use std::fs::File;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount as mount_at};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::ticks;

/// Rounds of which the least counts.
const ROUNDS: u32 = 1000;
/// The sleep control register of Bulkhead's guests, and what switches off (ACPI 6.5, 4.8.3.7).
const SLEEP_CONTROL: u16 = 0x600;
const POWER_OFF: u8 = 5 << 2 | 1 << 5;
/// Ticks that the console has to send what was printed.
const UNTIL_SENT: u64 = 5_000_000;
/// KVM, in the order in which its parts need each other.
const MODULES: [&str; 3] = ["irqbypass", "kvm", "kvm-intel"];

/// Mounts what the following needs.
pub fn mount() -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("devtmpfs", "/dev")] {
        mount_at(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {place}"))?;
    }
    Ok(())
}

/// Loads KVM.
pub fn load_modules() -> Result<()> {
    for name in MODULES {
        let path = format!("/modules/{name}.ko");
        let file = File::open(&path).with_context(|| path.clone())?;
        finit_module(&file, c"", 0).with_context(|| format!("loading {path}"))?;
    }
    Ok(())
}

/// Says how far the kernel had come when the first process began, and what a system call takes.
pub fn measure(arrived: u64) -> Result<()> {
    println!("\nbench: userspace {arrived}");
    // The cheapest there is: without a lock or a pointer.
    let call = ticks::least_of(ROUNDS, || {
        let _ = rustix::process::getppid();
    });
    println!("bench: syscall {}.{}", call / 10, call % 10);
    let guest = std::env::var("machine").is_ok_and(|machine| machine == "guest");
    if guest { switch_off_guest() } else { Ok(()) }
}

/// Switches off a guest of Bulkhead's or of the VMM's, without what Linux would do before, at a time that is said
/// in advance: from it and the ticks that the guest ran it follows when it began.
fn switch_off_guest() -> Result<()> {
    const EVERYTHING: i32 = 3;
    // SAFETY: lets this process, the only one, use I/O ports.
    if unsafe { libc::iopl(EVERYTHING) } != 0 {
        return Err(std::io::Error::last_os_error()).context("iopl");
    }
    let leaving = ticks::now() + UNTIL_SENT;
    println!("bench: leaving {leaving}");
    println!("bench: end");
    while ticks::now() < leaving {
        std::hint::spin_loop();
    }
    // SAFETY: the register switches the machine off and does nothing else.
    unsafe {
        asm!("out dx, al", in("dx") SLEEP_CONTROL, in("al") POWER_OFF, options(nomem, nostack));
    }
    Ok(())
}

/// Sleeps for ever, or keeps all processors busy.
pub fn stay(busy: bool) -> Result<()> {
    println!("\nbench: ready");
    if busy {
        let processors = thread::available_parallelism().context("counting processors")?;
        for _ in 0..processors.get() {
            thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
    }
    loop {
        thread::park();
    }
}

/// Ends the machine.
pub fn power_off() -> ! {
    println!("\nbench: end");
    thread::sleep(Duration::from_millis(500));
    // It does not come back unless it fails.
    let _ = reboot(RebootCommand::PowerOff);
    loop {
        thread::park();
    }
}
