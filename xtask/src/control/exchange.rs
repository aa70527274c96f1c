//! A command and its answer, frame by frame.

use anyhow::{Result, bail};
use bulkhead_control::{Frame, Kind, Why};

/// Most bytes of a line. The hypervisor's own are shorter.
const LONGEST: usize = 64 << 10;

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Of what was asked for.
    Line(String),
    /// Why it was refused.
    Reason(String),
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The command was carried out.
    Done,
    /// It was refused.
    Refused,
}

/// An answer that comes in.
#[derive(Debug)]
pub struct Exchange {
    id: u32,
    /// The number of the frame that comes next.
    number: u16,
    /// What has come of a line.
    line: Vec<u8>,
}

impl Exchange {
    /// An answer to the command of this number, of which nothing has come.
    pub fn new(id: u32) -> Self {
        Self { id, number: 0, line: Vec::new() }
    }

    /// The command's number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether the machine says that the command has not arrived whole: then it was not carried out.
    pub fn is_damaged_request(&self, frame: &Frame) -> bool {
        let lost = matches!(why(frame), Some(Why::Damaged | Why::TooLong));
        lost && (frame.id == 0 || frame.id == self.id) && self.number == 0
    }

    /// Takes the next frame. Gives a line that is whole, or the end.
    ///
    /// # Errors
    /// If the answer is not whole, or none.
    pub fn take(&mut self, frame: &Frame) -> Result<Option<Result<Said, End>>> {
        if let Some(why) = why(frame).filter(|_| frame.id == self.id || frame.id == 0) {
            bail!("the machine cannot use the command's frame: {why}");
        }
        if frame.id != self.id {
            return Ok(None);
        }
        if frame.number != self.number {
            bail!(
                "frames of the answer were lost on the way, or damaged; the command itself has arrived"
            );
        }
        self.number = self.number.wrapping_add(1);
        let piece = &frame.payload;
        match frame.kind {
            Kind::Part | Kind::Line | Kind::Reason if self.line.len() + piece.len() > LONGEST => {
                bail!("a line of the answer is longer than {LONGEST} bytes")
            }
            Kind::Part => {
                self.line.extend_from_slice(piece);
                Ok(None)
            }
            kind @ (Kind::Line | Kind::Reason) => {
                self.line.extend_from_slice(piece);
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                let line = if kind == Kind::Line { Said::Line(line) } else { Said::Reason(line) };
                Ok(Some(Ok(line)))
            }
            Kind::Done => Ok(Some(Err(End::Done))),
            Kind::Refused => Ok(Some(Err(End::Refused))),
            Kind::Hello | Kind::Command | Kind::Greeting | Kind::Unusable => {
                bail!("the machine answers with a frame that is no part of an answer")
            }
        }
    }
}

fn why(frame: &Frame) -> Option<Why> {
    let code = frame.payload.first().filter(|_| frame.kind == Kind::Unusable)?;
    Why::of(*code)
}
