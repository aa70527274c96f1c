//! Emulators as machines to run an image on, for `cargo xtask run` and the integration tests.
//!
//! [`Emulator::start`] gives a machine whose first serial port is a stream of bytes in both
//! directions, and whose control protocol is reached by a socket in its folder: see `bridge`. The machine ends when its
//! handle is dropped, and when xtask ends for whatever reason: see `keeper`.

mod bochs;
mod bridge;
mod keeper;
mod probe;
mod qemu;
mod size;

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::image::Firmware;
pub use bochs::last_stop;
use bridge::Bridge;
use keeper::Keeper;
pub use probe::{Choice, Wanted, choose};
pub use size::Size;

/// How long an emulator may take to connect its serial port: it does so before the machine runs,
/// but the host may be busy.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// An emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bochs: emulates VT-x on any host.
    Bochs,
    /// QEMU with KVM: the host's own VT-x, nested.
    QemuKvm,
    /// QEMU without KVM: has no VT-x, shows how an image boots.
    QemuTcg,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A disk.
    Disk,
    /// A CD, by ISO 9660 and El Torito.
    Cd,
}

/// A machine: what [`Emulator::start`] builds.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The disk image that it boots.
    pub image: PathBuf,
    /// The firmware that boots it. Bochs has a BIOS only.
    pub firmware: Firmware,
    /// Processor cores: the service core, and those of the guests. All threads of physical cores.
    pub cores: u32,
    /// Threads of each physical core; `cores` is a multiple of it.
    pub threads: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The processor model, by the emulator's name for it; `None` is one that has all that
    /// Bulkhead needs.
    pub cpu: Option<String>,
    /// Instructions that make an emulated second (Bochs only). Low values shorten the delays of
    /// devices, which are what firmware and boot stages wait for.
    pub instructions_per_second: u64,
    /// It has a second serial port, for the control protocol. Without it, that is on the first.
    pub second_port: bool,
    /// The time of its real-time clock when it is switched on, in seconds since 1970-01-01, below 2^31 (Bochs only).
    /// `None` is the host's.
    pub clock: Option<u32>,
    /// What the image is.
    pub medium: Medium,
    /// A linear address whose every execution is noted in `emulator.log`, with the ticks so far (Bochs
    /// only).
    pub breakpoint: Option<u64>,
    /// Where configuration and logs go. No two machines may share a folder at one time.
    pub folder: PathBuf,
}

impl Machine {
    /// A machine of the usual size: a service core and a guest core, 512 MiB.
    pub fn new(image: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            firmware: Firmware::Bios,
            cores: 2,
            threads: 1,
            memory_mib: 512,
            cpu: None,
            instructions_per_second: 10_000_000,
            second_port: true,
            clock: None,
            medium: Medium::Disk,
            breakpoint: None,
            folder: folder.into(),
        }
    }
}

/// Where an emulator connects a machine's serial ports: TCP ports of this host.
#[derive(Debug, Clone, Copy)]
struct Ports {
    first: u16,
    /// None where the machine has only one.
    second: Option<u16>,
}

/// What [`Emulator::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes that the machine sent.
    Bytes(Vec<u8>),
    /// The machine said nothing in the given time.
    Silence,
    /// The machine has ended, and everything it sent has been read.
    Ended,
}

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub struct Emulator {
    keeper: Keeper,
    serial: TcpStream,
    /// Gets all that the machine sends, where the control protocol is on the first port.
    shared: Option<UnixStream>,
    bridge: Bridge,
    /// Gets all that the machine sends, as it comes.
    record: File,
    folder: PathBuf,
}

/// The file in a machine's folder with all that its serial port has sent, byte for byte.
pub const RECORD: &str = "serial.log";

impl Emulator {
    /// Starts a machine.
    pub fn start(kind: Kind, machine: &Machine) -> Result<Self> {
        let folder = &machine.folder;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        if !machine.image.is_file() {
            bail!("{}: no such image", machine.image.display());
        }
        // We listen and the emulator connects: so the port is free for certain, and the machine
        // does not run before somebody reads what it says.
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .context("opening a port for the serial line of the emulated machine")?;
            let port = listener.local_addr()?.port();
            anyhow::Ok((listener, port))
        };
        let (first, port) = listen()?;
        let second = machine.second_port.then(listen).transpose()?;
        let ports = Ports { first: port, second: second.as_ref().map(|(_, port)| *port) };
        let command = match kind {
            Kind::Bochs => bochs::command(machine, ports)?,
            Kind::QemuKvm => qemu::command(machine, ports, true)?,
            Kind::QemuTcg => qemu::command(machine, ports, false)?,
        };
        let keeper = Keeper::spawn(command, &folder.join("emulator.log"), bochs::ticks_in)?;
        let serial = accept(&first, &keeper, folder)?;
        serial.set_nodelay(true)?;
        let (bridge, shared) = match second {
            Some((listener, _)) => {
                let second = accept(&listener, &keeper, folder)?;
                second.set_nodelay(true)?;
                (Bridge::start(folder, second.try_clone()?, second)?, None)
            }
            None => {
                let (copy, shared) = UnixStream::pair()?;
                (Bridge::start(folder, copy, serial.try_clone()?)?, Some(shared))
            }
        };
        let record = folder.join(RECORD);
        let record =
            File::create(&record).with_context(|| format!("creating {}", record.display()))?;
        Ok(Self { keeper, serial, shared, bridge, record, folder: folder.clone() })
    }

    /// The serial line, for polling along with other things.
    pub fn serial(&self) -> &TcpStream {
        &self.serial
    }

    /// A file for polling: it can be read when the machine has answered a client of the control protocol.
    pub fn answers(&self) -> BorrowedFd<'_> {
        self.bridge.file()
    }

    /// A line of such an answer, as the log would have it if the command were typed; some may be missing.
    pub fn answer(&self) -> Option<String> {
        self.bridge.hear()
    }

    /// Reads what the machine sends, for at most the given time.
    pub fn read(&mut self, limit: Duration) -> Result<Read> {
        // Zero would mean to wait for ever.
        self.serial.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut bytes = vec![0; 16 * 1024];
        match self.serial.read(&mut bytes) {
            Ok(0) => Ok(Read::Ended),
            Ok(length) => {
                bytes.truncate(length);
                let record = self.folder.join(RECORD);
                self.record
                    .write_all(&bytes)
                    .with_context(|| format!("writing {}", record.display()))?;
                if let Some(shared) = &self.shared {
                    // A client that does not keep up is told by the gaps.
                    let _ = rustix::net::send(shared, &bytes, rustix::net::SendFlags::DONTWAIT);
                }
                Ok(Read::Bytes(bytes))
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    Ok(Read::Silence)
                }
                // How the line ends when the emulator is killed with bytes unread.
                ErrorKind::ConnectionReset => Ok(Read::Ended),
                _ => Err(error).context("reading from the emulated machine's serial line"),
            },
        }
    }

    /// Types to the machine.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.serial.write_all(bytes) {
            // The machine has ended; reading says so, once all that it sent has been read.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            result => result.context("writing to the emulated machine's serial line"),
        }
    }

    /// Types to the machine what it takes at once, and says how many bytes those were.
    pub fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        use rustix::io::Errno;
        match rustix::net::send(&self.serial, bytes, rustix::net::SendFlags::DONTWAIT) {
            Ok(taken) => Ok(taken),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            // As above.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(bytes.len()),
            Err(error) => Err(error).context("writing to the emulated machine's serial line"),
        }
    }

    /// Processor ticks since the machine was started, as known at most one second ago. Zero where
    /// the emulator does not count them.
    pub fn ticks(&self) -> u64 {
        self.keeper.ticks()
    }

    /// Waits until the emulator ends by itself, for at most the given time.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        self.keeper.wait(limit)
    }

    /// Ends the machine now.
    pub fn kill(&self) {
        self.keeper.kill();
    }

    /// The folder with the emulator's configuration and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Waits until the emulator has connected its serial port.
fn accept(listener: &TcpListener, keeper: &Keeper, folder: &Path) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for the emulator"),
        }
        if let Some(status) = keeper.wait(Duration::from_millis(20)) {
            bail!("the emulator ended before the machine started ({status}):\n{}", reason(folder));
        }
        if start.elapsed() > CONNECT_LIMIT {
            let seconds = CONNECT_LIMIT.as_secs();
            bail!("the emulator did not start its machine in {seconds} s:\n{}", reason(folder));
        }
    }
}

/// The last lines of the emulator's own output, which say why it gave up.
fn reason(folder: &Path) -> String {
    let path = folder.join("emulator.log");
    let bytes = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    format!("{}\n(all of it is in {})", last.join("\n"), crate::workspace::shown(&path))
}
