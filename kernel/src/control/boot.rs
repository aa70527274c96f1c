//! From the boot loader's hands to the service loop.
//!
//! The order matters: the screen comes before whatever can make us refuse, as test
//! hardware often has no serial port to say why; what can make us refuse comes before what costs time; the
//! ACPI tables are read while the boot loader's map of all memory is still
//! there; the other cores start when all that is shared is mapped.

use super::cores::{self, Core};
use super::framebuffer::{Geometry, PixelOrder, TextScreen};
use super::log as console;
use super::machine::{self, Machine};
use super::memory_map::{self, Division, Kept};
use super::service::{self, Service};
use super::{clock, plan};
use crate::arch::ioapic::{self, Ioapic};
use crate::arch::rates::{self, Rates};
use crate::arch::smp::Trampoline;
use crate::arch::{apic, cpu, interrupts, local, stack, topology};
use crate::guest::clock::Clock;
use crate::guest::mmio;
use crate::memory::address_space::{MapFailed, TablePool, direct};
use crate::memory::{FramePool, HostPhysical, KernelHeap};
use crate::vmx::capability::{Capabilities, ThisProcessor};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bootloader_api::BootInfo;
use bootloader_api::info::{FrameBuffer, PixelFormat};
use bulkhead_manifest::Bundle;
use core::fmt::Display;
use core::ops::Range;
use log::{error, info, warn};

/// Most cores that are used.
const MAX_CORES: usize = 64;
/// Interrupts of the service core's timer in a second.
const SERVICE_TICKS: u64 = 100;
/// Vectors of the service core.
const SERIAL_VECTOR: u8 = 0x21;
const TIMER_VECTOR: u8 = 0x22;

/// What is still needed once stack and page tables are the hypervisor's own.
struct Rest {
    machine: Machine,
    bundle: Bundle<'static>,
    guests: FramePool,
    /// What the hypervisor took of the memory.
    owned: [Range<u64>; 3],
    trampoline: Trampoline,
}

/// The hypervisor does not start: says why in one line, for the operator and for tools.
fn refuse(why: impl Display) -> ! {
    console::line(format_args!("bulkhead: refused: {why}"));
    cpu::park()
}

/// Boots the hypervisor. Does not return.
///
/// # Safety
/// To be called once, by the boot loader's entry, with its page tables in force: they map all
/// physical memory at [`direct`]. `heap` is the global allocator, still without memory.
pub unsafe fn start(info: &'static mut BootInfo, heap: &KernelHeap) -> ! {
    local::clear();
    console::start();
    console::line(format_args!("Bulkhead {}", env!("CARGO_PKG_VERSION")));
    console::line(format_args!("bulkhead: image base {:#x}", info.kernel_image_offset));
    // SAFETY: the caller's contract: the regions are the boot loader's, and nothing is used yet.
    let divided = unsafe { memory_map::divide(&info.memory_regions) };
    let Division { heap: heap_memory, tables, low, guests } = match divided {
        Ok(division) => division,
        Err(too_little) => refuse(format_args!(
            "too little memory: {} MiB are free, 32 MiB are needed for the hypervisor alone",
            too_little.usable >> 20
        )),
    };
    let owned = [&heap_memory, &tables, &low].map(|r| r.start().as_u64()..r.end().as_u64());
    // SAFETY: the range is ours alone, and mapped at DIRECT before and after the switch.
    unsafe {
        let start = direct(heap_memory.start()).as_u64() as *mut u8;
        heap.start(start, heap_memory.len() as usize);
    }
    let ramdisk = ramdisk(info);
    let bundle = Bundle::parse(ramdisk);
    let range = |bytes: &[u8]| bytes.as_ptr_range().start as u64..bytes.as_ptr_range().end as u64;
    // Without a bundle to say otherwise, the reason for refusing is shown.
    let shown = bundle.as_ref().map_or(true, |bundle| bundle.options().framebuffer_log);
    let screen = info.framebuffer.take().filter(|_| shown).map_or(0..0, show_on_screen);
    if let Err(refusal) = Capabilities::check(&ThisProcessor) {
        refuse(refusal);
    }
    let Some(rsdp) = info.rsdp_addr.into_option() else {
        refuse("the firmware gives no ACPI tables (RSDP)")
    };
    // SAFETY: the boot loader's tables are in force.
    let machine = match unsafe { machine::read(HostPhysical::new(rsdp)) } {
        Ok(machine) => machine,
        Err(error) => refuse(format_args!("the firmware's ACPI tables are of no use: {}", error.0)),
    };
    let kept = Kept { bundle: range(ramdisk), framebuffer: screen };

    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(error) => refuse(error),
    };
    // SAFETY: the range is ours alone, and mapped at DIRECT before and after the switch.
    let mut tables = unsafe { TablePool::new(tables) };
    let prepared = (|| -> Result<_, MapFailed> {
        let mut space = memory_map::build(&machine, owned.clone(), &kept, &mut tables)?;
        let cores = prepare_cores(&machine, &mut space, &mut tables)?;
        let startup = memory_map::startup_space(&space, &low, &mut tables)?;
        Ok((cores, startup))
    })();
    let (cores, startup) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => refuse(format_args!("the hypervisor's page tables: {error:?}")),
    };
    // SAFETY: the low frame is ours, below 1 MiB, and mapped by the boot loader's tables; the
    // start-up tables map it one to one.
    let trampoline =
        unsafe { Trampoline::install(low.start(), direct(low.start()), startup.root()) };
    let (root, top) = (cores[0].root(), cores[0].stack_top());
    cores::publish(cores, tables);
    let rest = Box::new(Rest { machine, bundle, guests, owned, trampoline });
    // SAFETY: the new tables map the image, the heap with `rest`, and the stack.
    unsafe { stack::enter(root, top, on_own_stack, Box::into_raw(rest) as u64) }
}

/// The ramdisk as the boot loader mapped it; empty when there is none.
fn ramdisk(info: &BootInfo) -> &'static [u8] {
    let Some(start) = info.ramdisk_addr.as_ref().copied() else { return &[] };
    let range = start..start.saturating_add(info.ramdisk_len);
    if !memory_map::is_mapped(&range) {
        return &[];
    }
    // SAFETY: each page is mapped, and the memory is the boot loader's for good: nobody writes it.
    unsafe { core::slice::from_raw_parts(start as *const u8, info.ramdisk_len as usize) }
}

/// The boot processor first, as the service core, then the others by APIC ID.
fn prepare_cores(
    machine: &Machine,
    space: &mut crate::memory::address_space::AddressSpace,
    tables: &mut TablePool,
) -> Result<Vec<Core>, MapFailed> {
    let own = topology::apic_id();
    let mut ids: Vec<_> = machine.processors.clone();
    ids.sort_by_key(|id| (id.0 != own, id.0));
    ids.dedup();
    ids.truncate(MAX_CORES);
    let mut cores = Vec::new();
    for (index, id) in ids.into_iter().enumerate() {
        cores.push(Core::prepare(index, id, space, tables)?);
    }
    Ok(cores)
}

extern "C" fn on_own_stack(rest: u64) -> ! {
    // SAFETY: `start` made the box and passes it on.
    let rest = *unsafe { Box::from_raw(rest as *mut Rest) };
    let Rest { machine, bundle, guests, owned, trampoline } = rest;
    // SAFETY: this is the boot processor, on its own stack, with interrupts off.
    unsafe { cores::bring_up_service_core() };
    rates::mask_legacy_pics();
    let rates = match rates::find() {
        Ok(rates) => rates,
        Err(_) => refuse(
            "no clock's rate can be found: the PIT (8254) does not count, and CPUID leaf 0x15 is \
             empty; switch \"8254 clock gating\" off in the firmware's set-up",
        ),
    };
    console::set_rate(rates.tsc_hz);
    mmio::prepare();
    let clock = start_clock(rates);
    mask_ioapics(&machine);
    interrupts::set_handler(cores::DOORBELL_VECTOR, || {});
    start_cores(&trampoline, rates);
    let usable = cores::report();
    info!(
        "{} cores, of which {usable} can run guests; TSC {} kHz, APIC timer {} kHz; {} MiB for guests",
        cores::all().len(),
        rates.tsc_hz / 1000,
        rates.apic_timer_hz / 1000,
        guests.free_bytes() >> 20
    );
    let placed = match plan::place(&bundle, guests, &owned, clock) {
        Ok(placed) => placed,
        Err(error) => refuse(error),
    };
    interrupts::set_handler(TIMER_VECTOR, || {});
    interrupts::set_handler(SERIAL_VECTOR, || {});
    let serial_interrupts = route_serial(&machine);
    // SAFETY: the vector has a handler.
    unsafe {
        let ticks = rates.apic_timer_hz / SERVICE_TICKS;
        apic::timer_periodic(TIMER_VECTOR, u32::try_from(ticks).unwrap_or(u32::MAX));
    }
    let (powered_off, faulted) = Service::new(placed, serial_interrupts).run();
    service::finish(powered_off, faulted, machine.soft_off)
}

fn start_clock(rates: Rates) -> Clock {
    let unix_seconds = clock::read().unwrap_or_else(|| {
        warn!("the real-time clock shows no valid time: guests start at 1970");
        0
    });
    Clock { rates, tsc: cpu::rdtsc(), unix_seconds }
}

fn start_cores(trampoline: &Trampoline, rates: Rates) {
    let delay = |micros: u64| {
        let start = cpu::rdtsc();
        let ticks = micros * rates.tsc_hz / 1_000_000;
        while cpu::rdtsc().wrapping_sub(start) < ticks {
            cpu::pause();
        }
    };
    for core in &cores::all()[1..] {
        // SAFETY: the core waits for INIT-SIPI since reset, and its stack is nobody else's.
        let started = unsafe {
            trampoline.start(
                core.apic,
                core.stack_top(),
                cores::application_core,
                core.index as u64,
                delay,
            )
        };
        if started.is_err() {
            error!("core {} (APIC ID {}) does not answer", core.index, core.apic.0);
        }
    }
}

/// What the firmware left of interrupts must not reach a core that is a guest's.
fn mask_ioapics(machine: &Machine) {
    for &at in &machine.ioapics {
        // SAFETY: the page is mapped uncached at DIRECT, and nobody else uses it now.
        unsafe { Ioapic::new(direct(at)) }.mask_all();
    }
}

/// Lets the serial port's interrupt reach the service core. Says whether it does.
fn route_serial(machine: &Machine) -> bool {
    let Some(route) = &machine.serial else {
        warn!("no IOAPIC for the serial port: it is polled");
        return false;
    };
    // SAFETY: the page is mapped uncached at DIRECT, and this is the only user.
    let mut ioapic = unsafe { Ioapic::new(direct(route.ioapic)) };
    let service = cores::all()[0].apic;
    // A level-triggered line would interrupt again until it is served, which happens
    // outside its handler: then the port is polled, as no PC has COM1 so.
    // So it is where the core's ID does not fit the IOAPIC's eight bits.
    let interrupts = !route.level && ioapic::reaches(service) && console::enable_interrupts();
    if interrupts {
        ioapic.route(route, SERIAL_VECTOR, service);
    }
    interrupts
}

/// Shows the log on the screen from now on; returns where its pixels are mapped.
fn show_on_screen(framebuffer: FrameBuffer) -> Range<u64> {
    let info = framebuffer.info();
    let pixels = framebuffer.into_buffer();
    let mapped = pixels.as_ptr_range().start as u64..pixels.as_ptr_range().end as u64;
    let order = match info.pixel_format {
        PixelFormat::Rgb => PixelOrder::Rgb,
        PixelFormat::Bgr => PixelOrder::Bgr,
        PixelFormat::U8 => PixelOrder::Grey,
        _ => return 0..0,
    };
    let geometry = Geometry {
        width: info.width,
        height: info.height,
        stride: info.stride,
        bytes_per_pixel: info.bytes_per_pixel,
        order,
    };
    match TextScreen::new(pixels, geometry) {
        Some(screen) => {
            console::add_screen(Box::leak(Box::new(screen)));
            mapped
        }
        None => 0..0,
    }
}
