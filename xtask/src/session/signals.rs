//! Signals, caught.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

/// Signals that end xtask, caught so that the terminal is restored first, and the one that says that the terminal has
/// another size.
pub(super) struct Signals {
    /// Readable once a signal has come.
    pipe: UnixStream,
    number: Arc<AtomicUsize>,
    resized: Arc<AtomicBool>,
    registered: Vec<signal_hook::SigId>,
}

impl Signals {
    /// From now on they are caught.
    pub(super) fn catch() -> Result<Self> {
        let (pipe, writer) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let number = Arc::new(AtomicUsize::new(0));
        let resized = Arc::new(AtomicBool::new(false));
        let mut registered = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            let value = usize::try_from(signal)?;
            let flag = Arc::clone(&number);
            registered.push(signal_hook::flag::register_usize(signal, flag, value)?);
            registered.push(signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?);
        }
        registered.push(signal_hook::flag::register(SIGWINCH, Arc::clone(&resized))?);
        registered.push(signal_hook::low_level::pipe::register(SIGWINCH, writer)?);
        Ok(Self { pipe, number, resized, registered })
    }

    /// A file that can be read once one has come.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// The number of the one that ends xtask, if it has come.
    pub(super) fn caught(&self) -> Option<i32> {
        match self.number.load(Ordering::SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Whether the terminal has another size since this was asked last.
    pub(super) fn resized(&self) -> bool {
        // Before the flag is looked at: what comes after that makes the file readable again.
        let _ = rustix::io::read(&self.pipe, &mut [0; 64]);
        self.resized.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
