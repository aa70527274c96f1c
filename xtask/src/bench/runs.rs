//! The machines that are run, one after the other: each keeps a core of the host busy, and none takes long.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;

use super::figures::{Figures, Kind};
use super::linux::{ENTRY, KvmGuest, Linux, MEASURED};
use super::{On, Scope, heard, source};
use crate::channels::{Channels, SWITCH};
use crate::emulator::{self, Emulator, Machine, Medium, Read};
use crate::hypervisor::{self, Hypervisor, Variant};
use crate::image::{self, Firmware};
use crate::toolchain::Toolchain;
use crate::{guests, packages, process, progress, workspace};

/// The longest that one machine may take, in real time.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Processors and memory of the guest `bench`, and cores of its machine: of both hypervisors the same.
const PROCESSORS: u32 = 2;
const MEMORY_MIB: u32 = 64;
const CORES: u32 = PROCESSORS + 1;
/// Memory of the Linux that is booted. On the bare machine it is the machine's.
const LINUX_MIB: u32 = 256;
/// Seconds of emulated time in which exits are counted, at the machine's rate.
const SECONDS: u64 = 60;

/// What all runs need.
struct Bench {
    folder: PathBuf,
    toolchain: Toolchain,
    hypervisor: Hypervisor,
    guest: PathBuf,
    linux: Linux,
    on: On,
}

/// Runs them all.
pub fn all(scope: Scope, on: On) -> Result<Figures> {
    packages::ensure(if on == On::Bochs { packages::BOCHS } else { packages::QEMU })?;
    let folder = workspace::target().join("bench");
    let toolchain = Toolchain::find()?;
    let bench = Bench {
        hypervisor: hypervisor::build(&toolchain, Variant::Plain)?,
        guest: guests::build_test_guests(&toolchain)?.join("bench"),
        linux: Linux::prepare(&folder, on)?,
        toolchain,
        folder,
        on,
    };
    let mut figures = Figures { date: today()?, ..Figures::default() };
    bench.versions(&mut figures)?;
    bench.files(&mut figures)?;
    bench.operations(&mut figures)?;
    if on == On::Bochs {
        // Nothing else sees the kernel's first instruction.
        bench.linux_bare(&mut figures)?;
    }
    bench.linux_as_guest(&mut figures)?;
    bench.exits(&mut figures)?;
    if scope == Scope::Everything {
        bench.operations_under_kvm(&mut figures)?;
        bench.linux_under_kvm(&mut figures)?;
    }
    Ok(figures)
}

impl Bench {
    fn versions(&self, figures: &mut Figures) -> Result<()> {
        let (name, package) = match self.on {
            On::Bochs => ("Bochs", "bochs"),
            On::Silicon => ("QEMU", "qemu-system-x86"),
        };
        let emulator = process::capture(
            Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]),
            &format!("asking for the version of {name}"),
        )?;
        let named = [
            (name, emulator.trim().to_string()),
            ("Linux", self.linux.version()),
            // Not why it is this one.
            ("compiler", self.toolchain.description().split(',').next().unwrap_or_default().into()),
        ];
        figures.versions = named.map(|(name, version)| (name.to_string(), version)).into();
        Ok(())
    }

    /// What is known without a run.
    fn files(&self, figures: &mut Figures) -> Result<()> {
        let file = fs::metadata(&self.hypervisor.stripped).context("the hypervisor's file")?;
        figures.set("image", Kind::Bulkhead, file.len().div_ceil(1024) as f64);
        let lines = source::lines_in_root_mode(&workspace::root().join("kernel/src"))?;
        figures.set("lines", Kind::Bulkhead, lines as f64);
        Ok(())
    }

    fn operations(&self, figures: &mut Figures) -> Result<()> {
        let guest = guest("bench", PROCESSORS, MEMORY_MIB, &self.guest, None, "");
        let mut run = self.bulkhead("operations", &guest, CORES)?;
        run.until("operations under Bulkhead", |heard| heard.contains("all guests stopped"))?;
        run.accept()?;
        figures.extend(Kind::Bulkhead, heard::figures(&run.heard));
        Ok(())
    }

    fn operations_under_kvm(&self, figures: &mut Figures) -> Result<()> {
        let guest = KvmGuest {
            kernel: &self.guest,
            initrd: None,
            command_line: "",
            processors: PROCESSORS,
            memory_mib: MEMORY_MIB,
        };
        let cd = self.linux.host("kvm-operations", &guest)?;
        let mut run = self.cd("kvm-operations", cd, CORES, 512, None)?;
        run.until("operations under KVM", ended_twice)?;
        run.accept()?;
        let operations = heard::figures(&run.heard);
        // When the guest began is no cost.
        let operations = operations.into_iter().filter(|(name, _)| name != "start");
        figures.extend(Kind::Kvm, operations);
        Ok(())
    }

    fn linux_bare(&self, figures: &mut Figures) -> Result<()> {
        let mut run = self.cd("linux-bare", self.linux.bare()?, 1, LINUX_MIB, Some(ENTRY))?;
        run.until("Linux on the bare machine", |heard| heard.contains("bench: end"))?;
        run.accept()?;
        let log = fs::read_to_string(run.emulator.folder().join("emulator.log"))
            .context("reading what Bochs said")?;
        let entered = emulator::last_stop(&log).context("Bochs saw no kernel entered")?;
        figures.boot(Kind::Bare, &run.heard, entered as f64)
    }

    fn linux_as_guest(&self, figures: &mut Figures) -> Result<()> {
        let command_line = measured_guest();
        let initrd = Some(self.linux.initrd.as_path());
        let guest = guest("linux", 1, LINUX_MIB, &self.linux.kernel, initrd, &command_line);
        let mut run = self.bulkhead("linux-guest", &guest, 2)?;
        run.until("Linux as a guest of Bulkhead", |heard| heard.contains("all guests stopped"))?;
        run.accept()?;
        let ran = heard::ran(&run.heard, "linux").context("nothing on what the guest ran")?;
        let leaving = heard::figures(&run.heard).get("leaving").copied();
        let leaving = leaving.context("Linux did not say when it left")?;
        figures.boot(Kind::Bulkhead, &run.heard, leaving - ran)?;
        if let Some(start) = heard::start(&run.heard, "linux") {
            figures.set("start", Kind::Bulkhead, start);
        }
        Ok(())
    }

    fn linux_under_kvm(&self, figures: &mut Figures) -> Result<()> {
        let guest = KvmGuest {
            kernel: &self.linux.kernel,
            initrd: Some(&self.linux.initrd),
            command_line: &measured_guest(),
            processors: 1,
            memory_mib: LINUX_MIB,
        };
        let cd = self.linux.host("kvm-linux", &guest)?;
        let mut run = self.cd("kvm-linux", cd, 2, 768, None)?;
        run.until("Linux as a guest of KVM", ended_twice)?;
        run.accept()?;
        let start = heard::figures(&run.heard).get("start").copied();
        figures.boot(Kind::Kvm, &run.heard, start.context("the VMM did not say when it began")?)
    }

    /// One Linux that sleeps beside one that computes on two processors.
    fn exits(&self, figures: &mut Figures) -> Result<()> {
        let of = |name: &str, cores| {
            let initrd = Some(self.linux.initrd.as_path());
            // Linux's own watchdog wakes each processor every 16 seconds.
            let command_line = format!("{MEASURED} nowatchdog bench={name}");
            guest(name, cores, 128, &self.linux.kernel, initrd, &command_line)
        };
        let manifest = of("idle", 1) + &of("busy", 2);
        let mut run = self.bulkhead("exits", &manifest, 4)?;
        run.until("two Linuxes", |heard| heard.matches("bench: ready").count() == 2)?;
        // What the last of their starts has left to do is done.
        run.let_pass("two Linuxes settle", SECONDS / 4)?;
        let before = [run.exits("idle")?, run.exits("busy")?];
        run.let_pass("exits of an idle and a computing Linux", SECONDS)?;
        let after = [run.exits("idle")?, run.exits("busy")?];
        for (index, case) in ["exits-idle", "exits-busy"].into_iter().enumerate() {
            let exits = (after[index] - before[index]) / SECONDS as f64;
            figures.set(case, Kind::Bulkhead, exits);
        }
        figures.extend(Kind::Bulkhead, heard::memory(&run.heard, "busy"));
        run.accept()
    }

    /// Starts Bulkhead with guests.
    fn bulkhead(&self, name: &str, manifest: &str, cores: u32) -> Result<Run> {
        let folder = self.run_folder(name)?;
        let path = folder.join("guests.toml");
        fs::write(&path, manifest).context("writing a manifest")?;
        let manifest = Manifest::read(&path)?;
        let (bundle, disk) = (folder.join("bundle"), folder.join("bulkhead.img"));
        image::pack(&manifest, Options { framebuffer_log: false }, &bundle)?;
        image::write(&self.toolchain, &self.hypervisor, &bundle, Firmware::Bios, &disk)?;
        let mut machine = Machine::new(disk, folder);
        (machine.cores, machine.memory_mib) = (cores, 768);
        // As the bare machine has it that it is compared with.
        machine.second_port = false;
        Run::start(&machine, self.on)
    }

    /// Boots a CD.
    fn cd(
        &self,
        name: &str,
        cd: PathBuf,
        cores: u32,
        memory_mib: u32,
        breakpoint: Option<u64>,
    ) -> Result<Run> {
        let mut machine = Machine::new(cd, self.run_folder(name)?);
        (machine.cores, machine.memory_mib) = (cores, memory_mib);
        (machine.medium, machine.breakpoint) = (Medium::Cd, breakpoint);
        machine.second_port = false;
        Run::start(&machine, self.on)
    }

    fn run_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }
}

impl Figures {
    /// Notes a boot of Linux that was entered at some tick.
    fn boot(&mut self, kind: Kind, said: &str, entered: f64) -> Result<()> {
        let said = heard::figures(said);
        let userspace = said.get("userspace").context("Linux did not say when it was up")?;
        self.set("linux-boot", kind, userspace - entered);
        if let Some(&call) = said.get("syscall") {
            self.set("syscall", kind, call);
        }
        Ok(())
    }
}

/// The command line of a Linux that is measured as a guest.
fn measured_guest() -> String {
    format!("{MEASURED} bench=boot machine=guest")
}

/// The guest has ended, and its VMM.
fn ended_twice(heard: &str) -> bool {
    heard.matches("bench: end").count() >= 2
}

/// A guest as it stands in a manifest.
fn guest(
    name: &str,
    cores: u32,
    memory_mib: u32,
    kernel: &Path,
    initrd: Option<&Path>,
    command_line: &str,
) -> String {
    let initrd = initrd.map_or(String::new(), |path| format!("initrd = '{}'\n", path.display()));
    format!(
        "[[guest]]\nname = \"{name}\"\ncores = {cores}\nmemory = \"{memory_mib} MiB\"\n\
         kernel = '{}'\n{initrd}cmdline = \"{command_line}\"\n\
         owner = \"bench\"\npurpose = \"is measured\"\nclassification = \"public\"\nexpires = \"never\"\n\n",
        kernel.display()
    )
}

fn today() -> Result<String> {
    let mut date = Command::new("date");
    let day = process::capture(date.args(["--utc", "+%F"]), "asking for the date")?;
    Ok(day.trim().to_string())
}

/// A machine that runs.
struct Run {
    emulator: Emulator,
    channels: Channels,
    /// All that was said, by whomever, without marks.
    heard: String,
    /// Ticks of an emulated second; `None` where seconds are real.
    rate: Option<u64>,
}

impl Run {
    fn start(machine: &Machine, on: On) -> Result<Self> {
        let (kind, rate) = match on {
            On::Bochs => (emulator::Kind::Bochs, Some(machine.instructions_per_second)),
            On::Silicon => (emulator::Kind::QemuKvm, None),
        };
        let emulator = Emulator::start(kind, machine)?;
        Ok(Self { emulator, channels: Channels::default(), heard: String::new(), rate })
    }

    /// Listens until something has been said.
    fn until(&mut self, what: &str, said: impl Fn(&str) -> bool) -> Result<()> {
        let _shown = progress::step(&format!("Measuring: {what}"));
        let start = Instant::now();
        while !said(&self.heard) {
            self.listen(what, start)?;
        }
        Ok(())
    }

    /// Lets the machine's time pass.
    fn let_pass(&mut self, what: &str, seconds: u64) -> Result<()> {
        let _shown = progress::step(&format!("Measuring: {what}"));
        let (start, ticks) = (Instant::now(), self.emulator.ticks());
        let passed = |run: &Self| match run.rate {
            Some(rate) => run.emulator.ticks() >= ticks + seconds * rate,
            None => start.elapsed() >= Duration::from_secs(seconds),
        };
        while !passed(self) {
            self.listen(what, start)?;
        }
        Ok(())
    }

    /// Exits of a guest so far.
    fn exits(&mut self, guest: &str) -> Result<f64> {
        let so_far = self.heard.len();
        self.emulator.write(&[&[SWITCH], format!("exits {guest}\r").as_bytes()].concat())?;
        let start = Instant::now();
        loop {
            if let Some(exits) = heard::exits_so_far(&self.heard[so_far..], guest) {
                return Ok(exits);
            }
            self.listen("the hypervisor's answer", start)?;
        }
    }

    fn listen(&mut self, what: &str, start: Instant) -> Result<()> {
        match self.emulator.read(Duration::from_millis(200))? {
            Read::Bytes(bytes) => self.take(&bytes),
            Read::Silence => {}
            Read::Ended => return self.fail(what, "the machine has ended"),
        }
        if start.elapsed() > LIMIT {
            return self.fail(what, &format!("nothing in {} s", LIMIT.as_secs()));
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        for said in self.channels.feed(bytes) {
            if said.breaks_line {
                self.heard.push('\n');
            }
            self.heard.push_str(&String::from_utf8_lossy(&said.bytes));
        }
    }

    fn fail(&self, what: &str, why: &str) -> Result<()> {
        let lines: Vec<_> = self.heard.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        let folder = workspace::shown(self.emulator.folder());
        bail!("{what}: {why}; the machine's last lines (its logs are in {folder}):\n{last}")
    }

    /// Fails where a guest says that something went wrong; keeps all that was said.
    fn accept(&self) -> Result<()> {
        fs::write(self.emulator.folder().join("console.log"), &self.heard)
            .context("writing what the machine said")?;
        match heard::error(&self.heard) {
            Some(error) => bail!("{error}"),
            None => Ok(()),
        }
    }
}
