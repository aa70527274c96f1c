//! Building the hypervisor for bare metal.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

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

/// Builds the hypervisor.
pub fn build(toolchain: &Toolchain) -> Result<Hypervisor> {
    let mut cargo = toolchain.cargo_for_metal("build");
    cargo.args(["--package", "bulkhead", "--bin", "bulkhead", "--features", "metal"]);
    cargo.args(["--profile", "kernel"]);
    process::run(&mut cargo, "building the hypervisor")?;
    let folder = workspace::metal_target().join(TARGET).join("kernel");
    let symbols = folder.join("bulkhead");
    let stripped = folder.join("bulkhead.stripped");
    let mut objcopy = Command::new(toolchain.objcopy());
    objcopy.arg("--strip-all").arg(&symbols).arg(&stripped);
    process::run(&mut objcopy, "stripping the hypervisor")?;
    if !stripped.is_file() {
        bail!("{} was not written", workspace::shown(&stripped));
    }
    Ok(Hypervisor { symbols, stripped })
}
