//! From a manifest to the bytes of a bundle.

use crate::error::{ManifestError, Problem};
use crate::kernel_file::recognise;
use crate::manifest::{Guest, Input, Manifest, Source};
use bulkhead_manifest::{self as format, BlobIndex, KernelKind, Options, Writer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// Reads what the manifest names, checks it, and encodes the bundle. Content that guests have in common is stored once.
///
/// `resolve` is asked for the file of each [`Source`] that is not a [`Source::File`], once for each: it fetches or makes
/// what is wanted. The same manifest and files give the same bytes.
///
/// # Errors
/// Everything that is wrong with the files, each with the place in the manifest that names it.
pub fn pack(
    manifest: &Manifest,
    options: Options,
    resolve: impl FnMut(&Source) -> anyhow::Result<PathBuf>,
) -> Result<Vec<u8>, ManifestError> {
    let mut packer = Packer { writer: writer(manifest, options), resolve, loaded: BTreeMap::new() };
    let mut problems = Vec::new();
    for guest in manifest.guests() {
        let kernel = packer.kernel(guest).map_err(|problem| problems.push(problem)).ok();
        let initrd = match &guest.initrd {
            None => Some(None),
            Some(input) => packer
                .load(input)
                .map(|loaded| Some(loaded.index))
                .map_err(|message| problems.push(problem(guest, "initrd", input, &message)))
                .ok(),
        };
        if let (Some((kernel, kind)), Some(initrd)) = (kernel, initrd) {
            packer.writer.add_guest(packed(guest, kind, kernel, initrd));
        }
    }
    if !problems.is_empty() {
        return Err(ManifestError::new(manifest.path(), problems));
    }
    packer.writer.finish().map_err(|error| ManifestError::whole(manifest.path(), error.to_string()))
}

/// A writer that has all of a manifest but its guests.
pub fn writer(manifest: &Manifest, options: Options) -> Writer {
    let mut writer = Writer::new(options);
    if let Some(policy) = manifest.policy() {
        writer.set_policy(policy.clone());
    }
    for quota in manifest.quotas() {
        writer.add_quota(quota.clone());
    }
    for operator in manifest.operators() {
        writer.add_operator(operator.clone());
    }
    writer
}

/// A guest of a manifest as a bundle has it, with files that the bundle has.
pub fn packed(
    guest: &Guest,
    kind: KernelKind,
    kernel: BlobIndex,
    initrd: Option<BlobIndex>,
) -> format::Guest {
    format::Guest {
        name: guest.name.clone(),
        cores: guest.cores.clone(),
        memory: guest.memory,
        kind,
        kernel,
        initrd,
        command_line: guest.command_line.clone(),
        tenure: guest.tenure.clone(),
        restart: guest.restart,
        start: guest.start,
        suspicion: guest.suspicion,
    }
}

fn problem(guest: &Guest, key: &str, input: &Input, message: &str) -> Problem {
    let message = format!("guest \"{}\": {key} = {}: {message}", guest.name, input.written);
    Problem { place: Some(input.place), message }
}

struct Packer<F> {
    writer: Writer,
    resolve: F,
    loaded: BTreeMap<Source, Loaded>,
}

/// A file that is in the bundle.
#[derive(Clone)]
struct Loaded {
    index: BlobIndex,
    path: PathBuf,
    // Of a file that is used as an initramfs nobody asks.
    kinds: Result<Vec<KernelKind>, String>,
}

impl<F: FnMut(&Source) -> anyhow::Result<PathBuf>> Packer<F> {
    /// Puts a guest's kernel into the bundle, if it is one.
    fn kernel(&mut self, guest: &Guest) -> Result<(BlobIndex, KernelKind), Problem> {
        let input = &guest.kernel;
        let (loaded, kinds) = self
            .load(input)
            .and_then(|loaded| loaded.kinds.clone().map(|kinds| (loaded, kinds)))
            .map_err(|message| problem(guest, "kernel", input, &message))?;
        let [default, ..] = kinds[..] else { unreachable!("a kernel is of at least one kind") };
        let kind = guest.kind.unwrap_or(default);
        if !kinds.contains(&kind) {
            let path = loaded.path.display();
            let names: Vec<_> = kinds.iter().map(ToString::to_string).collect();
            let is = names.join(" or ");
            let message = format!(
                "{path} is of kind {is}, but kind = \"{kind}\"; write kind = \"{default}\" or leave it out"
            );
            return Err(problem(guest, "kernel", input, &message));
        }
        Ok((loaded.index, kind))
    }

    /// Puts a file into the bundle, unless it is there already.
    fn load(&mut self, input: &Input) -> Result<Loaded, String> {
        match self.loaded.entry(input.source.clone()) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => {
                let path = match &input.source {
                    Source::File(path) => path.clone(),
                    source => (self.resolve)(source).map_err(|error| format!("{error:#}"))?,
                };
                let content = read(&path)?;
                let kinds =
                    recognise(&content).map_err(|why| format!("{} is {why}", path.display()));
                let index = self.writer.add_blob(input.source.name(), content);
                Ok(entry.insert(Loaded { index, path, kinds }).clone())
            }
        }
    }
}

/// The content of a regular file that is not empty.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("there is no file {shown}; a relative path starts at the manifest's folder")
        }
        _ => format!("{shown} cannot be read: {error}"),
    };
    // A device or a pipe might never end.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let content = std::fs::read(path).map_err(cannot)?;
    if content.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(content)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
