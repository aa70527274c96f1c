//! Images that boot, and machines that Bulkhead cannot run on.

use anyhow::Result;
use bulkhead_tests::{Boot, DEMO};
use libtest_mimic::Trial;
use xtask::image::Firmware;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("boot::qemu_bios_without_vtx_is_refused", |name| {
            Boot::new(name, DEMO).in_qemu(Firmware::Bios).start()?.expect_refusal(&["VT-x"])
        }),
        trial("boot::qemu_uefi_without_vtx_is_refused", |name| {
            Boot::new(name, DEMO).in_qemu(Firmware::Uefi).start()?.expect_refusal(&["VT-x"])
        }),
        trial("boot::a_processor_without_vtx_is_refused", |name| {
            on_processor(name, "p4_prescott_celeron_336", &["VT-x"])
        }),
        trial("boot::a_processor_with_too_little_vtx_is_refused", |name| {
            // VT-x of the first years: it has neither EPT nor the x2APIC.
            on_processor(name, "core2_penryn_t9600", &["VT-x lacks", "needed for"])
        }),
        trial("boot::one_core_is_refused", |name| {
            let mut boot = Boot::new(name, DEMO);
            boot.machine.cores = 1;
            boot.start()?.expect_refusal(&["one core"])
        }),
        trial("boot::too_little_memory_is_refused", |name| {
            let mut boot = Boot::new(name, DEMO);
            boot.machine.memory_mib = 160;
            boot.start()?.expect_refusal(&["memory"])
        }),
        trial("boot::an_altered_bundle_is_refused", |name| {
            let flip_in_the_kernel = |bundle: &mut Vec<u8>| {
                let middle = bundle.len() / 2;
                bundle[middle] ^= 1;
            };
            Boot::new(name, DEMO)
                .start_with(flip_in_the_kernel)?
                .expect_refusal(&["blob 0", "altered"])
        }),
        trial("boot::a_truncated_bundle_is_refused", |name| {
            let cut = |bundle: &mut Vec<u8>| bundle.truncate(bundle.len() / 2);
            Boot::new(name, DEMO).start_with(cut)?.expect_refusal(&["bundle"])
        }),
    ]
}

fn on_processor(name: &str, model: &str, reasons: &[&str]) -> Result<()> {
    let mut boot = Boot::new(name, DEMO);
    boot.machine.cpu = Some(model.into());
    boot.start()?.expect_refusal(reasons)
}
