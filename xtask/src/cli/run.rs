//! `cargo xtask run`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;
use clap::Args;
use xtask::emulator::{self, Emulator, Kind, Machine, Size, Wanted};
use xtask::hypervisor::{self, Variant};
use xtask::image::{self, Firmware};
use xtask::session::{self, Outcome, Style};
use xtask::symbols::Symbols;
use xtask::toolchain::Toolchain;
use xtask::{packages, workspace};

/// What the command takes.
#[derive(Debug, Args)]
pub struct Run {
    /// The manifest that names the guests [default: demo/debian.toml]
    manifest: Option<PathBuf>,
    /// The emulator
    #[arg(long, value_enum, default_value_t)]
    emulator: Wanted,
    /// The firmware that boots the machine; Bochs has a BIOS only
    #[arg(long, value_enum, default_value_t)]
    firmware: Firmware,
    /// Processor cores of the machine [default: all that the guests have, and the service core]
    #[arg(long)]
    cores: Option<u32>,
    /// Threads of each physical core
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    threads: u32,
    /// Memory of the machine in MiB [default: that of the guests and 384 more, at least 512]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Processor model, by the emulator's name for it
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Bochs: instructions that make an emulated second
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000_000)]
    ips: u64,
    /// Plain streams, rather than the whole screen, on a terminal
    #[arg(long)]
    plain: bool,
}

impl Run {
    /// Builds, packs, starts, and connects the terminal.
    pub fn run(self) -> Result<u8> {
        let path = self.manifest.clone().unwrap_or_else(image::demo);
        // What is wrong with the manifest is said before anything is built or fetched.
        let manifest = Manifest::read(&path)?;
        let choice = emulator::choose(self.emulator);
        eprintln!("Emulator: {}", choice.reason);
        packages::ensure(match choice.kind {
            Kind::Bochs => packages::BOCHS,
            Kind::QemuKvm | Kind::QemuTcg => packages::QEMU,
        })?;
        let folder = workspace::target().join("run");
        // Two runs at a time would write each other's image.
        let Some(_lock) = workspace::try_lock(&folder)? else {
            bail!("another `cargo xtask run` uses {}; end that first", workspace::shown(&folder));
        };
        let bundle = folder.join("bundle");
        image::pack(&manifest, Options { framebuffer_log: false }, &bundle)?;
        let toolchain = Toolchain::find()?;
        eprintln!("Compiler: {}", toolchain.description());
        let hypervisor = hypervisor::build(&toolchain, Variant::Plain)?;
        let disk = folder.join("bulkhead.img");
        image::write(&toolchain, &hypervisor, &bundle, self.firmware, &disk)?;

        let machine = self.machine(&manifest, disk, folder)?;
        let mut symbols = Symbols::open(&hypervisor.symbols)?;
        let mut emulator = Emulator::start(choice.kind, &machine)?;
        let names = manifest.guests().iter().map(|guest| guest.name.clone()).collect();
        let style = if self.plain { Style::Plain } else { Style::FullScreen };
        let outcome = session::attach(&mut emulator, &mut symbols, names, style)?;
        if outcome == Outcome::Vanished {
            let log = workspace::shown(&machine.folder.join("emulator.log"));
            eprintln!("The emulator ended before the guests did; its log is {log}");
        }
        Ok(outcome.status())
    }

    fn machine(&self, manifest: &Manifest, disk: PathBuf, folder: PathBuf) -> Result<Machine> {
        let size = Size::of(manifest, self.cores, self.threads, self.memory)?;
        let mut machine = Machine::new(disk, folder);
        machine.firmware = self.firmware;
        (machine.cores, machine.threads) = (size.cores, size.threads);
        machine.memory_mib = size.memory_mib;
        machine.cpu.clone_from(&self.cpu);
        machine.instructions_per_second = self.ips;
        Ok(machine)
    }
}
