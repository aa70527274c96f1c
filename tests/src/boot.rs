//! Building an image and starting a machine with it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow};
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;
use bulkhead_operators::{Cost, make};
use xtask::emulator::{Emulator, Kind, Machine};
use xtask::hypervisor::{self, Hypervisor, Variant};
use xtask::image::{self, Firmware};
use xtask::symbols::Symbols;
use xtask::toolchain::Toolchain;
use xtask::{guests, process, workspace};

use crate::Console;
use crate::permit::Permit;

/// The manifest of the demo, below the repository's top.
pub const DEMO: &str = "demo/debian.toml";

/// Who gives commands in tests.
pub const OPERATOR: &str = "tester";
/// What every guest of a manifest needs besides what it runs on.
pub const TENURE: &str =
    "owner = \"tests\"\npurpose = \"a test\"\nclassification = \"test\"\nexpires = \"never\"\n";
/// The password.
pub const PASSWORD: &str = "no secret at all";

/// A guest written for the tests, as it stands in a manifest.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    program: &'static str,
    command_line: String,
    restart: &'static str,
    start: &'static str,
    quarantine: &'static str,
    expires: &'static str,
    on_expiry: &'static str,
    classification: &'static str,
    cores: u32,
    memory_mib: u32,
}

impl Guest {
    /// A guest that runs a binary of the package `bulkhead-guests`, and is called like it.
    pub fn new(program: &'static str) -> Self {
        Self {
            name: program.replace('_', "-"),
            program,
            command_line: String::new(),
            restart: "never",
            start: "at-boot",
            quarantine: "{}",
            expires: "never",
            on_expiry: "report",
            classification: "test",
            cores: 1,
            memory_mib: 16,
        }
    }

    /// The same by another name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_string();
        self
    }

    /// The same with a command line.
    pub fn with(mut self, command_line: &str) -> Self {
        self.command_line = command_line.to_string();
        self
    }

    /// The same with this many cores, instead of one.
    pub fn on_cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    /// The same with this much memory, instead of 16 MiB.
    pub fn with_memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The same, to be started again when it resets itself.
    pub fn restarting(mut self) -> Self {
        self.restart = "on-reset";
        self
    }

    /// The same with this restart policy.
    pub fn with_restart(mut self, restart: &'static str) -> Self {
        self.restart = restart;
        self
    }

    /// The same, needed to the end of this day, and what happens then.
    pub fn expiring(mut self, expires: &'static str, on_expiry: &'static str) -> Self {
        (self.expires, self.on_expiry) = (expires, on_expiry);
        self
    }

    /// The same, in another class.
    pub fn classified(mut self, classification: &'static str) -> Self {
        self.classification = classification;
        self
    }

    /// The same, with what puts it into quarantine, as the manifest has it.
    pub fn suspected(mut self, quarantine: &'static str) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// The same, but the operator starts it.
    pub fn by_hand(mut self) -> Self {
        self.start = "by-hand";
        self
    }
}

/// What is booted, and on which machine. The fields of `machine` may be changed at will.
#[derive(Debug)]
pub struct Boot {
    name: String,
    manifest: PathBuf,
    kind: Kind,
    variant: Variant,
    /// The manifest has the operator of the tests.
    operator: bool,
    /// The machine.
    pub machine: Machine,
}

impl Boot {
    /// A machine of the usual size in Bochs, with a manifest whose path is relative to the
    /// repository's top. The name is that of the test: logs go to a folder of this name.
    pub fn new(name: &str, manifest: impl AsRef<Path>) -> Self {
        let folder = workspace::target().join("tests").join(name.replace("::", "-"));
        Self {
            name: name.to_string(),
            manifest: workspace::root().join(manifest),
            kind: Kind::Bochs,
            variant: Variant::Plain,
            operator: false,
            machine: Machine::new(folder.join("bulkhead.img"), folder),
        }
    }

    /// The same with a manifest of guests written for the tests, and a machine with as many cores as
    /// they need and one more. An administrator gives commands.
    pub fn of_guests(name: &str, guests: &[Guest]) -> Result<Self> {
        Self::of_guests_and(name, guests, "")
    }

    /// The same with these further lines in the manifest.
    pub fn of_guests_and(name: &str, guests: &[Guest], lines: &str) -> Result<Self> {
        let lines = format!("{}{lines}", operator()?);
        let mut boot = Self::of_guests_with(name, guests, &lines)?;
        boot.operator = true;
        Ok(boot)
    }

    /// The same with these further lines in the manifest, and no operator but theirs. Nobody signs in.
    pub fn of_guests_with(name: &str, guests: &[Guest], lines: &str) -> Result<Self> {
        let programs = test_guests()?;
        let mut text = lines.to_string();
        for guest in guests {
            let kernel = programs.join(guest.program);
            write!(
                text,
                "[[guest]]\nname = \"{}\"\ncores = {}\nmemory = \"{} MiB\"\nkernel = '{}'\n\
                 cmdline = \"{}\"\nrestart = \"{}\"\nstart = \"{}\"\nowner = \"tests\"\n\
                 purpose = \"a test\"\nclassification = \"{}\"\nexpires = \"{}\"\n\
                 on_expiry = \"{}\"\nquarantine = {}\n\n",
                guest.name,
                guest.cores,
                guest.memory_mib,
                kernel.display(),
                guest.command_line,
                guest.restart,
                guest.start,
                guest.classification,
                guest.expires,
                guest.on_expiry,
                guest.quarantine
            )?;
        }
        let mut boot = Self::of_text(name, &text)?;
        boot.machine.cores = guests.iter().map(|guest| guest.cores).sum::<u32>() + 1;
        Ok(boot)
    }

    /// The demo with another script as the first process.
    pub fn of_script(name: &str, script: &str) -> Result<Self> {
        let demo = std::fs::read_to_string(workspace::root().join(DEMO))?;
        let boot = Self::of_text(name, &demo)?;
        std::fs::write(boot.machine.folder.join("init"), script)?;
        Ok(boot)
    }

    /// The same with a manifest of this text.
    pub fn of_text(name: &str, manifest: &str) -> Result<Self> {
        let mut boot = Self::new(name, "");
        let folder = &boot.machine.folder;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        boot.manifest = folder.join("guests.toml");
        std::fs::write(&boot.manifest, manifest)?;
        Ok(boot)
    }

    /// The same, and an administrator gives commands.
    pub fn of_text_with_operator(name: &str, manifest: &str) -> Result<Self> {
        let mut boot = Self::of_text(name, &format!("{}{manifest}", operator()?))?;
        boot.operator = true;
        Ok(boot)
    }

    /// The same in QEMU without VT-x, booted by some firmware.
    pub fn in_qemu(mut self, firmware: Firmware) -> Self {
        self.kind = Kind::QemuTcg;
        self.machine.firmware = firmware;
        self
    }

    /// The same with a hypervisor that was built to be tested: it tries what it must not be able to do, and
    /// does what guests ask for to see it fail.
    pub fn under_test(mut self) -> Self {
        self.variant = Variant::Testing;
        self
    }

    /// Where the manifest is.
    pub fn manifest(&self) -> &Path {
        &self.manifest
    }

    /// Builds the image and starts the machine.
    pub fn start(self) -> Result<Console> {
        self.start_with(|_| ())
    }

    /// Builds the image, lets `alter` change its bundle, and starts the machine.
    pub fn start_with(self, alter: impl FnOnce(&mut Vec<u8>)) -> Result<Console> {
        let toolchain = toolchain()?;
        let hypervisor = hypervisor(self.variant)?;
        let guests = {
            // One at a time: two would wait for each other inside of cargo anyway.
            static ONE: Mutex<()> = Mutex::new(());
            let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let manifest = Manifest::read(&self.manifest)?;
            let path = self.machine.folder.join("bundle");
            image::pack(&manifest, Options { framebuffer_log: false }, &path)?;
            let mut bundle = std::fs::read(&path)?;
            alter(&mut bundle);
            std::fs::write(&path, bundle)?;
            let Machine { image, firmware, .. } = &self.machine;
            image::write(toolchain, hypervisor, &path, *firmware, image)?;
            manifest.guests().iter().map(|guest| guest.name.clone()).collect()
        };
        let symbols = Symbols::open(&hypervisor.symbols)?;
        let permit = Permit::wait();
        let emulator = Emulator::start(self.kind, &self.machine)?;
        Ok(Console::new(&self.name, guests, self.operator, emulator, symbols, permit))
    }
}

/// A value that is made once for all tests; where that fails, each of them hears why.
type Once<T> = OnceLock<Result<T, String>>;

fn once<T>(cell: &'static Once<T>, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
    let made = cell.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// The compiler.
fn toolchain() -> Result<&'static Toolchain> {
    static TOOLCHAIN: Once<Toolchain> = OnceLock::new();
    once(&TOOLCHAIN, Toolchain::find)
}

/// The hypervisor, built.
fn hypervisor(variant: Variant) -> Result<&'static Hypervisor> {
    static PLAIN: Once<Hypervisor> = OnceLock::new();
    static TESTING: Once<Hypervisor> = OnceLock::new();
    let cell = match variant {
        Variant::Plain => &PLAIN,
        Variant::Testing => &TESTING,
    };
    once(cell, || hypervisor::build(toolchain()?, variant))
}

/// The manifest's entry of the operator of the tests.
fn operator() -> Result<String> {
    let hash = make(PASSWORD.as_bytes(), b"salt for a tester", Cost::LEAST);
    let hash = hash.context("making the operator of the tests")?;
    Ok(format!(
        "[[operator]]\nname = \"{OPERATOR}\"\nrole = \"administrator\"\npassword = \"{hash}\"\n\n"
    ))
}

/// The ELF file of a guest written for the tests, built.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(test_guests()?.join(name))
}

/// The same as a file of 32 bits, at another path.
pub fn program_as_elf32(name: &str, path: &Path) -> Result<()> {
    let mut objcopy = Command::new(toolchain()?.objcopy());
    objcopy.args(["--strip-all", "--output-target=elf32-i386"]).arg(program(name)?).arg(path);
    process::capture(&mut objcopy, &format!("making a 32-bit ELF file of {name}")).map(|_| ())
}

/// The folder of the guests written for the tests, built.
fn test_guests() -> Result<&'static Path> {
    static GUESTS: Once<PathBuf> = OnceLock::new();
    once(&GUESTS, || guests::build_test_guests(toolchain()?)).map(PathBuf::as_path)
}
