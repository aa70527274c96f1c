//! Debian's Linux as a guest.

use bulkhead_tests::{Boot, DEMO};
use libtest_mimic::Trial;

use crate::trial;

/// The prompt of the demo's shell.
const PROMPT: &str = "debian:/root# ";

pub fn trials() -> Vec<Trial> {
    vec![trial("linux::boots_to_a_shell_and_powers_off", |name| {
        let mut console = Boot::new(name, DEMO).start()?;
        console.wait_for(PROMPT)?;
        console.send("uname -a\n")?;
        console.wait_for("Linux debian 6.")?;
        console.wait_for(PROMPT)?;
        console.send("cat /proc/interrupts\n")?;
        console.wait_for("Local timer interrupts")?;
        console.wait_for(PROMPT)?;
        console.send("poweroff\n")?;
        console.expect_power_off(1)
    })]
}
