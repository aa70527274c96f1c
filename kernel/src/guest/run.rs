//! A guest's run on its cores. The core of the first processor loads the kernel and builds what all
//! share, the others wait to be started; each has a VMCS of its own, and enters until the guest ends.

use super::clock::Clock;
use super::loader::{self, Image, LoadError};
use super::shared::{Shared, Slot, Wanted};
use super::startup::{Timed, timed};
use super::vcpu::{INTERCEPTED, Vcpu};
use super::{acpi, control_registers, layout, msr};
use crate::arch::descriptors::HostSegments;
use crate::arch::protection::Defence;
use crate::arch::switch::{self, Ended, Registers};
use crate::arch::vmx::VmFail;
use crate::arch::{apic, cpu, nmi, vector, vmx};
use crate::memory::address_space::{self, TablePool, direct};
use crate::memory::{
    FrameRange, GuestMemory, GuestPhysical, GuestRam, HostPhysical, HostVirtual, RamView,
};
use crate::vmx::bitmap::{IoBitmap, MsrBitmap, MsrBitmapFrame, NotCovered};
use crate::vmx::capability::Capabilities;
use crate::vmx::ept::{self, Ept, MapError, MemoryType, PageSize, Rights, TableFrames};
use crate::vmx::start;
use crate::vmx::vmcs::{self, Confinement, CurrentVmcs, RefusedField};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::{Mutex, Once};

/// A guest as it is given to the cores that will run it, for one run.
pub struct Partition {
    /// What its cores share with the service core.
    pub shared: Arc<Shared>,
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
    /// Its RAM, mapped at the window of each of its cores: before and after the run.
    pub frames: Mutex<Option<FrameRange>>,
    /// What its processors have in common, once the first has prepared it.
    pub prepared: Once<Prepared>,
    /// What the run holds: the last processor that leaves gives it back.
    pub held: Mutex<Option<Held>>,
    /// Processors that have not left.
    pub inside: AtomicU32,
}

/// What the processors of a guest have in common.
#[derive(Clone, Copy)]
pub struct Prepared {
    /// Its RAM.
    pub ram: RamView,
    /// Its MSR bitmaps.
    pub bitmaps: msr::Bitmaps,
    confinement: Confinement,
}

/// The RAM of a guest that runs, and the frames of its EPT and bitmaps.
pub struct Held {
    ram: GuestRam,
    frames: RunFrames,
}

/// What the core knows of itself.
#[derive(Clone, Copy)]
pub struct Core<'a> {
    /// Its segments, for the host state.
    pub segments: &'a HostSegments,
    /// What is done on it against speculation.
    pub defence: &'a Defence,
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
    /// The processor must use them no more: a VMCS is clear, and no EPT translation is used again.
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

    fn read(&self, table: HostPhysical, index: ept::Index) -> u64 {
        let entries = direct(table).as_u64() as *const u64;
        // SAFETY: the table came from `allocate`, so that its frame is mapped and this run's; an index is
        // within a frame's entries.
        unsafe { entries.add(index.get()).read_volatile() }
    }

    fn write(&mut self, table: HostPhysical, index: ept::Index, entry: u64) {
        let entries = direct(table).as_u64() as *mut u64;
        // SAFETY: as in `read`; volatile because the processor walks the table.
        unsafe { entries.add(index.get()).write_volatile(entry) };
    }
}

/// Runs processor `id` of a guest on this core until it leaves; why, [`Shared`] knows.
///
/// # Safety
/// The core is in VMX operation with interrupts off, in an address space whose window maps the
/// partition's frames in order, and which the service core leaves alone until this returns. Each
/// processor of the partition is run once, by the core that its slot names.
pub unsafe fn run(partition: &Partition, id: u32, core: Core<'_>) {
    // SAFETY: the caller's contract.
    if let Err(error) = unsafe { run_processor(partition, id, &core) } {
        partition.shared.end(Err(error));
    }
    partition.leave();
}

/// # Safety
/// As [`run`].
unsafe fn run_processor(partition: &Partition, id: u32, core: &Core<'_>) -> Result<(), StartError> {
    let shared = &partition.shared;
    let Some(slot) = shared.processors.get(id as usize) else { return Ok(()) };
    let mut registers = Registers::default();
    let start = if id == 0 {
        // SAFETY: the caller's contract.
        Some(unsafe { partition.prepare(core)? })
    } else if shared.attend(slot) == Wanted::Leave {
        return Ok(());
    } else {
        // `Vcpu::attend` will start it, in real mode.
        None
    };
    // The first processor has prepared this before it could start others.
    let Some(prepared) = partition.prepared.get() else { return Ok(()) };
    let mut frames = RunFrames { pool: core.tables, taken: Vec::new() };
    let region = frames.take()?;
    // SAFETY: the core is in VMX operation; the region is a fresh frame; the confinement's frames are
    // this run's, and its EPT maps the guest's RAM alone; `Vcpu` is the handler that `enter` uses.
    let mut vmcs = unsafe {
        let mapped = direct(region).as_u64() as *mut u32;
        let mut vmcs = CurrentVmcs::create(region, mapped, core.capabilities.revision)?;
        vmcs::set_controls(&mut vmcs, core.capabilities, &prepared.confinement)?;
        let exit_point = switch::exit_point::<Vcpu>(core.defence.crossing());
        vmcs::set_host(&mut vmcs, core.segments, exit_point)?;
        vmcs
    };
    if let Some(entry) = start {
        start::set_guest(&mut vmcs, &entry.start)?;
        registers = entry.registers;
    }
    let mut vcpu =
        Vcpu::new(vmcs, prepared, shared.clone(), slot.clone(), partition.clock, core.capabilities);
    // SAFETY: the caller's contract; the VMCS has been set up for this core and `Vcpu`.
    unsafe { enter(&mut vcpu, &mut registers, partition, slot, core.defence) };
    // SAFETY: the region is this run's VMCS. A failure leaves the frame lost, not shared.
    if unsafe { vmx::vmclear(region) }.is_ok() {
        // SAFETY: the VMCS is clear.
        unsafe { frames.give_back() };
    }
    Ok(())
}

/// Enters the guest, on a core that has nothing of an earlier guest's left.
///
/// # Safety
/// The VMCS is current, its host state this core's, as is the defence, and interrupts are off.
unsafe fn enter(
    vcpu: &mut Vcpu,
    registers: &mut Registers,
    partition: &Partition,
    slot: &Slot,
    defence: &Defence,
) {
    // SAFETY: the core is about to run a guest, and root mode uses none of what is reset.
    unsafe {
        apic::reset_for_guest();
        vector::reset();
        reset_passed_msrs();
        cpu::reset_debug_state();
        vmx::invept_all();
        vmx::invvpid_all();
        // A core is another guest's only between two runs.
        defence.forget();
    }
    let start = cpu::rdtsc();
    // In this order: what has been ordered since is found by one or the other.
    nmi::set_guest(true);
    if vcpu.attend(registers) {
        if slot.id == 0 {
            partition.shared.startup.entered(cpu::rdtsc());
        }
        // SAFETY: the caller's contract; EPT maps the guest's own frames alone.
        let ended = unsafe { switch::run(vcpu, registers, defence.crossing()) };
        if let Ended::EntryFailed { .. } = ended {
            vcpu.entry_failed();
        }
    }
    nmi::set_guest(false);
    slot.ticks.store(cpu::rdtsc().wrapping_sub(start), Ordering::Relaxed);
    // SAFETY: as above. Nothing of this guest's stays in the core.
    unsafe {
        apic::quiesce();
        vector::reset();
        reset_passed_msrs();
        cpu::reset_debug_state();
    }
}

impl Partition {
    /// Loads the guest and says how its first processor starts.
    ///
    /// # Safety
    /// As [`run`].
    unsafe fn prepare(&self, core: &Core<'_>) -> Result<loader::Entry, StartError> {
        let frames = self.frames.lock().take().ok_or(StartError::NoMemory)?;
        let window = HostVirtual::new(address_space::WINDOW);
        // SAFETY: the caller's contract.
        let (ram, scrubbing) = timed(|| unsafe { GuestRam::new(frames, window) });
        let mut frames = RunFrames { pool: core.tables, taken: Vec::new() };
        let loaded = self.load(&ram, core, &mut frames);
        // Also after a failure: then it goes back at once.
        *self.held.lock() = Some(Held { ram, frames });
        let (prepared, entry, copying) = loaded?;
        self.shared.startup.prepared(scrubbing, copying);
        self.prepared.call_once(|| prepared);
        Ok(entry)
    }

    /// Loads the kernel, and builds what its processors have in common. Says how many ticks the loading has written.
    fn load(
        &self,
        ram: &GuestRam,
        core: &Core<'_>,
        frames: &mut RunFrames,
    ) -> Result<(Prepared, loader::Entry, u64), StartError> {
        let Self { kernel, initrd, .. } = *self;
        let image = Image { kernel, initrd, command_line: &self.command_line };
        // SAFETY: the view goes to the guest's cores, which leave before `held` is given up.
        let mut view = unsafe { ram.view() };
        let mut written = Timed::new(&mut view);
        let entry = loader::load(self.kind, &image, ram.layout(), &mut written)?;
        let copying = written.ticks();
        let tables = acpi::build(self.shared.count())?;
        view.write(GuestPhysical::new(layout::ACPI_TABLES.start), &tables.bytes)
            .map_err(LoadError::from)?;
        let ept = map_ram(ram, core, frames)?;
        let bitmaps = msr_bitmaps(frames)?;
        let io_bitmaps = [frames.take()?, frames.take()?];
        // SAFETY: the frames were allocated just now, zeroed and mapped; the type is plain bytes of
        // a frame's size.
        unsafe {
            for bitmap in io_bitmaps {
                (*(direct(bitmap).as_u64() as *mut IoBitmap)).deny_all();
            }
        }
        let confinement = Confinement {
            eptp: ept.eptp(false),
            vpid: self.vpid,
            // That with the least passed, until there is a processor to choose.
            msr_bitmap: bitmaps.choose(msr::Choice { x2apic: false, tsc_adjust: false }),
            io_bitmaps,
            cr0_mask: control_registers::CR0_OWNED,
            cr4_mask: control_registers::CR4_OWNED,
            exceptions: INTERCEPTED,
        };
        Ok((Prepared { ram: view, bitmaps, confinement }, entry, copying))
    }

    /// A processor has left. The last one wipes the RAM, and gives it and all else back.
    fn leave(&self) {
        if self.inside.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if let Some(Held { ram, frames }) = self.held.lock().take() {
            // SAFETY: no processor of the guest is left, and the next entry on each of their cores
            // drops all translations.
            unsafe { frames.give_back() };
            *self.frames.lock() = Some(ram.into_frames());
        }
    }
}

fn msr_bitmaps(frames: &mut RunFrames) -> Result<msr::Bitmaps, StartError> {
    msr::Bitmaps::new(|choice| {
        let frame = frames.take()?;
        // SAFETY: the frame was allocated just now, zeroed and mapped, and is the run's until all its
        // VMCSs are clear; the type is plain bytes of a frame's size.
        unsafe {
            msr::allow(&mut *(direct(frame).as_u64() as *mut MsrBitmap), choice)?;
            Ok(MsrBitmapFrame::new(frame))
        }
    })
}

/// EPT for the guest's RAM and nothing else: what is not mapped exits.
fn map_ram(ram: &GuestRam, core: &Core<'_>, frames: &mut RunFrames) -> Result<Ept, StartError> {
    let capabilities =
        ept::Capabilities::from_msr(core.capabilities.ept_vpid, cpu::physical_bits());
    let mut ept = Ept::new(frames, capabilities).ok_or(StartError::NoMemory)?;
    let layout = ram.layout();
    let host = ram.host_start().as_u64();
    let high = layout.high();
    let high_size = high.end.saturating_sub(high.start);
    for (guest, offset, len) in
        [(0, 0, layout.low_end()), (high.start, layout.low_end(), high_size)]
    {
        if len > 0 {
            ept.map(
                frames,
                GuestPhysical::new(guest),
                HostPhysical::new(host.saturating_add(offset)),
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
