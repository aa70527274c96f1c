//! A virtual processor: its state at the start, and what its exits to the VMM ask for.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bulkhead::arch::switch::reg;
use bulkhead::device::power::PowerEvent;
use bulkhead::guest::loader::Entry;
use bulkhead::vmx::start::{Start, Start64};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::machine::Machine;

/// `IA32_TIME_STAMP_COUNTER`.
const TSC: u32 = 0x10;
/// `IA32_EFER`: long mode enabled, and active.
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
/// CR0: protection, extension type, paging. CR4: PAE.
const CR0: u64 = 1 << 31 | 1 << 4 | 1;
const CR4_PAE: u64 = 1 << 5;
/// What KVM_RUN ends with when it is only to be called again.
const AGAIN: [Errno; 2] = [Errno::INTR, Errno::AGAIN];
/// RFLAGS: the bit that is always set.
const RFLAGS: u64 = 1 << 1;

/// A virtual processor.
pub struct Processor {
    number: u32,
    vcpu: VcpuFd,
    machine: Arc<Machine>,
}

impl Processor {
    /// A processor after reset. Those with a number above 0 wait for INIT and SIPI.
    pub fn new(
        kvm: &Kvm,
        vm: &VmFd,
        number: u32,
        processors: u32,
        machine: &Arc<Machine>,
    ) -> Result<Self> {
        let vcpu = vm.create_vcpu(number.into()).context("creating a virtual processor")?;
        let mut cpuid =
            kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("asking KVM for its CPUID")?;
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                1 => {
                    /// Bits of ECX: x2APIC, and that there is a hypervisor.
                    const OFFERED: u32 = 1 << 21 | 1 << 31;
                    entry.ecx |= OFFERED;
                    entry.ebx = entry.ebx & 0xFFFF | number << 24 | processors << 16;
                }
                // Each processor is a core of the one package.
                0xB | 0x1F => {
                    entry.edx = number;
                    let (shift, count, kind) = match entry.index {
                        0 => (0, 1, 1),
                        1 => (processors.next_power_of_two().ilog2(), processors, 2),
                        _ => (0, 0, 0),
                    };
                    (entry.eax, entry.ebx) = (shift, count);
                    entry.ecx = entry.index | kind << 8;
                }
                _ => {}
            }
        }
        vcpu.set_cpuid2(&cpuid).context("setting CPUID")?;
        Ok(Self { number, vcpu, machine: Arc::clone(machine) })
    }

    /// Puts the first processor where the loader says.
    pub fn start_at(&self, entry: &Entry) -> Result<()> {
        let Start::Long(Start64 { rip, rsp, cr3, gdt_base, gdt_limit, code, data }) = entry.start
        else {
            bail!("the VMM enters kernels in long mode alone");
        };
        let mut system = self.vcpu.get_sregs().context("KVM_GET_SREGS")?;
        // Flat, present, accessed; code for execution and reading, data for reading and writing.
        let segment = |selector, type_, l| kvm_segment {
            base: 0,
            limit: u32::MAX,
            selector,
            type_,
            present: 1,
            s: 1,
            l,
            db: 1 - l,
            g: 1,
            ..Default::default()
        };
        system.cs = segment(code, 0b1011, 1);
        let data = segment(data, 0b0011, 0);
        (system.ds, system.es, system.ss) = (data, data, data);
        (system.fs, system.gs) = (data, data);
        (system.gdt.base, system.gdt.limit) = (gdt_base, gdt_limit);
        (system.cr0, system.cr3, system.cr4) = (CR0, cr3, CR4_PAE);
        system.efer = EFER_LME_LMA;
        self.vcpu.set_sregs(&system).context("KVM_SET_SREGS")?;
        let rsi = entry.registers.0[reg::RSI];
        let general = kvm_regs { rip, rsp, rsi, rflags: RFLAGS, ..Default::default() };
        self.vcpu.set_regs(&general).context("KVM_SET_REGS")
    }

    /// The time-stamp counter as the guest would read it now.
    pub fn time_stamp_counter(&self) -> Result<u64> {
        let entry = kvm_msr_entry { index: TSC, ..Default::default() };
        let mut msrs = Msrs::from_entries(&[entry]).context("a list of one MSR")?;
        self.vcpu.get_msrs(&mut msrs).context("KVM_GET_MSRS")?;
        Ok(msrs.as_slice()[0].data)
    }

    /// Runs until the guest ends.
    pub fn run(mut self) -> Result<()> {
        self.pin();
        let machine = self.machine;
        loop {
            let event = match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, data)) => machine.port_write(port, data),
                Ok(VcpuExit::IoIn(port, data)) => {
                    machine.port_read(port, data);
                    None
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    machine.memory_read(address, data);
                    None
                }
                Ok(VcpuExit::MmioWrite(address, data)) => machine.memory_write(address, data),
                Ok(VcpuExit::IoapicEoi(_)) => None,
                Ok(VcpuExit::Shutdown) => bail!("the guest has shut down its processor"),
                Ok(other) => bail!("an exit that nobody expects: {other:?}"),
                // A signal came, or INIT or SIPI to a processor that waited for them.
                Err(error) if AGAIN.iter().any(|again| again.raw_os_error() == error.errno()) => {
                    None
                }
                Err(error) => return Err(error).context("KVM_RUN"),
            };
            match event {
                None => {}
                Some(PowerEvent::PowerOff) => return Ok(()),
                Some(PowerEvent::Reset) => bail!("the guest has reset itself"),
            }
        }
    }

    /// Keeps the thread on one of the host's processors, the last for number 0: the first has the host's
    /// own work.
    fn pin(&self) {
        let Ok(processors) = std::thread::available_parallelism() else { return };
        let Some(number) = processors.get().checked_sub(1 + self.number as usize) else { return };
        let mut set = CpuSet::new();
        set.set(number);
        // It runs without, too.
        let _ = sched_setaffinity(None, &set);
    }
}
