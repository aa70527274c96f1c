//! Kernels of each kind.

use std::path::Path;

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, program, program_as_elf32};
use libtest_mimic::Trial;

use crate::trial;

/// What the guest *multiboot* prints, besides its command line.
const MULTIBOOT: [&str; 5] = [
    "kernel multiboot",
    "Multiboot: 15360 KiB above 1 MiB",
    "Multiboot: 15999 KiB of RAM",
    "Multiboot: loaded by Bulkhead",
    "Multiboot: 6 passed, 0 failed",
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("kernels::pvh_gets_what_it_is_promised", |name| {
            let expected = ["kernel pvh", "PVH: 15999 KiB of RAM", "PVH: 5 passed, 0 failed"];
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
    ]
}

/// Boots a kernel that checks what it is given, with a command line and an initramfs.
fn gets_what_it_is_promised(name: &str, kernel: &Path, expected: &[&str]) -> Result<()> {
    // The RAM is 16 MiB but for what lies between 639 KiB and 1 MiB.
    let text = format!(
        "[[guest]]\nname = \"g\"\ncores = 1\nmemory = \"16 MiB\"\nkernel = '{}'\n\
         initrd = \"module\"\ncmdline = \"a=b c\"\n",
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
