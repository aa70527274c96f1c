//! The first process of every Linux that is booted to measure: on the bare machine, as a guest of Bulkhead, as a
//! guest of KVM, and as KVM's host. `bench=` on the kernel's command line says which it is to be.
//!
//! What it finds goes to the console, in lines that begin with `bench: `; the last is `bench: end`.

mod linux;
mod ticks;
mod vmm;

use anyhow::{Context, Result, bail};

fn main() {
    // First of all: how far the kernel had come.
    let arrived = ticks::now();
    if let Err(error) = run(arrived) {
        println!("\nbench: error {error:#}");
    }
    linux::power_off();
}

fn run(arrived: u64) -> Result<()> {
    linux::mount()?;
    // The kernel hands the words of its command line that it does not know to the first process.
    let task = std::env::var("bench").context("no `bench=` on the kernel's command line")?;
    match task.as_str() {
        "boot" => linux::measure(arrived),
        "idle" => linux::stay(false),
        "busy" => linux::stay(true),
        "host" => {
            linux::load_modules()?;
            vmm::run(&vmm::Guest::named_by_command_line()?)
        }
        other => bail!("bench={other}: it is `boot`, `idle`, `busy` or `host`"),
    }
}
