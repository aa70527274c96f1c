//! Where things are: the repository, and the folders below `target/` that the commands use.

use std::path::{Path, PathBuf};

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
