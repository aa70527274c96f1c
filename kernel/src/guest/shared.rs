//! What a guest's cores and the service core have in common.

use super::apic::{Address, Identities};
use crate::arch::apic::{ApicId, send_fixed};
use crate::device::ioapic::{DeliveryMode, Message};
use crate::device::platform::Platform;
use crate::guest::layout;
use crate::memory::GuestPhysical;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// One guest, as far as it concerns more than one core.
pub struct Shared {
    /// Its name, from the manifest.
    pub name: String,
    /// Its devices. Held for the length of one access; never while another lock is held.
    pub platform: Mutex<Platform>,
    /// The physical cores behind virtual APIC IDs 0 to n-1.
    pub cores: Vec<ApicId>,
    /// What its processors answer to.
    pub identities: Identities,
    /// Wakes the service core.
    pub doorbell: fn(),
    /// The guest's cores still take its interrupts. Changed with `platform` held.
    open: AtomicBool,
}

impl Shared {
    /// A guest on `cores`, with devices as after power-on.
    pub fn new(name: String, cores: Vec<ApicId>, doorbell: fn()) -> Self {
        let platform = Mutex::new(Platform::new(GuestPhysical::new(layout::IOAPIC)));
        let identities = Identities::new(cores.len() as u32);
        Self { name, platform, cores, identities, doorbell, open: AtomicBool::new(true) }
    }

    /// Ends the delivery of interrupts: the cores are about to stop being the guest's.
    pub fn close(&self) {
        let _platform = self.platform.lock();
        self.open.store(false, Ordering::SeqCst);
    }

    /// Processors of the guest.
    pub fn processors(&self) -> u32 {
        self.cores.len() as u32
    }

    /// Sends a device's interrupt: a real IPI with the guest's own vector. It goes to
    /// the guest's cores alone, whatever the guest has written into the IOAPIC.
    /// To be called by the guest's own core, or with `platform` held.
    pub fn deliver(&self, message: &Message) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        let to = Address::Bits8(message.destination);
        let targets = match (self.identities.targets(to, message.logical), message.delivery) {
            (targets, DeliveryMode::Fixed) => targets,
            (targets, DeliveryMode::LowestPriority) => targets.lowest(),
        };
        for id in targets.iter() {
            if let Some(&core) = self.cores.get(id as usize) {
                send_fixed(core, message.vector);
            }
        }
    }
}
