//! From the boot loader's hands to the service loop.
//!
//! The order matters: the screen comes before whatever can make us refuse, as test
//! hardware often has no serial port to say why; what can make us refuse comes before what costs time; the
//! ACPI tables are read while the boot loader's map of all memory is still
//! there; the other cores start when all that is shared is mapped.

use super::cores::{self, Core};
use super::firmware;
use super::framebuffer::{Geometry, PixelOrder, TextScreen};
use super::guest::Boot;
use super::log as console;
use super::machine::{self, Machine};
use super::memory_map::{self, Kept, Memory};
use super::service::{self, Service};
use super::{audit, clock, plan, port, protection};
use crate::arch::apic::ApicId;
use crate::arch::ioapic::{self, InterruptRoute, Ioapic};
use crate::arch::rates::{self, Rates};
use crate::arch::smp::Trampoline;
use crate::arch::{apic, cpu, interrupts, local, stack, topology};
use crate::guest::clock::Clock;
use crate::guest::mmio;
use crate::guest::statistics::Grouped;
use crate::memory::address_space::{AddressSpace, MapFailed, TablePool, direct};
use crate::memory::{FIRST_PIECE, FRAME_SIZE, FramePool, FrameRange, HostPhysical, KernelHeap};
use crate::vmx::capability::{Capabilities, ThisProcessor};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bootloader_api::BootInfo;
use bootloader_api::info::{FrameBuffer, PixelFormat};
use bulkhead_manifest::Bundle;
use bulkhead_plan::footprint::{self, Extent, Footprint};
use core::fmt::Display;
use core::ops::Range;
use log::{error, info, warn};

/// Most cores that are used.
const MAX_CORES: usize = footprint::MOST_CORES as usize;
/// Bytes that the first piece of the heap has for the bundle's descriptor, and for a screen's characters. More takes a
/// piece of its own.
const FIRST_FOR_DESCRIPTOR: usize = FIRST_PIECE / 2;
const FIRST_FOR_SCREEN: usize = FIRST_PIECE / 4;
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
    own: Own,
    footprint: Footprint,
    trampoline: Trampoline,
}

/// What the hypervisor took of the memory.
struct Own {
    /// Host-physical, besides what the boot stages have loaded.
    taken: heapless::Vec<Range<u64>, { footprint::MOST_OWNED as usize }>,
    /// Bytes of the image, and of what the boot stages leave behind.
    image: u64,
    heap: &'static KernelHeap,
    /// The TSC at the hypervisor's entry.
    entry: u64,
}

impl Own {
    /// Notes that memory is the hypervisor's own.
    fn note(&mut self, frames: &FrameRange) {
        let range = frames.start().as_u64()..frames.end().as_u64();
        if self.taken.push(range).is_err() {
            refuse("the hypervisor's own memory is in too many pieces: a defect");
        }
    }

    /// Gives the heap another piece of so many bytes.
    fn grow_heap(&mut self, free: &mut FramePool, bytes: usize) {
        match memory_map::set_aside(free, bytes as u64) {
            Ok(frames) => self.heap_piece(frames),
            Err(too_little) => refuse(too_little),
        }
    }

    fn heap_piece(&mut self, frames: FrameRange) {
        self.note(&frames);
        // SAFETY: the boot loader's tables map all of physical memory at DIRECT, and the hypervisor's what is noted.
        if !unsafe { self.heap.grow(frames) } {
            refuse("the heap is in too many pieces: a defect");
        }
    }
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
/// physical memory at [`direct`]. `heap` is the global allocator, still without memory; `entry` is the TSC at the entry.
pub unsafe fn start(info: &'static mut BootInfo, heap: &'static KernelHeap, entry: u64) -> ! {
    local::clear();
    console::start();
    console::line(format_args!("Bulkhead {}", env!("CARGO_PKG_VERSION")));
    console::line(format_args!("bulkhead: image base {:#x}", info.kernel_image_offset));
    // SAFETY: this is the one call.
    unsafe { heap.start() };
    // SAFETY: the caller's contract: the regions are the boot loader's, and nothing is used yet.
    let memory = unsafe { memory_map::read(&info.memory_regions) };
    let Memory { mut free, start_up, boot_stages } =
        memory.unwrap_or_else(|too_little| refuse(too_little));
    let mut own = Own { taken: heapless::Vec::new(), image: 0, heap, entry };
    own.note(&start_up);

    let (ramdisk, at) = ramdisk(info).unwrap_or((&[], 0..0));
    let to_parse = bulkhead_manifest::heap_to_parse(ramdisk);
    if to_parse > FIRST_FOR_DESCRIPTOR {
        own.grow_heap(&mut free, to_parse);
    }
    let bundle = Bundle::parse(ramdisk);
    // Without a bundle to say otherwise, the reason for refusing is shown.
    let shown = bundle.as_ref().map_or(true, |bundle| bundle.options().framebuffer_log);
    let framebuffer = info.framebuffer.take().filter(|_| shown);
    let screen = framebuffer.map_or(0..0, |framebuffer| {
        let Some(geometry) = geometry(&framebuffer) else { return 0..0 };
        let (columns, rows) = geometry.characters();
        let characters = columns * rows;
        if characters > FIRST_FOR_SCREEN {
            own.grow_heap(&mut free, characters + FIRST_FOR_SCREEN);
        }
        show_on_screen(framebuffer, geometry)
    });
    if let Err(refusal) = Capabilities::check(&ThisProcessor) {
        refuse(refusal);
    }
    let Some(rsdp) = info.rsdp_addr.into_option() else {
        refuse("the firmware gives no ACPI tables (RSDP)")
    };
    let end = memory_map::mapped_end(&info.memory_regions);
    // SAFETY: the boot loader's tables are in force, and the firmware's are memory that is not ours.
    let mapped = unsafe { firmware::Mapped::new(end) };
    let machine = match machine::read(&mapped, HostPhysical::new(rsdp)) {
        Ok(machine) => machine,
        Err(error) => refuse(format_args!("the firmware's ACPI tables are of no use: {}", error.0)),
    };
    let bundle = bundle.unwrap_or_else(|error| refuse(error));

    let ids = core_ids(&machine);
    let extent = Extent {
        cores: ids.len(),
        ioapics: machine.ioapics.len(),
        bundle: at.end - at.start,
        framebuffer: screen.end - screen.start,
        memory: free.free_bytes(),
        operators: bulkhead_operators::heap_for(bundle.operators()) as u64,
    };
    let footprint = Footprint::new(&extent, plan::demands(&bundle));
    let main = memory_map::set_aside(&mut free, footprint.bytes())
        .unwrap_or_else(|too_little| refuse(too_little));
    let Some((heap_memory, tables)) = main.split(footprint.heap) else {
        refuse("the hypervisor's own memory cannot be divided: a defect")
    };
    own.heap_piece(heap_memory);
    own.note(&tables);
    let bundle_frames = at.end.next_multiple_of(FRAME_SIZE) - at.start / FRAME_SIZE * FRAME_SIZE;
    own.image = boot_stages.saturating_sub(bundle_frames + FIRST_PIECE as u64);

    let kept = Kept { bundle: at, framebuffer: screen };
    // SAFETY: the range is ours alone, and mapped at DIRECT before and after the switch.
    let mut tables = unsafe { TablePool::new(tables) };
    let prepared = (|| -> Result<_, MapFailed> {
        let mut space = memory_map::build(&machine, &own.taken, &kept, &mut tables)?;
        let cores = prepare_cores(&ids, &mut space, &mut tables)?;
        let startup = memory_map::startup_space(&space, &start_up, &mut tables)?;
        Ok((cores, startup))
    })();
    let (cores, startup) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => refuse(format_args!("the hypervisor's page tables: {error:?}: a defect")),
    };
    // SAFETY: the low frame is ours, below 1 MiB, and mapped by the boot loader's tables; the
    // start-up tables map it one to one.
    let trampoline =
        unsafe { Trampoline::install(start_up.start(), direct(start_up.start()), startup.root()) };
    let (root, top) = (cores[0].root(), cores[0].stack_top());
    cores::publish(cores, tables);
    let rest = Box::new(Rest { machine, bundle, guests: free, own, footprint, trampoline });
    // SAFETY: the new tables map the image, the heap with `rest`, and the stack.
    unsafe { stack::enter(root, top, on_own_stack, Box::into_raw(rest) as u64) }
}

/// The ramdisk, and where it is in physical memory. `None` when there is none. It is read where all of physical memory is
/// mapped, by the boot loader and by the hypervisor, which takes few page tables.
fn ramdisk(info: &BootInfo) -> Option<(&'static [u8], Range<u64>)> {
    let start = info.ramdisk_addr.as_ref().copied()?;
    let range = start..start.saturating_add(info.ramdisk_len);
    let at = memory_map::contiguous(&range)?;
    // SAFETY: each page is there, and the memory is the boot loader's for good: nobody writes it.
    let bytes = unsafe {
        core::slice::from_raw_parts(direct(at).as_u64() as *const u8, info.ramdisk_len as usize)
    };
    Some((bytes, at.as_u64()..at.as_u64() + info.ramdisk_len))
}

/// The boot processor first, as the service core, then the others by APIC ID.
fn core_ids(machine: &Machine) -> Vec<ApicId> {
    let own = topology::apic_id();
    let mut ids: Vec<_> = machine.processors.clone();
    ids.sort_by_key(|id| (id.0 != own, id.0));
    ids.dedup();
    ids.truncate(MAX_CORES);
    ids
}

fn prepare_cores(
    ids: &[ApicId],
    space: &mut AddressSpace,
    tables: &mut TablePool,
) -> Result<Vec<Core>, MapFailed> {
    let mut cores = Vec::with_capacity(ids.len());
    for (index, &id) in ids.iter().enumerate() {
        cores.push(Core::prepare(index, id, space, tables)?);
    }
    Ok(cores)
}

/// Says what the hypervisor has taken of the memory.
fn report_memory(own: &Own, footprint: &Footprint) {
    let kib = |bytes: u64| Grouped(bytes.div_ceil(footprint::KIB));
    info!(
        "memory: image {} KiB, heap {} KiB, tables and stacks {} KiB of which {} KiB for {} cores",
        kib(own.image),
        kib(own.heap.usage().size as u64),
        // The start-up frame is a table, too.
        kib(footprint.tables() + FRAME_SIZE),
        kib(footprint.cores),
        cores::all().len()
    );
}

extern "C" fn on_own_stack(rest: u64) -> ! {
    // SAFETY: `start` made the box and passes it on.
    let rest = *unsafe { Box::from_raw(rest as *mut Rest) };
    let Rest { machine, bundle, guests, own, footprint, trampoline } = rest;
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
    audit::start(clock);
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
    let found = cores::protection();
    info!("protection: on: {}", protection::On(found));
    info!("protection: missing: {}", protection::Missing(found));
    let placed = plan::place(&bundle, guests, &own.taken, &footprint, clock);
    let (definitions, estate, digests) = placed.unwrap_or_else(|error| refuse(error));
    #[cfg(feature = "testing")]
    super::self_test::place(&definitions);
    report_memory(&own, &footprint);
    interrupts::set_handler(TIMER_VECTOR, || {});
    interrupts::set_handler(SERIAL_VECTOR, || {});
    port::start();
    let [com1, com2] = &machine.serial;
    let serial_interrupts = route_serial(com1.as_ref(), console::enable_interrupts);
    if port::is_com2() {
        route_serial(com2.as_ref(), port::enable_interrupts);
    }
    // SAFETY: the vector has a handler.
    unsafe {
        let ticks = rates.apic_timer_hz / SERVICE_TICKS;
        apic::timer_periodic(TIMER_VECTOR, u32::try_from(ticks).unwrap_or(u32::MAX));
    }
    let boot = Boot { entry: own.entry, digests };
    let operators = bundle.operators().to_vec();
    let mut service = Service::new(
        definitions,
        estate,
        operators,
        boot,
        own.heap,
        serial_interrupts,
        rates.tsc_hz,
    );
    let (powered_off, faulted) = service.run();
    service::finish(powered_off, faulted, own.heap, machine.soft_off)
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

/// Lets a serial port's interrupt reach the service core. Says whether it does; where not, the port is polled.
fn route_serial(route: Option<&InterruptRoute>, enable: fn() -> bool) -> bool {
    let Some(route) = route else {
        warn!("no IOAPIC for a serial port: it is polled");
        return false;
    };
    // SAFETY: the page is mapped uncached at DIRECT, and this is the only user.
    let mut ioapic = unsafe { Ioapic::new(direct(route.ioapic)) };
    let service = cores::all()[0].apic;
    // A level-triggered line would interrupt again until it is served, which happens
    // outside its handler: then the port is polled, as no PC has COM1 or COM2 so.
    // So it is where the core's ID does not fit the IOAPIC's eight bits.
    let interrupts = !route.level && ioapic::reaches(service) && enable();
    if interrupts {
        ioapic.route(route, SERIAL_VECTOR, service);
    }
    interrupts
}

/// The framebuffer's shape; `None` if text cannot be drawn on it.
fn geometry(framebuffer: &FrameBuffer) -> Option<Geometry> {
    let info = framebuffer.info();
    let order = match info.pixel_format {
        PixelFormat::Rgb => PixelOrder::Rgb,
        PixelFormat::Bgr => PixelOrder::Bgr,
        PixelFormat::U8 => PixelOrder::Grey,
        _ => return None,
    };
    Some(Geometry {
        width: info.width,
        height: info.height,
        stride: info.stride,
        bytes_per_pixel: info.bytes_per_pixel,
        order,
    })
}

/// Shows the log on the screen from now on; returns where its pixels are mapped.
fn show_on_screen(framebuffer: FrameBuffer, geometry: Geometry) -> Range<u64> {
    let pixels = framebuffer.into_buffer();
    let mapped = pixels.as_ptr_range().start as u64..pixels.as_ptr_range().end as u64;
    match TextScreen::new(pixels, geometry) {
        Some(screen) => {
            console::add_screen(Box::leak(Box::new(screen)));
            mapped
        }
        None => 0..0,
    }
}
