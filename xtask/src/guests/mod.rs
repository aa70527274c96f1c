//! What guests run: kernels of Debian, initramfs with busybox, and the small guests of the tests.

mod busybox;
pub(crate) mod cpio;
mod debian;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bulkhead_boot::Source;

use crate::toolchain::{TARGET, Toolchain};
use crate::{process, workspace};

/// The file of a kernel or initramfs that a manifest names: fetches or makes it where it is not
/// a file already.
pub fn resolve(source: &Source) -> Result<PathBuf> {
    // Two at a time would unpack into each other's folder.
    let _lock = match source {
        Source::File(_) => None,
        _ => Some(workspace::lock(&workspace::target().join("guests"))?),
    };
    match source {
        Source::File(path) => Ok(path.clone()),
        Source::Debian { package, file } => debian::kernel(package, file.as_deref()),
        Source::Busybox { script, modules } => busybox::initramfs(script, modules.as_ref()),
        other => bail!("{other:?}: xtask does not know this kind of source"),
    }
}

/// Builds the guests written for the tests, which are the binaries of the package
/// `bulkhead-guests`, and gives the folder with their ELF files.
pub fn build_test_guests(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo_for_metal_at_fixed_addresses("build");
    cargo.args(["--package", "bulkhead-guests", "--features", "metal"]);
    cargo.args(["--profile", "kernel", "--bins"]);
    process::run(&mut cargo, "building the test guests")?;
    Ok(workspace::metal_target().join(TARGET).join("kernel"))
}

/// Where fetched and made things are kept, by what they are for.
fn folder(purpose: &str) -> PathBuf {
    workspace::target().join("guests").join(purpose)
}

/// Writes a file beside its place and moves it there: whoever finds it finds all of it.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("part");
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(&unfinished, path)
}
