//! Building the hypervisor for bare metal.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain::{TARGET, Toolchain};
use crate::{process, workspace};

/// The hypervisor's two files.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    /// The ELF file with its line tables, for naming the addresses of a backtrace.
    pub symbols: PathBuf,
    /// The same without symbols, for the image: a tenth of the size to load.
    pub stripped: PathBuf,
}

/// What the hypervisor is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// To be used.
    Plain,
    /// To see what a defect of its own does: a guest's call makes it panic.
    InjectPanic,
}

impl Variant {
    fn features(self) -> &'static str {
        match self {
            Self::Plain => "metal",
            Self::InjectPanic => "metal,inject-panic",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Plain => "bulkhead-plain",
            Self::InjectPanic => "bulkhead-inject-panic",
        }
    }
}

/// Builds the hypervisor.
pub fn build(toolchain: &Toolchain, variant: Variant) -> Result<Hypervisor> {
    let folder = workspace::metal_target().join(TARGET).join("kernel");
    // Cargo gives all variants one name: nobody else may build until this one is copied.
    let _lock = workspace::lock(&workspace::metal_target().join("hypervisor"))?;
    let mut cargo = toolchain.cargo_for_metal("build");
    cargo.args(["--package", "bulkhead", "--bin", "bulkhead", "--profile", "kernel"]);
    cargo.args(["--features", variant.features()]);
    process::run(&mut cargo, "building the hypervisor")?;
    let symbols = folder.join(variant.file());
    let stripped = symbols.with_extension("stripped");
    let built = folder.join("bulkhead");
    fs::copy(&built, &symbols).with_context(|| format!("copying {}", workspace::shown(&built)))?;
    let mut objcopy = Command::new(toolchain.objcopy());
    objcopy.arg("--strip-all").arg(&symbols).arg(&stripped);
    process::run(&mut objcopy, "stripping the hypervisor")?;
    Ok(Hypervisor { symbols, stripped })
}
