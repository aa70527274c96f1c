//! Guests whose local APIC is not in x2APIC mode.

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, DEMO, summary};
use libtest_mimic::Trial;

use crate::guests::passes_its_tests;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("xapic::guests_get_what_they_are_promised", |name| {
            passes_its_tests(name, "xapic", 20)
        }),
        trial("xapic::linux_stays_there_when_told_to", |name| {
            let mut console = Boot::of_text(name, &without_x2apic()?)?.start()?;
            console.wait_for(PROMPT)?;
            let message = console.command("dmesg|grep -c 'x2apic enabled'", PROMPT)?;
            ensure!(message.trim() == "0", "{message}");
            let flags = console.command("grep -c -w x2apic /proc/cpuinfo", PROMPT)?;
            ensure!(flags.trim() == "0", "{flags}");
            // The timer's interrupts come and are ended.
            let interrupts = console.command("grep LOC: /proc/interrupts", PROMPT)?;
            let count: u32 = interrupts
                .split_whitespace()
                .nth(1)
                .and_then(|word| word.parse().ok())
                .with_context(|| interrupts.clone())?;
            ensure!(count > 100, "{interrupts}");
            console.send("poweroff\n")?;
            console.expect_power_off(1)?;
            let summary = summary(&console.transcript(), "debian")?;
            // Each interrupt is ended through the page.
            ensure!(summary.of("EPT violation") > u64::from(count), "{summary:?}");
            Ok(())
        }),
    ]
}

/// The prompt of the demo's shell.
const PROMPT: &str = "debian:/root# ";

/// The demo, its kernel told to leave x2APIC mode alone.
fn without_x2apic() -> Result<String> {
    let path = xtask::workspace::root().join(DEMO);
    let demo = std::fs::read_to_string(&path)?;
    // The manifest is in another folder than the script that it names.
    let script = path.with_file_name("init");
    let told = demo.replacen("console=ttyS0", "console=ttyS0 nox2apic", 1).replacen(
        "\"init\"",
        &format!("'{}'", script.display()),
        1,
    );
    ensure!(told.contains("nox2apic") && script.exists(), "the demo is another now: {demo}");
    Ok(told)
}
