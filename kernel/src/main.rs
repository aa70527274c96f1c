//! The bare-metal entry: what the boot loader calls, the allocator, the panic handler.
#![no_std]
#![no_main]

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use bulkhead::arch::cpu;
use bulkhead::control::{boot, panic};
use bulkhead::memory::KernelHeap;
use bulkhead::memory::address_space::DIRECT;

#[global_allocator]
static HEAP: KernelHeap = KernelHeap::empty();

/// Bytes of the stack that boot begins on.
const BOOT_STACK: u64 = 128 << 10;
/// Where the boot loader may put what has no fixed place: away from the
/// hypervisor's own regions, see `memory::address_space`.
const DYNAMIC_START: u64 = 0xFFFF_9000_0000_0000;
const DYNAMIC_END: u64 = 0xFFFF_F000_0000_0000;

static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(DIRECT));
    config.mappings.dynamic_range_start = Some(DYNAMIC_START);
    config.mappings.dynamic_range_end = Some(DYNAMIC_END);
    config.kernel_stack_size = BOOT_STACK;
    config
};

entry_point!(start, config = &CONFIG);

fn start(info: &'static mut BootInfo) -> ! {
    let entry = cpu::rdtsc();
    // SAFETY: this is the boot loader's entry, called once; it maps all memory at DIRECT, as the
    // configuration asks.
    unsafe { boot::start(info, &HEAP, entry) }
}

#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    panic::panic(info)
}
