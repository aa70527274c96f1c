//! The corpus between its text and libFuzzer's folders of files, for `cargo xtask fuzz parsers`.

use anyhow::{Context, Result, bail};
use bulkhead_harness::corpus::{self, Case};
use bulkhead_harness::{Target, target};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Most bytes of a target's text.
const MOST: usize = 8 << 10;
/// Most characters of a new case's comment.
const LONGEST_COMMENT: usize = 100;
/// Most bytes of a new case's text.
const MOST_OF_CASE: usize = 1 << 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, name, path] = &arguments[..] else {
        bail!("unpack TARGET FOLDER, pack TARGET FOLDER, or replay TARGET FILE")
    };
    let target = target(name).with_context(|| format!("`{name}` is no target"))?;
    let path = Path::new(path);
    match what.as_str() {
        "unpack" => unpack(target, path),
        "pack" => pack(target, path),
        "replay" => replay(target, path),
        _ => bail!("`{what}` is not known"),
    }
}

/// Writes each case to a file of its own.
fn unpack(target: &Target, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (number, case) in corpus::read(target.name)?.iter().enumerate() {
        let path = folder.join(format!("kept-{number:03}"));
        fs::write(&path, &case.bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Takes what is new in a folder as long as there is room: first the shortest input for each outcome, then others.
fn pack(target: &Target, folder: &Path) -> Result<()> {
    let mut cases = corpus::read(target.name)?;
    let known: BTreeSet<_> = cases.iter().map(|case| case.bytes.clone()).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let bytes = fs::read(entry?.path()).context("reading an input")?;
        if !known.contains(&bytes) {
            let comment = (target.run)(&bytes).chars().take(LONGEST_COMMENT).collect();
            let case = Case { comment, bytes };
            found.push((corpus::format(std::slice::from_ref(&case)).len(), case));
        }
    }
    found.sort_by(|(length, case), (other, than)| (length, &case.bytes).cmp(&(other, &than.bytes)));
    // What comes of it shows which of our branches were taken, rather than a library's.
    let mut outcomes = BTreeSet::new();
    let (first, again): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, case)| outcomes.insert(case.comment.clone()));
    let (before, mut room) = (cases.len(), MOST.saturating_sub(corpus::format(&cases).len()));
    let all = first.len() + again.len();
    for (length, case) in first.into_iter().chain(again) {
        // And the blank line between two.
        if length <= MOST_OF_CASE && length < room {
            room -= length + 1;
            cases.push(case);
        }
    }
    corpus::write(target.name, &cases)?;
    let added = cases.len() - before;
    println!("{}: {added} of {all} new cases kept, beside {before}", target.name);
    Ok(())
}

/// Runs one input. A panic says what does not hold.
fn replay(target: &Target, file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    println!("{}", (target.run)(&bytes));
    Ok(())
}
