//! Building an image and starting a machine with it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use bulkhead_boot::Manifest;
use bulkhead_manifest::Options;
use xtask::emulator::{Emulator, Kind, Machine};
use xtask::hypervisor::{self, Hypervisor};
use xtask::image::{self, Firmware};
use xtask::symbols::Symbols;
use xtask::toolchain::Toolchain;
use xtask::workspace;

use crate::Console;

/// The manifest of the demo, below the repository's top.
pub const DEMO: &str = "demo/debian.toml";

/// What is booted, and on which machine. The fields of `machine` may be changed at will.
#[derive(Debug)]
pub struct Boot {
    name: String,
    manifest: PathBuf,
    kind: Kind,
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
            machine: Machine::new(folder.join("bulkhead.img"), folder),
        }
    }

    /// The same in QEMU without VT-x, booted by some firmware.
    pub fn in_qemu(mut self, firmware: Firmware) -> Self {
        self.kind = Kind::QemuTcg;
        self.machine.firmware = firmware;
        self
    }

    /// Builds the image and starts the machine.
    pub fn start(self) -> Result<Console> {
        self.start_with(|_| ())
    }

    /// Builds the image, lets `alter` change its bundle, and starts the machine.
    pub fn start_with(self, alter: impl FnOnce(&mut Vec<u8>)) -> Result<Console> {
        let tools = tools()?;
        {
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
            image::write(&tools.toolchain, &tools.hypervisor, &path, *firmware, image)?;
        }
        let symbols = Symbols::open(&tools.hypervisor.symbols)?;
        let emulator = Emulator::start(self.kind, &self.machine)?;
        Ok(Console::new(&self.name, emulator, symbols))
    }
}

struct Tools {
    toolchain: Toolchain,
    hypervisor: Hypervisor,
}

/// The compiler, and the hypervisor built with it, once for all tests.
fn tools() -> Result<&'static Tools> {
    static TOOLS: OnceLock<Result<Tools, String>> = OnceLock::new();
    let tools = TOOLS.get_or_init(|| {
        let find = || -> Result<Tools> {
            let toolchain = Toolchain::find()?;
            let hypervisor = hypervisor::build(&toolchain)?;
            Ok(Tools { toolchain, hypervisor })
        };
        find().map_err(|error| format!("{error:#}"))
    });
    tools.as_ref().map_err(|error| anyhow!("{error}"))
}
