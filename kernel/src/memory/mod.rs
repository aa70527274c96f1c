//! Who owns which frame, and who maps it where.

mod address;
mod guest_memory;

pub use address::{FRAME_SIZE, GuestPhysical, HostPhysical, HostVirtual, LARGE_FRAME_SIZE};
#[cfg(test)]
pub use guest_memory::TestMemory;
pub use guest_memory::{GuestMemory, NotRam};
