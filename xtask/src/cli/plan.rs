//! `cargo xtask plan`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bulkhead_boot::Manifest;
use bulkhead_plan::{Machine, Plan as Planned};
use clap::Args;
use xtask::emulator::Size;
use xtask::plan::{self, machine, picture};
use xtask::{image, workspace};

/// What the command takes.
#[derive(Debug, Args)]
pub struct Plan {
    /// The manifest that names the guests [default: demo/debian.toml]
    manifest: Option<PathBuf>,
    /// Processor cores of the emulated machine [default: as for `run`]
    #[arg(long)]
    cores: Option<u32>,
    /// Threads of each physical core of the emulated machine
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    threads: u32,
    /// Memory of the emulated machine in MiB [default: as for `run`]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Plan for the machine whose boot log this is
    #[arg(long, value_name = "LOG", conflicts_with_all = ["cores", "threads", "memory"])]
    machine: Option<PathBuf>,
    /// Where the picture goes [default: target/plan.svg]
    #[arg(short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Plan {
    /// Prints the plan and draws it. Nothing is built, fetched or booted.
    pub fn run(self) -> Result<u8> {
        let path = self.manifest.clone().unwrap_or_else(image::demo);
        let manifest = Manifest::read(&path)?;
        let (machine, what) = self.machine(&manifest)?;
        let plan = Planned::new(&machine, &plan::requests(&manifest))
            .with_context(|| format!("no plan for {what}"))?;
        println!("{machine}\n{plan}");

        let out = self.output.clone().unwrap_or_else(|| workspace::target().join("plan.svg"));
        if self.output.is_none() {
            fs::create_dir_all(workspace::target()).context("creating the target folder")?;
        }
        let title = format!("{} on {what}", workspace::shown(&path));
        fs::write(&out, picture::picture(&title, &machine, &plan))
            .with_context(|| format!("writing {}", out.display()))?;
        eprintln!("The picture of it is {}", workspace::shown(&out));
        Ok(0)
    }

    /// The machine, and what messages call it.
    fn machine(&self, manifest: &Manifest) -> Result<(Machine, String)> {
        if let Some(log) = &self.machine {
            return Ok((
                machine::of_log(log)?,
                format!("the machine of {}", workspace::shown(log)),
            ));
        }
        let size = Size::of(manifest, self.cores, self.threads, self.memory)?;
        let plural = if size.cores == 1 { "" } else { "s" };
        let Size { cores, memory_mib, .. } = size;
        let what = format!("an emulated machine of {cores} core{plural} and {memory_mib} MiB");
        let operators = bulkhead_operators::heap_for(manifest.operators()) as u64;
        Ok((machine::of_emulator(size, operators, plan::demands(manifest))?, what))
    }
}
