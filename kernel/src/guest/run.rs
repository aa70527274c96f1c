//! A guest's run on its core: RAM, EPT, VMCS, kernel; then enter, until it stops.

use super::clock::Clock;
use super::loader::{self, Image, LoadError};
use super::shared::Shared;
use super::statistics::Statistics;
use super::stop::Stop;
use super::vcpu::{INTERCEPTED, Vcpu};
use super::{acpi, control_registers, layout, msr};
use crate::arch::descriptors::HostSegments;
use crate::arch::switch::{self, Ended, Registers};
use crate::arch::vmx::VmFail;
use crate::arch::{apic, cpu, vector, vmx};
use crate::memory::address_space::{self, TablePool, direct};
use crate::memory::{FrameRange, GuestMemory, GuestPhysical, GuestRam, HostPhysical, HostVirtual};
use crate::vmx::bitmap::{IoBitmap, MsrBitmap, NotCovered};
use crate::vmx::capability::Capabilities;
use crate::vmx::ept::{self, Ept, MapError, MemoryType, PageSize, Rights, TableFrames};
use crate::vmx::start;
use crate::vmx::vmcs::{self, Confinement, CurrentVmcs, RefusedField};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use spin::Mutex;

/// A guest as it is given to the core that will run it.
pub struct Partition {
    /// What its cores share.
    pub shared: Arc<Shared>,
    /// Its RAM, mapped at the core's window.
    pub frames: FrameRange,
    /// How its kernel is loaded.
    pub kind: loader::Kind,
    /// The kernel's file.
    pub kernel: &'static [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'static [u8]>,
    /// The kernel's command line.
    pub command_line: String,
    /// Its tag in the TLB, not 0.
    pub vpid: u16,
    /// The time.
    pub clock: Clock,
}

/// What the core knows of itself.
#[derive(Clone, Copy)]
pub struct Core<'a> {
    /// Its segments, for the host state.
    pub segments: &'a HostSegments,
    /// Its controls.
    pub capabilities: &'a Capabilities,
    /// Where tables come from.
    pub tables: &'static Mutex<TablePool>,
}

/// A guest could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The kernel does not load.
    Load(LoadError),
    /// The ACPI tables do not fit.
    Acpi(acpi::TooLarge),
    /// The hypervisor's own memory ran out.
    NoMemory,
    /// EPT.
    Map(MapError),
    /// The MSR bitmap's list has an MSR that a bitmap cannot cover.
    Msr(NotCovered),
    /// A VMX instruction failed.
    Vmx(VmFail),
    /// A VMCS field was refused.
    Field(RefusedField),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Acpi(_) => f.write_str("its ACPI tables do not fit"),
            Self::NoMemory => f.write_str("the hypervisor has no memory left for its tables"),
            Self::Map(error) => error.fmt(f),
            Self::Msr(error) => write!(f, "MSR {:#x} is outside the bitmap", error.0),
            Self::Vmx(error) => write!(f, "a VMX instruction failed: {error:?}"),
            Self::Field(error) => write!(f, "VMCS field {:#x} was refused", error.0),
        }
    }
}

macro_rules! convert {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for StartError {
            fn from(error: $from) -> Self {
                Self::$variant(error)
            }
        })*
    };
}
convert!(LoadError => Load, acpi::TooLarge => Acpi, MapError => Map, NotCovered => Msr,
    VmFail => Vmx, RefusedField => Field);

/// How a run ended, and what comes back.
pub struct Finished {
    /// Why; `Err` if the guest never started.
    pub result: Result<Stop, StartError>,
    /// Exits and their cost.
    pub statistics: Statistics,
    /// NMIs of the machine's.
    pub nmis: u64,
    /// Ticks of the TSC from the first entry to the last exit.
    pub ticks: u64,
    /// The guest's RAM, wiped.
    pub frames: Option<FrameRange>,
}

/// The hypervisor's frames that one run uses: EPT, VMCS, bitmaps. They go back to
/// the pool when the run is over, so that a guest which restarts for ever uses up nothing.
struct RunFrames {
    pool: &'static Mutex<TablePool>,
    taken: Vec<HostPhysical>,
}

impl RunFrames {
    fn take(&mut self) -> Result<HostPhysical, StartError> {
        self.allocate().ok_or(StartError::NoMemory)
    }

    /// # Safety
    /// The run's VMCS must be clear, and no EPT translation of it cached on this core.
    unsafe fn give_back(self) {
        let mut pool = self.pool.lock();
        for frame in self.taken {
            // SAFETY: the caller's contract; the frames were this run's alone.
            unsafe { pool.give_back(frame) };
        }
    }
}

impl TableFrames for RunFrames {
    fn allocate(&mut self) -> Option<HostPhysical> {
        let frame = self.pool.lock().allocate()?;
        self.taken.push(frame);
        Some(frame)
    }

    fn read(&self, table: HostPhysical, index: usize) -> u64 {
        let entries = direct(table).as_u64() as *const u64;
        assert!(index < ept::ENTRIES);
        // SAFETY: the table came from `allocate`, so that its frame is mapped and this run's.
        unsafe { entries.add(index).read_volatile() }
    }

    fn write(&mut self, table: HostPhysical, index: usize, entry: u64) {
        let entries = direct(table).as_u64() as *mut u64;
        assert!(index < ept::ENTRIES);
        // SAFETY: as in `read`; volatile because the processor walks the table.
        unsafe { entries.add(index).write_volatile(entry) };
    }
}

/// Runs a guest on this core until it stops.
///
/// # Safety
/// The core is in VMX operation with interrupts off, in an address space whose window maps the
/// partition's frames in order, and which the service core leaves alone until this returns.
pub unsafe fn run(partition: Partition, core: Core<'_>) -> Finished {
    let Partition { shared, frames, kind, kernel, initrd, command_line, vpid, clock } = partition;
    // SAFETY: the caller's contract.
    let mut ram = unsafe { GuestRam::new(frames, HostVirtual::new(address_space::WINDOW)) };
    let image = Image { kernel, initrd, command_line: &command_line };
    let mut run_frames = RunFrames { pool: core.tables, taken: Vec::new() };
    let mut finished = Finished {
        result: Ok(Stop::Reset),
        statistics: Statistics::new(),
        nmis: 0,
        ticks: 0,
        frames: None,
    };
    match prepare(&mut ram, kind, &image, &shared, vpid, &core, &mut run_frames) {
        Ok(Prepared { vmcs, region, entry }) => {
            let mut vcpu = Vcpu::new(vmcs, ram, shared.clone(), clock, 0, core.capabilities);
            // SAFETY: the caller's contract; `prepare` has set the VMCS up for this core and `Vcpu`.
            unsafe { enter(&mut vcpu, &entry.registers, &mut finished) };
            shared.close();
            finished.nmis = vcpu.nmis;
            let (stop, back, statistics) = vcpu.into_parts();
            ram = back;
            finished.statistics = statistics;
            // The run ends only when there is a reason.
            finished.result = Ok(stop.unwrap_or(Stop::Reset));
            // SAFETY: the region is this run's VMCS. A failure leaves the frames lost, not shared.
            if unsafe { vmx::vmclear(region) }.is_ok() {
                // SAFETY: the VMCS is clear, and the next entry on this core drops all translations.
                unsafe { run_frames.give_back() };
            }
        }
        Err(error) => finished.result = Err(error),
    }
    finished.frames = Some(ram.into_frames());
    finished
}

/// Enters the guest, on a core that has nothing of an earlier guest's left.
///
/// # Safety
/// The VMCS is current, its host state this core's, and interrupts are off.
unsafe fn enter(vcpu: &mut Vcpu, registers: &Registers, finished: &mut Finished) {
    // SAFETY: the core is about to run a guest, and root mode uses none of what is reset.
    unsafe {
        apic::reset_for_guest();
        vector::reset();
        reset_passed_msrs();
        cpu::reset_debug_state();
        vmx::invept_all();
        vmx::invvpid_all();
    }
    let start = cpu::rdtsc();
    // SAFETY: the caller's contract; EPT maps the guest's own frames alone.
    if let Ended::EntryFailed { .. } = unsafe { switch::run(vcpu, registers) } {
        vcpu.entry_failed();
    }
    finished.ticks = cpu::rdtsc().wrapping_sub(start);
    // SAFETY: as above. Nothing of this guest's stays in the core.
    unsafe {
        apic::quiesce();
        vector::reset();
        reset_passed_msrs();
        cpu::reset_debug_state();
    }
}

/// A VMCS that is ready to run.
struct Prepared {
    vmcs: CurrentVmcs,
    region: HostPhysical,
    entry: loader::Entry,
}

fn prepare(
    ram: &mut GuestRam,
    kind: loader::Kind,
    image: &Image<'_>,
    shared: &Shared,
    vpid: u16,
    core: &Core<'_>,
    frames: &mut RunFrames,
) -> Result<Prepared, StartError> {
    let entry = loader::load(kind, image, ram.layout(), ram)?;
    let tables = acpi::build(shared.processors())?;
    ram.write(GuestPhysical::new(layout::ACPI_TABLES.start), &tables.bytes)
        .map_err(LoadError::from)?;
    let ept = map_ram(ram, core, frames)?;
    let (msr_bitmap, region) = (frames.take()?, frames.take()?);
    let io_bitmaps = [frames.take()?, frames.take()?];
    // SAFETY: the frames were allocated just now, zeroed and mapped; both types are plain bytes of
    // a frame's size.
    unsafe {
        msr::allow(&mut *(direct(msr_bitmap).as_u64() as *mut MsrBitmap))?;
        for bitmap in io_bitmaps {
            (*(direct(bitmap).as_u64() as *mut IoBitmap)).deny_all();
        }
    }
    // SAFETY: the core is in VMX operation; the region is a fresh frame.
    let mut vmcs = unsafe {
        let mapped = direct(region).as_u64() as *mut u32;
        CurrentVmcs::create(region, mapped, core.capabilities.revision)?
    };
    let confinement = Confinement {
        eptp: ept.eptp(false),
        vpid,
        msr_bitmap,
        io_bitmaps,
        cr0_mask: control_registers::CR0_OWNED,
        cr4_mask: control_registers::CR4_OWNED,
        exceptions: INTERCEPTED,
    };
    // SAFETY: all frames are this run's, and `map_ram` has mapped the guest's RAM alone.
    unsafe { vmcs::set_controls(&mut vmcs, core.capabilities, &confinement)? };
    // SAFETY: `run` uses `Vcpu` as the handler.
    unsafe {
        vmcs::set_host(&mut vmcs, core.segments, switch::exit_entry::<Vcpu> as *const () as u64)?;
    }
    start::set_guest(&mut vmcs, &entry.start)?;
    Ok(Prepared { vmcs, region, entry })
}

/// EPT for the guest's RAM and nothing else: what is not mapped exits.
fn map_ram(ram: &GuestRam, core: &Core<'_>, frames: &mut RunFrames) -> Result<Ept, StartError> {
    /// CPUID leaf whose EAX has the width of a physical address.
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    let physical_bits = cpu::cpuid(ADDRESS_SIZES, 0).eax & 0xFF;
    let capabilities = ept::Capabilities::from_msr(core.capabilities.ept_vpid, physical_bits);
    let mut ept = Ept::new(frames, capabilities).ok_or(StartError::NoMemory)?;
    let layout = ram.layout();
    let host = ram.host_start().as_u64();
    let high = layout.high();
    for (guest, offset, len) in
        [(0, 0, layout.low_end()), (high.start, layout.low_end(), high.end - high.start)]
    {
        if len > 0 {
            ept.map(
                frames,
                GuestPhysical::new(guest),
                HostPhysical::new(host + offset),
                len,
                Rights::ALL,
                MemoryType::WriteBack,
                PageSize::OneGib,
            )?;
        }
    }
    Ok(ept)
}

/// Sets the MSRs that guests use directly, and that VMX does not switch, to zero:
/// nothing of an earlier guest's is left in them.
///
/// # Safety
/// The hypervisor must not use them.
unsafe fn reset_passed_msrs() {
    use crate::arch::msr::Msr;
    /// CPUID leaf, and EDX's bit, that tell of RDTSCP and so of TSC_AUX.
    const EXTENDED_FEATURES: u32 = 0x8000_0001;
    const RDTSCP: u32 = 1 << 27;
    let auxiliary = cpu::cpuid(EXTENDED_FEATURES, 0).edx & RDTSCP != 0;
    let always = [Msr::STAR, Msr::LSTAR, Msr::CSTAR, Msr::FMASK, Msr::KERNEL_GS_BASE];
    for register in always.into_iter().chain(auxiliary.then_some(Msr::TSC_AUX)) {
        // SAFETY: zero is valid for each, and root mode uses none of them.
        unsafe { register.write(0) };
    }
}
