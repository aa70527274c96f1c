//! Who owns which frame, and who maps it where.

pub mod address_space;
mod frame;
mod guest_memory;
mod guest_ram;
mod heap;
mod ram_layout;

pub use crate::arch::address::{
    FRAME_SIZE, GuestPhysical, HostPhysical, HostVirtual, LARGE_FRAME_SIZE,
};
pub use frame::{FramePool, FrameRange};
#[cfg(test)]
pub use guest_memory::TestMemory;
pub use guest_memory::{GuestMemory, NotRam};
pub use guest_ram::{GuestRam, RamView};
pub use heap::{FIRST_PIECE, HeapUse, KernelHeap};
pub use ram_layout::{HIGH_RAM_START, LOW_RAM_END, RamLayout};
