//! What is wrong with a manifest, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a manifest's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// The place of the byte at `offset` in `text`; the text's end for an offset behind it.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; a problem of the file as a whole has no place.
    pub place: Option<Place>,
    /// What, in one line: guest, key, value, and what would be right.
    pub message: String,
}

/// Everything that was found wrong with a manifest, in the order of its lines. Displays as a line for each problem, in the
/// form `FILE:LINE:COLUMN: MESSAGE` that editors understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    path: PathBuf,
    problems: Vec<Problem>,
}

impl ManifestError {
    pub(crate) fn new(path: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        Self { path: path.to_owned(), problems }
    }

    /// For a problem that no line of the manifest can be blamed for.
    pub(crate) fn whole(path: &Path, message: impl Into<String>) -> Self {
        Self::new(path, vec![Problem { place: None, message: message.into() }])
    }

    /// The manifest's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong: at least one problem.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (i, Problem { place, message }) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match place {
                Some(Place { line, column }) => write!(f, "{path}:{line}:{column}: {message}")?,
                None => write!(f, "{path}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "ab\nä=1\n";
        for (offset, line, column) in
            [(0, 1, 1), (1, 1, 2), (3, 2, 1), (5, 2, 2), (8, 3, 1), (99, 3, 1)]
        {
            assert_eq!(Place::of(text, offset), Place { line, column }, "{offset}");
        }
    }
}
