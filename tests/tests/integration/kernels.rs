//! Kernels of each kind.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulkhead_boot::Source;
use bulkhead_tests::{Boot, TENURE, program, program_as_elf32};
use libtest_mimic::Trial;
use xtask::guests;

use crate::{memtest, trial};

/// What the guest *multiboot* prints, besides its command line.
const MULTIBOOT: [&str; 4] = [
    "Multiboot: 15360 KiB above 1 MiB",
    "Multiboot: 15999 KiB of RAM",
    "Multiboot: loaded by Bulkhead",
    "Multiboot: 6 passed, 0 failed",
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("kernels::pvh_gets_what_it_is_promised", |name| {
            let expected = ["PVH: 15999 KiB of RAM", "PVH: 5 passed, 0 failed"];
            gets_what_it_is_promised(name, &program("pvh")?, &expected)
        }),
        trial("kernels::multiboot_gets_what_it_is_promised", |name| {
            gets_what_it_is_promised(name, &program("multiboot")?, &MULTIBOOT)
        }),
        trial("kernels::multiboot_of_32_bits_gets_what_it_is_promised", |name| {
            let folder = Boot::new(name, "").machine.folder;
            std::fs::create_dir_all(&folder)?;
            let kernel = folder.join("multiboot32");
            program_as_elf32("multiboot", &kernel)?;
            gets_what_it_is_promised(name, &kernel, &MULTIBOOT)
        }),
        trial("kernels::debians_vmlinux_runs_by_pvh", vmlinux_runs_by_pvh),
        trial("kernels::debians_real_time_kernel_runs", real_time_kernel_runs),
        trial("kernels::memtest86_passes_a_full_round", memtest::passes_a_full_round),
        trial("kernels::memtest86_of_32_bits_runs", memtest::of_32_bits_runs),
        trial("kernels::memtest86_of_two_cores_runs", memtest::of_two_cores_runs),
    ]
}

/// Boots a kernel that checks what it is given, with a command line and an initramfs.
fn gets_what_it_is_promised(name: &str, kernel: &Path, expected: &[&str]) -> Result<()> {
    // The RAM is 16 MiB but for what lies between 639 KiB and 1 MiB.
    let text = format!(
        "[[guest]]\nname = \"g\"\ncores = 1\nmemory = \"16 MiB\"\nkernel = '{}'\n\
         initrd = \"module\"\ncmdline = \"a=b c\"\n{TENURE}",
        kernel.display()
    );
    let boot = Boot::of_text(name, &text)?;
    std::fs::write(boot.machine.folder.join("module"), "a module")?;
    let mut console = boot.start()?;
    console.expect_power_off(1)?;
    let said = console.transcript();
    ensure!(!said.contains("FAILED"), "{said}");
    for text in expected.iter().chain(&["command line: a=b c\r\n"]) {
        ensure!(said.contains(text), "\"{text}\" is missing:\n{said}");
    }
    Ok(())
}

/// What the first process says of its kernel, and does.
const SCRIPT: &str = "#!/bin/sh\necho this is Linux $(uname -rv)\npoweroff -f\n";

/// Boots Debian's kernel for real time, which takes its time to unpack itself.
fn real_time_kernel_runs(name: &str) -> Result<()> {
    let boot = Boot::of_text(
        name,
        &format!(
            "[[guest]]\nname = \"debian\"\ncores = 1\nmemory = \"128 MiB\"\n\
             kernel = {{ debian = \"linux-image-rt-amd64\" }}\ninitrd = {{ busybox = \"init\" }}\n\
             cmdline = \"console=ttyS0 cryptomgr.notests\"\n{TENURE}"
        ),
    )?;
    std::fs::write(boot.machine.folder.join("init"), SCRIPT)?;
    let mut console = boot.start()?;
    console.wait_for("this is Linux 6.")?;
    let version = console.wait_for("\r\n")?;
    ensure!(version.contains("-rt-amd64 ") && version.contains("PREEMPT_RT"), "{version}");
    console.expect_power_off(1)
}

/// Boots the kernel within Debian's bzImage to a script.
fn vmlinux_runs_by_pvh(name: &str) -> Result<()> {
    let boot = Boot::of_text(
        name,
        &format!(
            "[[guest]]\nname = \"debian\"\ncores = 1\nmemory = \"128 MiB\"\nkernel = \"vmlinux\"\n\
             kind = \"pvh\"\ninitrd = {{ busybox = \"init\" }}\n\
             cmdline = \"console=ttyS0 cryptomgr.notests\"\n{TENURE}"
        ),
    )?;
    let package = "linux-image-cloud-amd64".to_string();
    let bzimage = std::fs::read(guests::resolve(&Source::Debian { package, file: None })?)?;
    std::fs::write(boot.machine.folder.join("vmlinux"), vmlinux_in(&bzimage)?)?;
    std::fs::write(boot.machine.folder.join("init"), SCRIPT)?;
    let mut console = boot.start()?;
    console.wait_for("Hypervisor detected: KVM")?;
    console.wait_for("this is Linux 6.")?;
    console.expect_power_off(1)
}

/// The ELF file in a bzImage whose payload is packed with LZ4: blocks of at most 8 MiB, each behind
/// its length, and the length of all at the end (Linux, lib/decompress_unlz4.c).
fn vmlinux_in(bzimage: &[u8]) -> Result<Vec<u8>> {
    const SETUP_SECTORS: usize = 0x1F1;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24C;
    const MAGIC: u32 = 0x184C_2102;
    const MOST_IN_A_BLOCK: usize = 8 << 20;
    fn number(bytes: &[u8], at: usize) -> Result<u32> {
        let bytes =
            bytes.get(at..).and_then(|rest| rest.first_chunk()).context("it is too short")?;
        Ok(u32::from_le_bytes(*bytes))
    }
    let start =
        (usize::from(bzimage[SETUP_SECTORS]) + 1) * 512 + number(bzimage, PAYLOAD_OFFSET)? as usize;
    let end = start + number(bzimage, PAYLOAD_LENGTH)? as usize;
    let payload = bzimage.get(start..end).context("the payload is not there")?;
    ensure!(number(payload, 0)? == MAGIC, "the kernel is not packed with LZ4");
    let (blocks, size) = payload[4..].split_at(payload.len() - 8);
    let mut vmlinux = Vec::new();
    let mut at = 0;
    while at < blocks.len() {
        let len = number(blocks, at)? as usize;
        let block = blocks.get(at + 4..at + 4 + len).context("a block is truncated")?;
        vmlinux.extend(lz4_flex::block::decompress(block, MOST_IN_A_BLOCK)?);
        at += 4 + len;
    }
    ensure!(vmlinux.len() == number(size, 0)? as usize, "{} bytes unpacked", vmlinux.len());
    Ok(vmlinux)
}
