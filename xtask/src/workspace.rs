//! Where things are: the repository, and the folders below `target/` that the commands use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// The top of the repository.
pub fn root() -> &'static Path {
    // Known when xtask is compiled: this crate is one folder below the top.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target folder, as an absolute path.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Cargo resolves a relative one against the current directory; so does `absolute`.
        Some(folder) if !folder.is_empty() => {
            std::path::absolute(&folder).unwrap_or_else(|_| PathBuf::from(folder))
        }
        _ => root().join("target"),
    }
}

/// Where the bare-metal binaries are built: apart from the host's, because the two use different
/// compilers, and each would throw away what the other built.
pub fn metal_target() -> PathBuf {
    target().join("metal")
}

/// Where the image writer and the boot stages in it are built.
pub fn image_target() -> PathBuf {
    target().join("image-writer")
}

/// Makes a folder and waits until nobody else uses it. It is free again when the file is dropped,
/// or the process ends.
pub fn lock(folder: &Path) -> Result<File> {
    let (file, path) = lock_file(folder)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).with_context(|| format!("locking {path}")),
        }
    }
}

/// Like [`lock`], but gives nothing rather than wait.
pub fn try_lock(folder: &Path) -> Result<Option<File>> {
    let (file, path) = lock_file(folder)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {path}")),
    }
}

fn lock_file(folder: &Path) -> Result<(File, String)> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok((file, path.display().to_string()))
}

/// A path as it reads best in a message: relative to the current directory or the repository
/// where it lies inside one of them.
pub fn shown(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    for base in [current.as_path(), root()] {
        if let Ok(inside) = path.strip_prefix(base) {
            return inside.display().to_string();
        }
    }
    path.display().to_string()
}
