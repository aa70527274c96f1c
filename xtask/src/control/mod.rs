//! The control protocol's far side: gives a machine a command, and takes its answer. `docs/console.md` describes it.

mod exchange;
mod overheard;
mod port;
mod save;
pub mod socket;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bulkhead_control::{Decoder, Frame, Kind, MAX_COMMAND, Unusable, VERSION, Why, encode};

pub use exchange::{End, Exchange, Said};
pub use overheard::Overheard;
pub use port::Port;
pub use save::Save;

/// How often it is asked who is there, until somebody is.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often a command is sent that arrives damaged.
const MOST_SENT: u32 = 3;

/// A client of a machine.
#[derive(Debug)]
pub struct Client {
    port: Port,
    decoder: Decoder,
    /// What has come and was not looked at.
    unread: VecDeque<u8>,
    /// How long the machine may say nothing.
    patience: Duration,
    /// The number of the next request. Answers to another client's are told apart by it.
    id: u32,
}

impl Client {
    /// A client behind a port, for a machine that says something at least every so often.
    pub fn new(port: Port, patience: Duration) -> Self {
        let id = RandomState::new().hash_one(std::process::id()) as u32;
        let (decoder, unread) = (Decoder::default(), VecDeque::new());
        Self { port, decoder, unread, patience, id }
    }

    /// Asks who is there, until somebody is. Gives the machine's name for itself.
    ///
    /// # Errors
    /// If nobody is, or somebody who speaks another version.
    pub fn greet(&mut self) -> Result<String> {
        let id = self.next_id();
        let mut heard = Instant::now();
        loop {
            self.port.send(&encode(Kind::Hello, id, 0, &[]))?;
            let asked = Instant::now();
            while let Some(left) = ASK_AGAIN.checked_sub(asked.elapsed()) {
                match self.frame(left)? {
                    Some(Ok(Frame { kind: Kind::Greeting, id: of, payload, .. })) if of == id => {
                        return Ok(String::from_utf8_lossy(&payload).into_owned());
                    }
                    // The answer to somebody who has gone: ours comes after it.
                    Some(Ok(_)) => heard = Instant::now(),
                    Some(Err(unusable)) => refuse_version(unusable)?,
                    None => {}
                }
            }
            if heard.elapsed() >= self.patience {
                bail!(
                    "nothing answers there in {} s: is it the port of a machine that runs Bulkhead, and has that booted? Another \
                     client of the same port makes wait, too",
                    self.patience.as_secs()
                );
            }
        }
    }

    /// Gives a command, and each line of the answer as it comes.
    ///
    /// # Errors
    /// If the answer does not come, or not whole.
    pub fn command(&mut self, line: &str, mut say: impl FnMut(Said)) -> Result<End> {
        check(line)?;
        let mut exchange = Exchange::new(self.next_id());
        let request = encode(Kind::Command, exchange.id(), 0, line.as_bytes());
        self.port.send(&request)?;
        let (mut sent, mut heard) = (1, Instant::now());
        while let Some(left) = self.patience.checked_sub(heard.elapsed()) {
            let frame = match self.frame(left)? {
                None => continue,
                Some(Ok(frame)) => frame,
                Some(Err(unusable)) => {
                    // What is damaged shows as a gap.
                    refuse_version(unusable)?;
                    continue;
                }
            };
            heard = Instant::now();
            if exchange.is_damaged_request(&frame) && sent < MOST_SENT {
                self.port.send(&request)?;
                sent += 1;
                continue;
            }
            match exchange.take(&frame)? {
                Some(Ok(said)) => say(said),
                Some(Err(end)) => return Ok(end),
                None => {}
            }
        }
        bail!(
            "no answer in {} s; whether the command was carried out is not known here: `list`, and the audit trail, tell",
            self.patience.as_secs()
        )
    }

    fn next_id(&mut self) -> u32 {
        // 0 is nobody's.
        self.id = self.id.wrapping_add(1).max(1);
        self.id
    }

    /// The next frame that comes within some time.
    fn frame(&mut self, limit: Duration) -> Result<Option<Result<Frame, Unusable>>> {
        let start = Instant::now();
        loop {
            while let Some(byte) = self.unread.pop_front() {
                if let Some(frame) = self.decoder.feed(byte) {
                    return Ok(Some(frame));
                }
            }
            let Some(left) = limit.checked_sub(start.elapsed()) else { return Ok(None) };
            self.unread.extend(self.port.receive(left)?);
        }
    }
}

/// Whether a command can be sent.
///
/// # Errors
/// If it is too long.
pub fn check(line: &str) -> Result<()> {
    if line.len() > MAX_COMMAND {
        bail!("a command has at most {MAX_COMMAND} bytes, not {}", line.len());
    }
    Ok(())
}

fn refuse_version(unusable: Unusable) -> Result<()> {
    if unusable.why == Why::Version {
        bail!(
            "the machine speaks version {} of the control protocol, and this is version {VERSION}: use the `cargo xtask` of its \
             release",
            unusable.version
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
