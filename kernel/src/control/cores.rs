//! The cores: bringing them up, parking them, giving them guests.

use crate::arch::apic::{self, ApicId};
use crate::arch::cpu::{self, cr4};
use crate::arch::descriptors::{self, HostSegments, InterruptStacks};
use crate::arch::interrupts::ist;
use crate::arch::local::{self, StackBounds};
use crate::arch::msr::Msr;
use crate::arch::protection::{Defence, Found};
use crate::arch::{nmi, protection, smp, vmx};
use crate::guest::run::{self, Partition};
use crate::memory::address_space::{
    AddressSpace, MapFailed, STACKS, TablePool, Use, Window, direct,
};
use crate::memory::{FRAME_SIZE, HostPhysical, HostVirtual};
use crate::vmx::capability::{
    Capabilities, FEATURE_CONTROL_LOCKED, FEATURE_CONTROL_VMXON, ThisProcessor, Unusable,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_plan::footprint::{
    FRAME, INTERRUPT_STACK, INTERRUPT_STACKS, MAIN_STACK, STACKS_STRIDE,
};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use spin::{Mutex, Once};

const _: () = assert!(INTERRUPT_STACKS == ist::COUNT as u64 && FRAME == FRAME_SIZE);

/// Vector of the service core's doorbell: "look around". Other cores are reached by NMI.
pub const DOORBELL_VECTOR: u8 = 0x20;

/// What a core is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not started, or it did not answer.
    Offline = 0,
    /// In root mode, waiting for work.
    Parked = 1,
    /// Running a guest.
    Running = 2,
    /// Stopped for good: it panicked, did not answer, or cannot run guests.
    Dead = 3,
}

/// One core, as the others see it.
pub struct Core {
    /// Position in the table: 0 is the service core.
    pub index: usize,
    /// Its APIC ID.
    pub apic: ApicId,
    space: Mutex<AddressSpace>,
    stacks: Stacks,
    vmxon_region: HostPhysical,
    state: AtomicU8,
    /// It has not answered when it had to. Whatever it says later, nobody relies on it any more.
    lost: AtomicBool,
    /// What it is to do next.
    work: Mutex<Option<Work>>,
    refusal: Mutex<Option<Unusable>>,
}

/// What a core is given to do.
enum Work {
    /// To run a guest: which of its processors.
    Run(Arc<Partition>, u32),
    /// To load CR3 anew: its window has been closed.
    Forget,
}

/// A core's stacks, by their highest addresses.
#[derive(Clone, Copy, Debug)]
struct Stacks {
    main: StackBounds,
    interrupt: InterruptStacks,
}

static CORES: Once<Vec<Core>> = Once::new();
/// What each core has found to protect the hypervisor with, and all others as well.
static FOUND: AtomicU32 = AtomicU32::new(u32::MAX);
static TABLES: Once<Mutex<TablePool>> = Once::new();

/// Where tables come from, after [`publish`].
pub fn tables() -> &'static Mutex<TablePool> {
    TABLES.wait()
}

/// All cores, after [`publish`].
pub fn all() -> &'static [Core] {
    CORES.wait()
}

/// A core, if the table is there yet: for a panic.
pub fn try_get(index: usize) -> Option<&'static Core> {
    CORES.get()?.get(index)
}

/// Makes the table of cores known to all of them.
pub fn publish(cores: Vec<Core>, tables: TablePool) {
    TABLES.call_once(|| Mutex::new(tables));
    CORES.call_once(|| cores);
}

impl Core {
    /// Prepares a core: its address space, stacks and VMXON region.
    pub fn prepare(
        index: usize,
        apic: ApicId,
        shared: &mut AddressSpace,
        tables: &mut TablePool,
    ) -> Result<Self, MapFailed> {
        let stacks = map_stacks(index, shared, tables)?;
        let vmxon_region = tables.allocate().ok_or(MapFailed::NoMemory)?;
        Ok(Self {
            index,
            apic,
            // The tables below the top level are shared: what is mapped later is seen as well.
            space: Mutex::new(shared.fork(tables).ok_or(MapFailed::NoMemory)?),
            stacks,
            vmxon_region,
            state: AtomicU8::new(State::Offline as u8),
            lost: AtomicBool::new(false),
            work: Mutex::new(None),
            refusal: Mutex::new(None),
        })
    }

    /// What the core is doing.
    pub fn state(&self) -> State {
        if self.lost.load(Ordering::SeqCst) {
            return State::Dead;
        }
        match self.state.load(Ordering::SeqCst) {
            1 => State::Parked,
            2 => State::Running,
            3 => State::Dead,
            _ => State::Offline,
        }
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
    }

    /// Why the core cannot run guests.
    pub fn refusal(&self) -> Option<Unusable> {
        *self.refusal.lock()
    }

    /// The core's stacks by their names, and the byte below each: of its guard page.
    #[cfg(feature = "testing")]
    pub fn below_stacks(&self) -> [(&'static str, u64); 1 + ist::COUNT] {
        let [nmi, double_fault, machine_check] = self.stacks.interrupt;
        let below = |top: u64| top - INTERRUPT_STACK - 1;
        [
            ("main", self.stacks.main.bottom - 1),
            ("NMI", below(nmi)),
            ("double-fault", below(double_fault)),
            ("machine-check", below(machine_check)),
        ]
    }

    /// Top of the core's main stack.
    pub fn stack_top(&self) -> HostVirtual {
        HostVirtual::new(self.stacks.main.top)
    }

    /// Host-physical address of the core's page tables.
    pub fn root(&self) -> HostPhysical {
        self.space.lock().root()
    }

    /// Opens this core's window to a guest's RAM. The core must be parked; it sees it when it takes the guest up.
    pub fn open(&self, window: &Window) {
        self.space.lock().open(window);
    }

    /// Gives a parked core processor `id` of a guest to run. Says whether it was parked.
    #[must_use]
    pub fn start(&self, partition: Arc<Partition>, id: u32) -> bool {
        self.give(Work::Run(partition, id))
    }

    /// Closes the window of a parked core, and waits until the core has forgotten it. Says whether it has: not if it is
    /// not parked, or does not answer within `limit` ticks of the TSC, which is a core that has failed.
    #[must_use]
    pub fn close(&self, limit: u64) -> bool {
        if self.state() != State::Parked {
            return false;
        }
        self.space.lock().close();
        if !self.give(Work::Forget) {
            return false;
        }
        // It takes up its work at once, and has nothing else to do.
        let start = cpu::rdtsc();
        loop {
            match self.state() {
                State::Parked => return true,
                State::Running if cpu::rdtsc().wrapping_sub(start) <= limit => cpu::pause(),
                State::Running => self.lost.store(true, Ordering::SeqCst),
                State::Dead | State::Offline => return false,
            }
        }
    }

    fn give(&self, work: Work) -> bool {
        let (parked, running) = (State::Parked as u8, State::Running as u8);
        let order = Ordering::SeqCst;
        if self.state.compare_exchange(parked, running, order, order).is_err() {
            return false;
        }
        *self.work.lock() = Some(work);
        nmi::kick(self.apic);
        true
    }

    /// Marks the calling core as dead, from its panic.
    pub fn died(&self) {
        self.set_state(State::Dead);
    }
}

fn map_stacks(
    index: usize,
    space: &mut AddressSpace,
    tables: &mut TablePool,
) -> Result<Stacks, MapFailed> {
    let mut next = STACKS + index as u64 * STACKS_STRIDE;
    let mut one = |size: u64| {
        // The page below stays unmapped: an overflow is a fault, not a corruption.
        let bottom = next + FRAME_SIZE;
        for page in (bottom..bottom + size).step_by(FRAME_SIZE as usize) {
            let frame = tables.allocate().ok_or(MapFailed::NoMemory)?.as_u64();
            space.map(HostVirtual::new(page), frame..frame + FRAME_SIZE, Use::ReadWrite, tables)?;
        }
        next = bottom + size;
        Ok(StackBounds { bottom, top: next })
    };
    let main = one(MAIN_STACK)?;
    let mut interrupt = [0; ist::COUNT];
    for top in &mut interrupt {
        *top = one(INTERRUPT_STACK)?.top;
    }
    Ok(Stacks { main, interrupt })
}

/// What a core holds on to while it lives.
struct Local {
    segments: HostSegments,
    defence: Defence,
    capabilities: Option<Capabilities>,
}

/// The part of bringing a core up that is the same for all: its own tables,
/// stacks, APIC, and VMX operation.
///
/// # Safety
/// To be called once on each core, on the core's own stack, with interrupts off.
unsafe fn bring_up(core: &Core) -> Local {
    // SAFETY: the core's address space maps all that is shared, its stacks among it.
    unsafe { core.space.lock().activate() };
    let found = protection::enable();
    FOUND.fetch_and(found.bits(), Ordering::SeqCst);
    // Before anything that could panic: the panic says which core it is.
    local::set(core.index, core.stacks.main);
    let segments = descriptors::load(&core.stacks.interrupt);
    let capabilities = match Capabilities::check(&ThisProcessor) {
        Ok(capabilities) => Some(capabilities),
        Err(refusal) => {
            *core.refusal.lock() = Some(refusal);
            None
        }
    };
    // SAFETY: the interrupt table is loaded; the boot processor has checked for x2APIC.
    unsafe { apic::enable() };
    Local { segments, defence: Defence::of(found), capabilities }
}

/// Enters VMX operation (SDM Vol. 3C, 24.7).
fn enter_vmx(core: &Core, capabilities: &Capabilities) -> Result<(), vmx::VmFail> {
    if capabilities.must_unlock {
        let control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON;
        // SAFETY: the register is not locked, as was checked; both bits are valid.
        unsafe { Msr::FEATURE_CONTROL.write(Msr::FEATURE_CONTROL.read() | control) };
    }
    let fix = |value: u64, zero: Msr, one: Msr| (value | zero.read()) & one.read();
    let region = direct(core.vmxon_region).as_u64() as *mut u32;
    // SAFETY: the fixed bits are what VMX operation needs; the region is this core's own frame.
    unsafe {
        cpu::write_cr0(fix(cpu::read_cr0(), Msr::VMX_CR0_FIXED0, Msr::VMX_CR0_FIXED1));
        let control = cpu::read_cr4() | cr4::VMXE;
        cpu::write_cr4(fix(control, Msr::VMX_CR4_FIXED0, Msr::VMX_CR4_FIXED1));
        region.write(capabilities.revision);
        vmx::vmxon(core.vmxon_region)
    }
}

/// Brings the service core up.
///
/// # Safety
/// As `bring_up`, on the boot processor.
pub unsafe fn bring_up_service_core() -> HostSegments {
    let core = &all()[0];
    // SAFETY: the caller's contract.
    let local = unsafe { bring_up(core) };
    #[cfg(feature = "testing")]
    super::self_test::at_start(core);
    core.set_state(State::Parked);
    local.segments
}

/// Where a core begins that the trampoline has brought to long mode; `index` is its position.
pub extern "C" fn application_core(index: u64) -> ! {
    let core = &all()[index as usize];
    // SAFETY: the trampoline gave this core its own stack; interrupts are off.
    let local = unsafe { bring_up(core) };
    let usable = local.capabilities.filter(|capabilities| {
        let entered = enter_vmx(core, capabilities);
        if let Err(error) = entered {
            ::log::error!("core {}: VMXON failed: {error:?}", core.index);
        }
        entered.is_ok()
    });
    #[cfg(feature = "testing")]
    super::self_test::at_start(core);
    core.set_state(if usable.is_some() { State::Parked } else { State::Dead });
    smp::announce(core.apic);
    let Some(capabilities) = usable else { cpu::park() };
    loop {
        let work = core.work.lock().take();
        let Some(work) = work else {
            nmi::wait();
            continue;
        };
        // The service core has opened or closed the window since this core last loaded CR3.
        // SAFETY: the same address space as before.
        unsafe { cpu::write_cr3(cpu::read_cr3()) };
        let Work::Run(partition, id) = work else {
            core.set_state(State::Parked);
            continue;
        };
        #[cfg(feature = "testing")]
        super::self_test::look_for_neighbours();
        // What an earlier guest has sent here, until the last of its cores had left it.
        // SAFETY: the interrupt table is loaded, and no lock is held.
        unsafe { apic::drain() };
        let context = run::Core {
            segments: &local.segments,
            defence: &local.defence,
            capabilities: &capabilities,
            tables: tables(),
        };
        // SAFETY: VMX operation was entered above, interrupts are off, and `start`'s caller has
        // mapped the window.
        unsafe { run::run(&partition, id, context) };
        // Before the state: the last reference frees memory.
        drop(partition);
        // SAFETY: as above.
        unsafe {
            apic::enable();
            apic::drain();
        }
        #[cfg(feature = "testing")]
        super::self_test::look_at_registers();
        core.set_state(State::Parked);
        ring_service_core();
    }
}

/// Wakes the service core.
pub fn ring_service_core() {
    apic::send_fixed(all()[0].apic, DOORBELL_VECTOR);
}

/// What every core that came up protects the hypervisor with.
pub fn protection() -> Found {
    Found::from_bits_truncate(FOUND.load(Ordering::SeqCst))
}

/// Says how the cores came up; returns how many can run guests.
pub fn report() -> usize {
    for core in &all()[1..] {
        match (core.state(), core.refusal()) {
            (State::Parked, _) => {}
            (_, Some(refusal)) => ::log::warn!("core {}: {refusal}", core.index),
            (state, None) => {
                ::log::warn!("core {} (APIC ID {}) is {state:?}", core.index, core.apic.0);
            }
        }
    }
    all()[1..].iter().filter(|core| core.state() == State::Parked).count()
}
