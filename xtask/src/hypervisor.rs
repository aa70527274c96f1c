//! Building the hypervisor for bare metal.

use std::fs;
use std::path::{Path, PathBuf};
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
    /// To be tested: it tries what it must not be able to do, and a guest's calls make it fail.
    Testing,
}

impl Variant {
    fn features(self) -> &'static str {
        match self {
            Self::Plain => "metal",
            Self::Testing => "metal,testing",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Plain => "bulkhead-plain",
            Self::Testing => "bulkhead-testing",
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
    // Others may be reading both files: each is replaced at once, by one that is whole.
    replace(&symbols, |new| {
        fs::copy(&built, new).with_context(|| format!("copying {}", workspace::shown(&built)))?;
        Ok(())
    })?;
    replace(&stripped, |new| {
        let mut objcopy = Command::new(toolchain.objcopy());
        objcopy.arg("--strip-all").arg(&symbols).arg(new);
        process::run(&mut objcopy, "stripping the hypervisor")
    })?;
    Ok(Hypervisor { symbols, stripped })
}

/// Puts a file in the place of another, if there is one, when `write` has written all of it.
fn replace(file: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = file.with_extension("new");
    write(&new)?;
    fs::rename(&new, file).with_context(|| format!("writing {}", workspace::shown(file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn whoever_reads_a_file_that_is_replaced_reads_one_of_the_two() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        let mut reader = fs::File::open(&file).unwrap();
        let mut old = String::new();
        replace(&file, |new| {
            fs::write(new, "ne")?;
            assert_eq!(fs::read_to_string(&file)?, "old");
            fs::write(new, "new")?;
            Ok(())
        })
        .unwrap();
        reader.read_to_string(&mut old).unwrap();
        assert_eq!((old.as_str(), fs::read_to_string(&file).unwrap().as_str()), ("old", "new"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_could_not_be_written_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        assert!(replace(&file, |_| anyhow::bail!("no")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    }
}
