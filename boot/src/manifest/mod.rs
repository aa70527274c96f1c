//! A manifest: what its text says, checked.

mod guest;
mod operator;
mod policy;
mod table;
#[cfg(test)]
mod tests;

use crate::error::{ManifestError, Place, Problem};
use bulkhead_manifest::{
    Cores, DoesNotFit, KernelKind, Operator, Policy, Quota, Requirements, Restart, Start, Subject,
    Suspicion, Tenure, limits,
};
use bulkhead_operators::MAX_OPERATORS;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use table::Reader;
use toml::de::{DeTable, DeValue};

/// A checked manifest. What it says about files is not: [`pack`](crate::pack()) looks at them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    path: PathBuf,
    operators: Vec<Operator>,
    policy: Option<Policy>,
    quotas: Vec<Quota>,
    guests: Vec<Guest>,
}

/// One `[[guest]]`, every value within its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Unique in the manifest; see [`limits::is_name`].
    pub name: String,
    /// Whole processor cores; see [`limits::is_cores`].
    pub cores: Cores,
    /// Bytes of RAM; see [`limits::is_memory`].
    pub memory: u64,
    /// Where the kernel comes from.
    pub kernel: Input,
    /// What kind of kernel it has to be; without it, what the file turns out to be.
    pub kind: Option<KernelKind>,
    /// Where the initramfs comes from, if there is one.
    pub initrd: Option<Input>,
    /// See [`limits::is_command_line`]; may be empty.
    pub command_line: String,
    /// Whose it is, what for, and until when.
    pub tenure: Tenure,
    /// When the guest is started again.
    pub restart: Restart,
    /// When it is started first.
    pub start: Start,
    /// What puts it into quarantine by itself.
    pub suspicion: Suspicion,
}

/// A kernel or initramfs as the manifest asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it is.
    pub source: Source,
    /// The value as it is written in the manifest, for messages.
    pub(crate) written: String,
    pub(crate) place: Place,
}

/// Where the bytes of a kernel or initramfs come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// A file; relative paths have been joined to the manifest's folder.
    File(PathBuf),
    /// The kernel in a Debian package, to be fetched with `apt-get download`.
    Debian {
        /// The package, for instance `linux-image-cloud-amd64`. A well-formed name: no option, no path.
        package: String,
        /// Which of the package's files it is, a path without a first `/`; without it, the only kernel in `boot/`.
        file: Option<String>,
    },
    /// An initramfs with busybox, to be made.
    Busybox {
        /// The script that becomes `/init`, joined to the manifest's folder.
        script: PathBuf,
        /// The kernel's modules that are in it as `/lib/modules/NAME.ko`.
        modules: Option<Modules>,
    },
}

/// Modules out of the Debian package that the guest's kernel is from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Modules {
    /// The package, as the kernel names it.
    pub package: String,
    /// The modules' names, without `.ko`; at least one.
    pub names: Vec<String>,
}

impl Source {
    /// What it is called in the bundle and in the plan, known before anything is fetched: the file's name, or else the package's,
    /// or `busybox initramfs`; without what would drive a terminal, and not too long.
    pub fn name(&self) -> String {
        let name = match self {
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy(),
            Self::Debian { package, file: None } => package.as_str().into(),
            Self::Debian { file: Some(file), .. } => {
                Path::new(file).file_name().unwrap_or_default().to_string_lossy()
            }
            Self::Busybox { .. } => "busybox initramfs".into(),
        };
        let mut clean: String =
            name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        while clean.len() > limits::MAX_BLOB_NAME {
            clean.pop();
        }
        clean
    }
}

impl Guest {
    /// What policy and quotas ask of it.
    fn subject(&self) -> Subject<'_> {
        Subject {
            name: &self.name,
            owner: &self.tenure.owner,
            classification: &self.tenure.classification,
            cores: self.cores.count(),
            memory: self.memory,
        }
    }
}

/// The tables of a manifest.
const TABLES: [&str; 4] = ["guest", "operator", "policy", "quota"];

impl Manifest {
    /// Reads and checks the manifest in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or [`parse`](Self::parse) finds something wrong.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let bytes = std::fs::read(path).map_err(|error| {
            ManifestError::whole(path, format!("the manifest cannot be read: {error}"))
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ManifestError::whole(
                path,
                format!("not a text file: byte {at} is not UTF-8; a manifest is TOML"),
            )
        })?;
        Self::parse(&text, path)
    }

    /// Checks a manifest's text: syntax, keys, types, ranges, unique names. `path` is used in messages, and its folder is
    /// where relative paths start; nothing is read.
    ///
    /// # Errors
    /// Everything that is wrong, or the first error of syntax.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let document = DeTable::parse(text).map_err(|error| {
            let place = error.span().map(|span| Place::of(text, span.start));
            let message = format!("not valid TOML: {}", error.message().replace('\n', "; "));
            ManifestError::new(path, vec![Problem { place, message }])
        })?;
        let reader = Reader::new(text, path.parent().unwrap_or(Path::new("")));
        let policy = policy::policy(&reader, document.get_ref());
        let quotas = policy::quotas(&reader, document.get_ref());
        let operators = operators(&reader, document.get_ref());
        let guests = guests(&reader, document.get_ref(), policy.as_ref(), &quotas);
        let problems = reader.into_problems();
        match guests {
            Some(guests) if problems.is_empty() => {
                let quotas = quotas.into_iter().map(|(quota, _)| quota).collect();
                Ok(Self { path: path.to_owned(), operators, policy, quotas, guests })
            }
            _ => Err(ManifestError::new(path, problems)),
        }
    }

    /// The manifest's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who may sign in, in the order of the file.
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// Which guests may be together; without it all may.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// How much owners may have.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// The guests, in the order of the file, which is the order in which they start.
    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// What the guests ask of a machine.
    pub fn requirements(&self) -> Requirements {
        let mut all = Requirements::default();
        for guest in &self.guests {
            all.add(&guest.name, guest.cores.count(), guest.memory);
        }
        all
    }

    /// Whether a machine of `cores` cores, the service core among them, and `guest_memory` bytes for guests is large enough.
    /// The hypervisor asks the same of the machine that is really there.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn check_machine(&self, cores: u32, guest_memory: u64) -> Result<(), DoesNotFit> {
        self.requirements().fit(cores, guest_memory)
    }
}

/// The operators that could be read.
fn operators(reader: &Reader<'_>, document: &DeTable<'_>) -> Vec<Operator> {
    let Some(value) = document.get("operator") else { return Vec::new() };
    let DeValue::Array(entries) = value.get_ref() else {
        reader.report(
            value.span().start,
            "write [[operator]] in double brackets, one for each operator",
        );
        return Vec::new();
    };
    if entries.len() > MAX_OPERATORS {
        let count = entries.len();
        reader.report(
            value.span().start,
            format!("{count} operators, at most {MAX_OPERATORS} are allowed"),
        );
    }
    let mut operators = Vec::new();
    let mut lines = BTreeMap::new();
    for (position, entry) in (1..).zip(entries) {
        let DeValue::Table(table) = entry.get_ref() else {
            reader.report(
                entry.span().start,
                "an operator is a table; write [[operator]] and its keys below",
            );
            continue;
        };
        let found = operator::read(reader, position, entry.span().start, table);
        if let Some((name, offset)) = found.name {
            let line = reader.place(offset).line;
            if let Some(first) = lines.insert(name.clone(), line) {
                reader.report(
                    offset,
                    format!("operator \"{name}\": the operator in line {first} has this name too; names are unique"),
                );
            }
        }
        operators.extend(found.operator);
    }
    operators
}

/// The guests, or `None` when one or more could not be read, which the reader then knows about.
fn guests(
    reader: &Reader<'_>,
    document: &DeTable<'_>,
    policy: Option<&Policy>,
    quotas: &[(Quota, usize)],
) -> Option<Vec<Guest>> {
    for (key, value) in document {
        if !TABLES.contains(&key.get_ref().as_ref()) {
            let hint = table::did_you_mean(
                key.get_ref(),
                &TABLES,
                &[
                    ("guests", "guest"),
                    ("vm", "guest"),
                    ("operators", "operator"),
                    ("user", "operator"),
                    ("quotas", "quota"),
                    ("policies", "policy"),
                ],
            );
            let what = if value.get_ref().is_table() { "table" } else { "key" };
            reader.report(
                key.span().start,
                format!(
                    "unknown {what} \"{}\"{hint}; the tables of a manifest are [[guest]], [[operator]], [policy] and [[quota]]",
                    key.get_ref().escape_debug()
                ),
            );
        }
    }
    let Some(value) = document.get("guest") else {
        reader.report_whole("no guest; a manifest needs at least one [[guest]]");
        return None;
    };
    let DeValue::Array(entries) = value.get_ref() else {
        reader.report(value.span().start, "write [[guest]] in double brackets, one for each guest");
        return None;
    };
    if entries.is_empty() {
        reader.report(value.span().start, "no guest; a manifest needs at least one [[guest]]");
    }
    if entries.len() > limits::MAX_GUESTS {
        let (count, max) = (entries.len(), limits::MAX_GUESTS);
        reader.report(value.span().start, format!("{count} guests, at most {max} are allowed"));
    }

    let (mut guests, mut classes_at) = (Vec::new(), Vec::new());
    let mut lines = BTreeMap::new();
    let mut owners: BTreeMap<u32, (String, usize)> = BTreeMap::new();
    for (position, entry) in (1..).zip(entries) {
        let DeValue::Table(table) = entry.get_ref() else {
            reader.report(
                entry.span().start,
                "a guest is a table; write [[guest]] and its keys below",
            );
            continue;
        };
        let found = guest::read(reader, position, entry.span().start, table);
        if let Some((name, offset)) = found.name {
            let line = reader.place(offset).line;
            if let Some(first) = lines.insert(name.clone(), line) {
                reader.report(
                    offset,
                    format!("guest \"{name}\": the guest in line {first} has this name too; names are unique"),
                );
            }
        }
        if let Some((cores, offset)) = found.cores {
            let (label, line) = (&found.label, reader.place(offset).line);
            for &core in cores.numbers() {
                if let Some((other, first)) = owners.insert(core, (label.clone(), line)) {
                    reader.report(
                        offset,
                        format!("{label}: cores = {cores}: core {core} is named by {other} in line {first} too; a core belongs to one guest"),
                    );
                }
            }
        }
        if let Some(guest) = found.guest {
            guests.push(guest);
            classes_at.push(found.class_at);
        }
    }
    policy::check(reader, policy, quotas, &guests, &classes_at);
    Some(guests)
}
