//! A small VMM over KVM: what Bulkhead's guests get, given by KVM.
//!
//! Loaders, ACPI tables and device models are Bulkhead's own. Local APICs are KVM's, in the kernel; the IOAPIC is
//! not (`KVM_CAP_SPLIT_IRQCHIP`), as there is one among the devices. A virtual processor is a thread, pinned to
//! a processor of the host where there are enough.

mod cpu;
mod machine;
mod ram;

use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow};
use bulkhead::guest::layout::ACPI_TABLES;
use bulkhead::guest::loader::{self, Image, Kind};
use bulkhead::memory::{GuestMemory, GuestPhysical, RamLayout};
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap, kvm_userspace_memory_region};
use kvm_ioctls::Kvm;

use cpu::Processor;
use machine::Machine;
use ram::Ram;

/// Pins of the IOAPIC, which a split interrupt controller must be told.
const PINS: u64 = 24;
/// Where KVM may put what it needs of its own (`KVM_SET_TSS_ADDR`): three pages that no guest uses.
const TSS: usize = 0xFFFB_D000;

/// What is run.
#[derive(Debug)]
pub struct Guest {
    /// The kernel's file, and its format.
    kernel: (Vec<u8>, Kind),
    initrd: Option<Vec<u8>>,
    command_line: String,
    processors: u32,
    /// Bytes of RAM.
    memory: u64,
}

impl Guest {
    /// The guest that `/guest` holds: its kernel, perhaps an initrd, the command line. Processors and MiB of
    /// memory are in `processors=` and `memory=` on the host's command line.
    pub fn named_by_command_line() -> Result<Self> {
        let number = |key: &str| -> Result<u32> {
            let text = std::env::var(key).with_context(|| format!("no `{key}=`"))?;
            text.parse().with_context(|| format!("{key}={text}"))
        };
        let kernel = std::fs::read("/guest/kernel").context("reading /guest/kernel")?;
        let kind = if kernel.starts_with(b"\x7fELF") { Kind::Elf64 } else { Kind::BzImage };
        Ok(Self {
            kernel: (kernel, kind),
            initrd: std::fs::read("/guest/initrd").ok(),
            command_line: std::fs::read_to_string("/guest/command-line")
                .context("reading /guest/command-line")?
                .trim_end()
                .to_string(),
            processors: number("processors")?,
            memory: u64::from(number("memory")?) << 20,
        })
    }
}

/// Runs a guest until it switches itself off.
pub fn run(guest: &Guest) -> Result<()> {
    let kvm = Kvm::new().context("opening /dev/kvm")?;
    let vm = kvm.create_vm().context("creating a virtual machine")?;
    vm.set_tss_address(TSS).context("KVM_SET_TSS_ADDR")?;
    let split =
        kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, args: [PINS, 0, 0, 0], ..Default::default() };
    vm.enable_cap(&split).context("KVM_CAP_SPLIT_IRQCHIP")?;

    let layout = RamLayout::new(guest.memory);
    let mut ram = Ram::new(layout)?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: layout.low_end(),
        userspace_addr: ram.address(),
        flags: 0,
    };
    // SAFETY: the memory stays until the process ends, and is accessed by copies alone.
    unsafe { vm.set_user_memory_region(region) }.context("giving the guest its memory")?;

    let (kernel, kind) = &guest.kernel;
    let image =
        Image { kernel, initrd: guest.initrd.as_deref(), command_line: &guest.command_line };
    let entry = loader::load(*kind, &image, layout, &mut ram)
        .map_err(|error| anyhow!("loading the kernel: {error}"))?;
    let tables = bulkhead::guest::acpi::build(guest.processors)
        .map_err(|error| anyhow!("making ACPI tables: {error}"))?;
    ram.write(GuestPhysical::new(ACPI_TABLES.start), &tables.bytes)
        .map_err(|_| anyhow!("no RAM for ACPI tables"))?;

    let vm = Arc::new(vm);
    let machine = Arc::new(Machine::new(Arc::clone(&vm)));
    machine.start_console();
    let mut processors = Vec::new();
    for number in 0..guest.processors {
        let processor = Processor::new(&kvm, &vm, number, guest.processors, &machine)?;
        if number == 0 {
            processor.start_at(&entry)?;
        }
        processors.push(processor);
    }
    println!("bench: start {}", processors[0].time_stamp_counter()?);
    let (ended, end) = mpsc::channel();
    for processor in processors {
        let ended = ended.clone();
        thread::spawn(move || {
            let result = processor.run();
            // Nobody listens any more where another processor has ended the guest.
            let _ = ended.send(result);
        });
    }
    let result = end.recv().context("all processors are gone")?;
    machine.end_console();
    result
}
