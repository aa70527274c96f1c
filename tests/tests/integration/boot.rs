//! Images that boot, and machines that Bulkhead cannot run on.

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, DEMO, Guest};
use libtest_mimic::Trial;
use xtask::bench::{cases, heard};
use xtask::image::Firmware;

use crate::trial;

const NO_VTX: &str = "no VT-x: CPUID.1:ECX.VMX is 0; an Intel processor with VT-x is needed";

/// VT-x that the firmware has locked off cannot be had in Bochs, which always allows it in
/// `IA32_FEATURE_CONTROL`: that refusal is tested with the table of capabilities, in
/// `kernel/src/vmx/capability.rs`.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("boot::qemu_bios_without_vtx_is_refused", |name| {
            hello(name)?.in_qemu(Firmware::Bios).start()?.expect_refusal(&[NO_VTX])
        }),
        trial("boot::qemu_uefi_without_vtx_is_refused", |name| {
            hello(name)?.in_qemu(Firmware::Uefi).start()?.expect_refusal(&[NO_VTX])
        }),
        trial("boot::a_processor_without_vtx_is_refused", |name| {
            on_processor(name, "p4_prescott_celeron_336", &[NO_VTX])
        }),
        trial("boot::a_processor_with_too_little_vtx_is_refused", |name| {
            // VT-x of the first years, which has neither EPT nor the x2APIC.
            let lacks = "this processor's VT-x lacks \"x2APIC\", which is needed for interrupts";
            on_processor(name, "core2_penryn_t9600", &[lacks])
        }),
        trial("boot::one_core_is_refused", |name| {
            let mut boot = hello(name)?;
            boot.machine.cores = 1;
            boot.start()?.expect_refusal(&[
                "this machine has one core only; the service core needs one and a guest needs one",
            ])
        }),
        trial("boot::the_hypervisor_is_as_small_and_as_quick_to_start_as_promised", |name| {
            let guests = ["one", "two", "three"].map(|name| Guest::new("hello").named(name));
            // Without operators: what these take is their passwords' to say.
            let mut boot = Boot::of_guests_with(name, &guests, "")?;
            boot.machine.cores = 4;
            let mut console = boot.start()?;
            console.expect_power_off(3)?;
            let log = console.transcript();
            for guest in ["one", "two", "three"] {
                let memory = *heard::memory(&log, guest).get("memory").context("no memory")?;
                keeps("memory", memory)?;
                keeps("start", heard::start(&log, guest).context("no start")?)?;
            }
            let (used, size) = heard::heap(&log).context("what of the heap was in use")?;
            ensure!(used <= size * 0.8, "{used} of {size} KiB of the heap were in use");
            Ok(())
        }),
        trial("boot::too_few_cores_are_refused", |name| {
            let guests = ["one", "two"].map(|name| Guest::new("hello").named(name));
            let mut boot = Boot::of_guests(name, &guests)?;
            boot.machine.cores = 2;
            boot.start()?.expect_refusal(&[
                "the guests need 2 cores (one 1, two 1) besides the service core's, this machine \
                 has 2: 1 left for guests",
            ])
        }),
        trial("boot::too_little_memory_is_refused", |name| {
            let mut boot = Boot::new(name, DEMO);
            boot.machine.memory_mib = 140;
            boot.start()?.expect_refusal(&[
                "the guests need 128 MiB of memory (debian 128 MiB), this machine has ",
                " for guests; give them less",
            ])
        }),
        trial("boot::an_altered_kernel_is_refused", |name| {
            let flip_in_the_kernel = |bundle: &mut Vec<u8>| {
                let middle = bundle.len() / 2;
                bundle[middle] ^= 1;
            };
            hello(name)?.start_with(flip_in_the_kernel)?.expect_refusal(&[
                "blob 0 (\"hello\") is altered: its BLAKE3 begins ",
                " was recorded; write the image again",
            ])
        }),
        trial("boot::an_altered_descriptor_is_refused", |name| {
            let flip = |bundle: &mut Vec<u8>| bundle[bulkhead_manifest::HEADER_LENGTH] ^= 1;
            let altered = "bundle descriptor is altered: its BLAKE3 begins ";
            hello(name)?.start_with(flip)?.expect_refusal(&[altered])
        }),
        trial("boot::a_truncated_bundle_is_refused", |name| {
            let cut = |bundle: &mut Vec<u8>| bundle.truncate(bundle.len() / 2);
            let truncated = ["bundle is truncated: ", " should be; write the image again"];
            hello(name)?.start_with(cut)?.expect_refusal(&truncated)
        }),
        trial("boot::a_file_that_is_no_bundle_is_refused", |name| {
            let other = |bundle: &mut Vec<u8>| *bundle = b"a ramdisk of something else".repeat(99);
            hello(name)?.start_with(other)?.expect_refusal(&["not a bundle: it starts with"])
        }),
    ]
}

/// A figure is not above what its case in the bench promises.
fn keeps(name: &str, figure: f64) -> Result<()> {
    let case = cases::CASES.iter().find(|case| case.name == name).context("no such case")?;
    let most = case.most(None).context("a case that promises nothing")?;
    ensure!(figure > 0.0 && figure <= most, "{name}: {figure}, which is to be at most {most}");
    Ok(())
}

/// The smallest thing to boot, where nothing of it is to run.
fn hello(name: &str) -> Result<Boot> {
    Boot::of_guests(name, &[Guest::new("hello")])
}

fn on_processor(name: &str, model: &str, reasons: &[&str]) -> Result<()> {
    let mut boot = hello(name)?;
    boot.machine.cpu = Some(model.into());
    boot.start()?.expect_refusal(reasons)
}
