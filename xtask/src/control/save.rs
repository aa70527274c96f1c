//! A guest's memory in a file, from the lines of a dump.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bulkhead_control::dump::{Piece, Pieces, Sum};
use indicatif::ProgressBar;

use crate::progress;
use crate::workspace::shown;

/// A dump that is being written: a file with holes, in which a byte's place is its guest-physical address.
pub struct Save {
    path: PathBuf,
    /// What has come, until it is whole: who breaks off leaves nothing by the name of a dump.
    part: PathBuf,
    file: File,
    pieces: Pieces,
    /// The last line, once it has come.
    sum: Option<Sum>,
    progress: ProgressBar,
}

impl Save {
    /// Begins a file, which must not be there yet: what was saved before is not overwritten.
    ///
    /// # Errors
    /// If it is there, or cannot be made.
    pub fn new(path: &Path) -> Result<Self> {
        if path.exists() {
            bail!("creating {}, which must not be there yet: it is there", shown(path));
        }
        let mut part = path.as_os_str().to_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&part);
        let file = made.with_context(|| format!("creating {}", shown(&part)))?;
        let progress = progress::count("Saving the guest's memory, KiB that are not all zero");
        let pieces = Pieces::default();
        Ok(Self { path: path.into(), part, file, pieces, sum: None, progress })
    }

    /// Takes a line of the machine's.
    ///
    /// # Errors
    /// If it is no line of a dump, or its sum is not that of the pieces that have come, or the file cannot be written.
    pub fn line(&mut self, line: &str) -> Result<()> {
        if let Some(end) = Sum::end_in(line) {
            let sum = self.pieces.sum(end);
            if sum.to_string() != line {
                bail!("the machine says \"{line}\", but what has come is \"{sum}\"");
            }
            self.file.set_len(end).with_context(|| format!("writing {}", shown(&self.path)))?;
            self.sum = Some(sum);
            return Ok(());
        }
        let Ok(piece) = line.parse::<Piece>() else {
            bail!("\"{line}\" is no line of a dump; --save is for the command `dump NAME`");
        };
        self.pieces.add(&piece);
        self.progress.set_position(self.pieces.count() / 2);
        let written = self
            .file
            .seek(SeekFrom::Start(piece.at))
            .and_then(|_| self.file.write_all(&piece.bytes));
        written.with_context(|| format!("writing {}", shown(&self.path)))
    }

    /// It is whole: what the machine says of it. Otherwise the file is removed.
    ///
    /// # Errors
    /// If the last line has not come.
    pub fn finish(self) -> Result<Sum> {
        self.progress.finish_and_clear();
        match self.sum {
            Some(sum) => {
                let writing = || format!("writing {}", shown(&self.path));
                self.file.sync_all().with_context(writing)?;
                std::fs::rename(&self.part, &self.path).with_context(writing)?;
                Ok(sum)
            }
            None => {
                self.discard();
                bail!("the dump is not whole, and was not kept");
            }
        }
    }

    /// Gives it up, and removes the file.
    pub fn discard(self) {
        self.progress.finish_and_clear();
        // There is nothing more to be done about it.
        let _ = std::fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_control::dump::PIECE;

    #[test]
    fn pieces_come_to_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let mut save = Save::new(&path).unwrap();
        let piece = Piece { at: 0x1000, bytes: [7; PIECE] };
        let mut pieces = Pieces::default();
        pieces.add(&piece);
        let sum = pieces.sum(0x40_0000);
        save.line(&piece.to_string()).unwrap();
        save.line(&sum.to_string()).unwrap();
        assert_eq!(save.finish().unwrap(), sum);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 0x40_0000);
        assert_eq!(bytes.iter().filter(|&&byte| byte == 7).count(), PIECE);
        assert_eq!((bytes[0xFFF], bytes[0x1000], bytes[0x1200]), (0, 7, 0));
        assert!(!folder.path().join("dump.part").exists());
        // What is there stays.
        let error = Save::new(&path).err().unwrap().to_string();
        assert!(error.contains("must not be there yet"), "{error}");
    }

    #[test]
    fn what_was_altered_or_cut_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let mut save = Save::new(&path).unwrap();
        let sum = Pieces::default().sum(0x40_0000).to_string();
        save.line(&Piece { at: 0, bytes: [7; PIECE] }.to_string()).unwrap();
        let error = save.line(&sum).unwrap_err().to_string();
        assert!(error.contains("but what has come is \"dumped: 1 pieces"), "{error}");
        assert!(save.line("guest web is paused").is_err());
        assert!(save.finish().unwrap_err().to_string().contains("not whole"));
        assert!(!path.exists());
    }
}
