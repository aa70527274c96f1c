//! The way to a machine's control protocol: a socket that an emulator's run has made, or a serial device.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{self, ControlModes, OptionalActions};

use super::socket;
use crate::workspace;

/// Bits in a second, as the hypervisor sets its port.
const SPEED: u32 = 115_200;
/// How long a port may take no byte.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// An open port, in both directions.
#[derive(Debug)]
pub struct Port(OwnedFd);

impl Port {
    /// Opens a socket or a serial device, which is set to 115,200 baud, 8 bits, no parity, one stop bit.
    ///
    /// # Errors
    /// If it is neither, or cannot be opened. The message says what would be right.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = workspace::shown(path);
        let kind = match fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{shown}: there is no such port; `cargo xtask run` makes target/run/{} while it runs, and a real machine \
                 needs its serial device: --port /dev/ttyUSB0",
                socket::NAME
            ),
            Err(error) => return Err(error).with_context(|| format!("opening {shown}")),
        };
        if kind.is_socket() {
            let stream = socket::connect(path).with_context(|| {
                format!(
                    "{shown}: no machine listens there any more; start it with `cargo xtask run`"
                )
            })?;
            stream.set_nonblocking(true)?;
            return Ok(Self(stream.into()));
        }
        if !kind.is_char_device() {
            bail!(
                "{shown} is no port: a socket of `cargo xtask run` is needed, or a serial device such as /dev/ttyUSB0"
            );
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open(path, flags, Mode::empty())
            .with_context(|| format!("opening {shown}"))?;
        set_up(&device).with_context(|| format!("{shown}: is that a serial device?"))?;
        Ok(Self(device))
    }

    /// Sends all of the bytes.
    ///
    /// # Errors
    /// If the port is gone, or takes nothing.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.0, bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !self.ready(PollFlags::OUT, SEND_LIMIT)? {
                        bail!("the port takes nothing");
                    }
                }
                Err(error) => return Err(error).context("writing to the port"),
            }
        }
        Ok(())
    }

    /// Takes what comes within some time; nothing where nothing does.
    ///
    /// # Errors
    /// If the port is gone.
    pub fn receive(&mut self, limit: Duration) -> Result<Vec<u8>> {
        if !self.ready(PollFlags::IN, limit)? {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; 4096];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(0) => bail!("the machine has ended, or the port is gone"),
            Ok(length) => {
                bytes.truncate(length);
                Ok(bytes)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(error).context("reading from the port"),
        }
    }

    fn ready(&self, wanted: PollFlags, limit: Duration) -> Result<bool> {
        let limit = Timespec::try_from(limit).ok();
        match poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), wanted)], limit.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("waiting for the port"),
        }
    }
}

/// Of a file that does not block.
impl From<OwnedFd> for Port {
    fn from(file: OwnedFd) -> Self {
        Self(file)
    }
}

/// For this program alone, and without any of a terminal's ways.
fn set_up(device: &OwnedFd) -> rustix::io::Result<()> {
    let mut mode = termios::tcgetattr(device)?;
    mode.make_raw();
    mode.control_modes -= ControlModes::CSTOPB | ControlModes::PARENB | ControlModes::CRTSCTS;
    mode.control_modes |= ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL;
    mode.set_speed(SPEED)?;
    termios::tcsetattr(device, OptionalActions::Now, &mode)?;
    termios::ioctl_tiocexcl(device)
}
