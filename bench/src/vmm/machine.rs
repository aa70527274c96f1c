//! The devices of the guest, shared by its processors, and its console.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead::device::ioapic::Message;
use bulkhead::device::platform::{Now, Outcome, Platform, Width};
use bulkhead::device::power::PowerEvent;
use bulkhead::device::rtc::{DATA_PORT, INDEX_PORT};
use bulkhead::guest::layout::IOAPIC;
use bulkhead::memory::GuestPhysical;
use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use crate::ticks;

/// Ticks a second of the machine on which this runs, as far as the guest's PIT is concerned.
const TSC_HZ: u64 = 10_000_000;

/// The devices.
pub struct Machine {
    vm: Arc<VmFd>,
    platform: Mutex<Platform>,
    /// Something is in the console's queue that was empty.
    console: Condvar,
}

impl Machine {
    /// The devices after power-on.
    pub fn new(vm: Arc<VmFd>) -> Self {
        let platform = Mutex::new(Platform::new(GuestPhysical::new(IOAPIC)));
        Self { vm, platform, console: Condvar::new() }
    }

    fn platform(&self) -> MutexGuard<'_, Platform> {
        self.platform.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a port; an access that is no access of a processor's reads as all ones.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        match Width::from_bytes(data.len() as u64) {
            Some(width) => {
                let value = self.platform().port_read(port, width, || now(port));
                data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
            }
            None => data.fill(0xFF),
        }
    }

    /// Writes a port; says whether that ends the guest.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<PowerEvent> {
        let width = Width::from_bytes(data.len() as u64)?;
        let outcome = self.platform().port_write(port, width, number(data), || now(port));
        self.heed(outcome)
    }

    /// Reads memory that is no RAM.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        match Width::from_bytes(data.len() as u64) {
            Some(width) => {
                let value = self.platform().mmio_read(GuestPhysical::new(address), width);
                data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
            }
            None => data.fill(0xFF),
        }
    }

    /// Writes memory that is no RAM.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> Option<PowerEvent> {
        let width = Width::from_bytes(data.len() as u64)?;
        let address = GuestPhysical::new(address);
        let outcome = self.platform().mmio_write(address, width, number(data));
        self.heed(outcome)
    }

    fn heed(&self, outcome: Outcome) -> Option<PowerEvent> {
        if let Some(message) = outcome.message {
            self.interrupt(message);
        }
        if outcome.console {
            self.console.notify_one();
        }
        outcome.power
    }

    /// Sends an interrupt as an MSI (SDM Vol. 3A, 11.11).
    fn interrupt(&self, message: Message) {
        const MSI: u32 = 0xFEE0_0000;
        let Message { vector, destination, logical, delivery } = message;
        let msi = kvm_msi {
            // A logical destination is in redirection hint and destination mode, bits 3 and 2.
            address_lo: MSI | u32::from(destination) << 12 | if logical { 0b1100 } else { 0 },
            data: u32::from(vector) | (delivery as u32) << 8,
            ..Default::default()
        };
        // Zero says that the guest blocks it, which is its own affair.
        if let Err(error) = self.vm.signal_msi(msi) {
            println!("bench: error sending an interrupt: {error}");
        }
    }

    /// Has a thread print what the guest says, as Bulkhead's service core does.
    pub fn start_console(self: &Arc<Self>) {
        let machine = Arc::clone(self);
        thread::spawn(move || {
            loop {
                let platform = machine.platform();
                let nothing = |platform: &mut Platform| !platform.console_output_pending();
                let platform = machine.console.wait_while(platform, nothing);
                drop(platform.unwrap_or_else(PoisonError::into_inner));
                machine.print_console();
            }
        });
    }

    /// Prints what the guest has said last.
    pub fn end_console(&self) {
        self.print_console();
    }

    fn print_console(&self) {
        let mut buffer = [0; 1024];
        loop {
            let (taken, message) = self.platform().console_output(&mut buffer);
            if let Some(message) = message {
                self.interrupt(message);
            }
            if taken == 0 {
                return;
            }
            let mut out = std::io::stdout().lock();
            // Whoever reads the console finds lines missing.
            let _ = out.write_all(&buffer[..taken]).and_then(|()| out.flush());
        }
    }
}

/// A little-endian number of at most four bytes.
fn number(data: &[u8]) -> u32 {
    data.iter().rev().fold(0, |number, &byte| number << u8::BITS | u32::from(byte))
}

/// The time, for the devices that have one; to ask for it costs more than all else here.
fn now(port: u16) -> Now {
    let unix_seconds = match port {
        INDEX_PORT | DATA_PORT => {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
        }
        _ => 0,
    };
    Now { unix_seconds, tsc: ticks::now(), tsc_hz: TSC_HZ }
}
