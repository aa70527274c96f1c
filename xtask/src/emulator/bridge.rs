//! The way from a socket in a machine's folder to the machine's port of the control protocol.
//!
//! A thread passes bytes on, for one client after another. It always takes what the machine says, and drops it where nobody
//! listens or a client does not keep up: the machine never waits for a client.

use std::fs;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::control::{Overheard, socket};

/// Most bytes that wait for a client, which may not be run by the host for a while.
const MOST_WAITING: usize = 4 << 20;

/// The thread, which ends with this.
#[derive(Debug)]
pub struct Bridge {
    path: PathBuf,
    /// Closed to end the thread.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    heard: UnixDatagram,
}

impl Bridge {
    /// Listens in a folder. What the machine says comes from `from`, and what clients say goes to `to`.
    pub fn start(folder: &Path, from: impl Into<OwnedFd>, to: TcpStream) -> Result<Self> {
        let listener = socket::listen(folder)?;
        let (end, ended) = UnixStream::pair()?;
        let (from, to) = (from.into(), to.into());
        let (heard, tell) = UnixDatagram::pair()?;
        heard.set_nonblocking(true)?;
        let passing = Passing {
            listener,
            from,
            to,
            ended,
            client: None,
            waiting: Vec::new(),
            pending: Vec::new(),
            overheard: Overheard::default(),
            tell,
        };
        let thread = thread::Builder::new().name("control".into()).spawn(move || passing.run())?;
        Ok(Self { path: folder.join(socket::NAME), end: Some(end), thread: Some(thread), heard })
    }

    /// A file that can be read when an answer to a client was heard.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    /// A line of such an answer, as the log would have it; some may be missing.
    pub fn hear(&self) -> Option<String> {
        let mut bytes = [0; 1024];
        let length = self.heard.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Who comes later sees that there is no machine.
        let _ = fs::remove_file(&self.path);
    }
}

struct Passing {
    listener: UnixListener,
    from: OwnedFd,
    to: OwnedFd,
    ended: UnixStream,
    client: Option<UnixStream>,
    /// What the machine has said and the client has not taken.
    waiting: Vec<u8>,
    /// What the client has said and the machine has not taken.
    pending: Vec<u8>,
    overheard: Overheard,
    /// Gets the lines of answers, if it takes them.
    tell: UnixDatagram,
}

impl Passing {
    fn run(mut self) {
        while self.pass().is_some() {}
    }

    /// Waits for something, and passes it on. Nothing once there is no machine any more, or nobody wants it.
    fn pass(&mut self) -> Option<()> {
        let ask = |wanted: bool, flags| if wanted { flags } else { PollFlags::empty() };
        let idle = self.pending.is_empty();
        // Without a client, the next one is waited for in its place.
        let next = match &self.client {
            Some(client) => {
                let more = ask(!self.waiting.is_empty(), PollFlags::OUT);
                PollFd::from_borrowed_fd(client.as_fd(), ask(idle, PollFlags::IN) | more)
            }
            None => PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        };
        let mut polled = [
            PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.from.as_fd(), PollFlags::IN),
            next,
            PollFd::from_borrowed_fd(self.to.as_fd(), ask(!idle, PollFlags::OUT)),
        ];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        let [ended, said, room] = [0, 1, 3].map(|at: usize| !polled[at].revents().is_empty());
        let next = polled[2].revents();
        if ended {
            return None;
        }
        let mut bytes = [0; 4096];
        if said {
            let length = some(rustix::io::read(&self.from, &mut bytes))?;
            for line in self.overheard.feed(&bytes[..length]) {
                let _ = send(&self.tell, line.as_bytes(), SendFlags::DONTWAIT);
            }
            if self.client.is_some() {
                self.waiting.extend_from_slice(&bytes[..length]);
            }
        }
        let had_client = self.client.is_some();
        self.client.take_if(|client| {
            if self.waiting.is_empty() {
                return false;
            }
            let gone = match send(&*client, &self.waiting, UNHURRIED) {
                Ok(taken) => {
                    self.waiting.drain(..taken);
                    false
                }
                Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
            };
            gone || self.waiting.len() > MOST_WAITING
        });
        if next.intersects(PollFlags::OUT.complement()) {
            match &self.client {
                // The one that was looked at has just been left.
                None if had_client => {}
                None => {
                    self.client = self.listener.accept().ok().map(|(client, _)| client);
                    self.waiting.clear();
                }
                Some(client) => match some(rustix::io::read(client, &mut bytes)) {
                    Some(length) => self.pending.extend_from_slice(&bytes[..length]),
                    None => self.client = None,
                },
            }
        }
        if room && !self.pending.is_empty() {
            match send(&self.to, &self.pending, UNHURRIED) {
                Ok(taken) => drop(self.pending.drain(..taken)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }
}

/// How bytes are sent: as many as there is room for now.
const UNHURRIED: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// How many bytes there were; nothing at the end.
fn some(read: rustix::io::Result<usize>) -> Option<usize> {
    match read {
        Ok(0) => None,
        Ok(length) => Some(length),
        Err(Errno::INTR | Errno::AGAIN) => Some(0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_control::{Kind, encode};
    use rustix::event::Timespec;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    /// A bridge in a folder, and the machine's end.
    fn bridge() -> (tempfile::TempDir, Bridge, TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let machine = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        machine.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (near, _) = listener.accept().unwrap();
        let bridge = Bridge::start(folder.path(), near.try_clone().unwrap(), near).unwrap();
        (folder, bridge, machine)
    }

    fn connect(folder: &tempfile::TempDir) -> UnixStream {
        let client = socket::connect(&folder.path().join(socket::NAME)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    fn passes(mut from: impl Write, mut to: impl Read, bytes: &[u8]) {
        from.write_all(bytes).unwrap();
        let mut came = vec![0; bytes.len()];
        to.read_exact(&mut came).unwrap();
        assert_eq!(came, bytes);
    }

    #[test]
    fn one_client_after_another_talks_to_the_machine() {
        let (folder, bridge, machine) = bridge();
        for bytes in [b"one", b"two"] {
            let client = connect(&folder);
            passes(&client, &machine, bytes);
            passes(&machine, &client, bytes);
        }
        // The third comes while there is another.
        let (third, fourth) = (connect(&folder), connect(&folder));
        passes(&third, &machine, b"three");
        (&fourth).write_all(b"four").unwrap();
        drop(third);
        let mut came = [0; 4];
        (&machine).read_exact(&mut came).unwrap();
        assert_eq!(&came, b"four");
        drop(bridge);
        assert!(!folder.path().join(socket::NAME).exists());
    }

    #[test]
    fn the_machine_never_waits() {
        let (folder, _bridge, mut machine) = bridge();
        machine.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let many = vec![b'x'; 16 << 20];
        // Without a client, and with one that does not read.
        machine.write_all(&many).unwrap();
        let slow = connect(&folder);
        passes(&slow, &machine, b"here");
        machine.write_all(&many).unwrap();
        passes(&connect(&folder), &machine, b"next");
    }

    #[test]
    fn answers_to_clients_are_heard() {
        let (_folder, bridge, mut machine) = bridge();
        assert_eq!(bridge.hear(), None);
        machine.write_all(&encode(Kind::Line, 1, 0, b"guest a goes on")).unwrap();
        let mut polled = [PollFd::from_borrowed_fd(bridge.file(), PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
        assert_eq!(bridge.hear().as_deref(), Some("console: guest a goes on"));
        // Nobody has to listen.
        let many = encode(Kind::Line, 1, 0, b"x").repeat(100_000);
        machine.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        machine.write_all(&many).unwrap();
    }

    #[test]
    fn a_client_is_told_of_the_end() {
        let (folder, _bridge, machine) = bridge();
        let mut client = connect(&folder);
        passes(&client, &machine, b"x");
        drop(machine);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
