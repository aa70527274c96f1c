//! Each core's own GDT and TSS.

use super::interrupts::ist;
use super::msr::Msr;
use alloc::boxed::Box;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{load_tss, sgdt};
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Tops of the stacks that the processor switches to by itself, in the order of [`ist`].
pub type InterruptStacks = [u64; ist::COUNT];

/// The data segment's selector, the same on all cores: the third descriptor.
pub const DATA_SELECTOR: u16 = 2 << 3;

/// Selectors and bases that a VMCS's host state needs.
#[derive(Clone, Copy, Debug)]
pub struct HostSegments {
    /// Code segment.
    pub code: u16,
    /// Data and stack segment.
    pub data: u16,
    /// Task register.
    pub task: u16,
    /// Linear address of this core's TSS.
    pub task_base: u64,
    /// Linear address of this core's GDT.
    pub gdt_base: u64,
}

/// Builds this core's tables, loads them and the IDT. The tables live for ever.
pub fn load(stacks: &InterruptStacks) -> HostSegments {
    let mut tss = Box::new(TaskStateSegment::new());
    let mut table = tss.interrupt_stack_table;
    for (entry, top) in table.iter_mut().zip(stacks) {
        *entry = VirtAddr::new(*top);
    }
    tss.interrupt_stack_table = table;
    let tss: &'static TaskStateSegment = Box::leak(tss);
    let mut gdt = Box::new(GlobalDescriptorTable::new());
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    assert!(data.0 == DATA_SELECTOR, "the order of the descriptors");
    let task = gdt.append(Descriptor::tss_segment(tss));
    let gdt: &'static GlobalDescriptorTable = Box::leak(gdt);
    gdt.load();
    // Loading a null selector clears the base, which leads to what the core knows of itself.
    let gs_base = Msr::GS_BASE.read();
    // SAFETY: the selectors are of the table just loaded, which is never freed; GS's base is as before.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        Msr::GS_BASE.write(gs_base);
        load_tss(task);
    }
    super::interrupts::load();
    HostSegments {
        code: code.0,
        data: data.0,
        task: task.0,
        task_base: tss as *const _ as u64,
        gdt_base: sgdt().base.as_u64(),
    }
}
