//! The socket in a machine's folder, through which its control protocol is reached.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What it is called.
pub const NAME: &str = "control";

/// Makes it, in place of one that an earlier run left.
///
/// # Errors
/// If the folder cannot be written.
pub fn listen(folder: &Path) -> Result<UnixListener> {
    let path = folder.join(NAME);
    let doing = || format!("making the socket {}", path.display());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(doing),
        _ => {}
    }
    let (_folder, short) = short(&path).with_context(doing)?;
    UnixListener::bind(short).with_context(doing)
}

/// Connects to one.
///
/// # Errors
/// If nobody listens.
pub fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let (_folder, short) = short(path)?;
    UnixStream::connect(short)
}

/// The same socket by a path that is short enough for one, as long as the folder is open: theirs are limited to 107
/// bytes, and the folders of tests are deep.
fn short(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder)?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    short.push(path.file_name().unwrap_or_default());
    Ok((folder, short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_socket_can_be_deep_and_is_made_anew() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("n".repeat(100)).join("n".repeat(100));
        fs::create_dir_all(&folder).unwrap();
        for _ in 0..2 {
            let listener = listen(&folder).unwrap();
            connect(&folder.join(NAME)).unwrap().write_all(b"x").unwrap();
            let mut byte = [0];
            listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        }
        let nobody = connect(&folder.join(NAME)).unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused);
    }
}
