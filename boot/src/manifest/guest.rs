//! One `[[guest]]`: its keys, and what each may be.

use super::table::{Reader, Section, Setting};
use super::{Guest, Input, Modules, Source};
use bulkhead_manifest::{
    Cores, KernelKind, MEMORY_EXAMPLES, OnExpiry, Restart, Start, Suspicion, Tenure, limits,
    parse_memory,
};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The keys of a `[[guest]]`, in the order in which the reference lists them.
pub const KEYS: [&str; 15] = [
    "name",
    "cores",
    "memory",
    "kernel",
    "kind",
    "initrd",
    "cmdline",
    "owner",
    "purpose",
    "classification",
    "expires",
    "on_expiry",
    "restart",
    "start",
    "quarantine",
];

/// What people who know other tools write, and the key it stands for.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("append", "cmdline"),
    ("autostart", "start"),
    ("class", "classification"),
    ("cmd", "cmdline"),
    ("command-line", "cmdline"),
    ("command_line", "cmdline"),
    ("cpus", "cores"),
    ("vcpus", "cores"),
    ("description", "purpose"),
    ("expiry", "expires"),
    ("image", "kernel"),
    ("initramfs", "initrd"),
    ("mem", "memory"),
    ("ram", "memory"),
    ("type", "kind"),
];

const NAME_MUST: &str =
    "1 to 31 characters from a-z, 0-9 and '-', the first not '-', for example \"linux\"";
const KERNEL_MUST: &str =
    "a path such as \"vmlinuz\", or { debian = \"PACKAGE\" } for the kernel of a Debian package";
const PACKAGE_MUST: &str = "the name of a Debian package: a-z, 0-9, '+', '-' and '.', \
                            for example { debian = \"linux-image-cloud-amd64\" }";
const PACKAGE_FILE_MUST: &str = "a path within the package, for example \
                                 { debian = \"memtest86+\", file = \"boot/memtest86+x64.bin\" }";
const INITRD_MUST: &str = "a path such as \"initrd.img\", or { busybox = \"SCRIPT\" } for an initramfs with busybox that runs a script, \
                           with modules = [\"NAME\", …] for modules of the kernel's";
const MODULES_MUST: &str = "a list of names of modules, each 1 to 63 characters from a-z, 0-9, '_' and '-', without .ko, \
                            for example [\"button\", \"evdev\"]";
const QUARANTINE_MUST: &str = "{ denied = N } for more than N denied accesses in a second, N from 1 on, { fault = true } for a fault, or both in one table";
const MODULES_NEED: &str =
    "without modules, or beside kernel = { debian = \"PACKAGE\" }, whose package has them";

/// What was read of a `[[guest]]`. Name and cores are kept apart from the guest so that two guests with the same are
/// found even if one of them has other faults.
pub struct Found {
    /// How messages call the guest: `guest "web"`, or `guest 2` where there is no name.
    pub label: String,
    /// The name, and the byte in the text where it stands.
    pub name: Option<(String, usize)>,
    /// The cores, and the byte in the text where they stand.
    pub cores: Option<(Cores, usize)>,
    /// The byte where the classification stands, or the guest.
    pub class_at: usize,
    /// The guest, if nothing is wrong with it.
    pub guest: Option<Guest>,
}

/// Reads the guest at `position`, counted from 1, whose table starts at the byte `at`. What is wrong is reported.
pub fn read(reader: &Reader<'_>, position: usize, at: usize, table: &DeTable<'_>) -> Found {
    let label = match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) if limits::is_name(name) => format!("guest \"{name}\""),
        _ => format!("guest {position}"),
    };
    let section = Section { reader, table, label };
    section.refuse_unknown(&KEYS, OTHER_NAMES);

    let name_setting = section.require("name", at, "\"linux\"");
    let name =
        name_setting.as_ref().and_then(|setting| setting.string_that(limits::is_name, NAME_MUST));
    let cores_setting = section.require("cores", at, "1");
    let cores = cores_setting.as_ref().and_then(cores);
    let memory = section.require("memory", at, "\"128 MiB\"").and_then(|setting| memory(&setting));
    let kernel = section
        .require("kernel", at, "{ debian = \"linux-image-cloud-amd64\" }")
        .and_then(|setting| kernel(reader, &setting));
    let kind = optional(&section, "kind", |setting| {
        setting.one_of(&[
            ("bzimage", KernelKind::BzImage),
            ("elf64", KernelKind::Elf64),
            ("pvh", KernelKind::Pvh),
            ("multiboot", KernelKind::Multiboot),
        ])
    });
    let initrd = optional(&section, "initrd", |setting| initrd(reader, setting, kernel.as_ref()));
    let command_line = optional(&section, "cmdline", |setting| {
        let must = format!("a string of {}", limits::COMMAND_LINE_RULE);
        setting.string_that(limits::is_command_line, &must)
    });
    let tenure = tenure(&section, at);
    let class_at = section.get("classification").map_or(at, |setting| setting.span.start);
    let restart = optional(&section, "restart", |setting| {
        setting.one_of(&[
            ("never", Restart::Never),
            ("on-reset", Restart::OnReset),
            ("on-fault", Restart::OnFault),
            ("always", Restart::Always),
        ])
    });
    let start = optional(&section, "start", |setting| {
        setting.one_of(&[("at-boot", Start::AtBoot), ("by-hand", Start::ByHand)])
    });

    let suspicion = optional(&section, "quarantine", suspicion);

    let at_of = |setting: Option<Setting<'_, '_, '_>>| setting.map(|setting| setting.span.start);
    let name_at = name.clone().zip(at_of(name_setting));
    let cores_at = cores.clone().zip(at_of(cores_setting));
    let guest = || {
        Some(Guest {
            name: name?,
            cores: cores?,
            memory: memory?,
            kernel: kernel?,
            kind: kind?,
            initrd: initrd?,
            command_line: command_line?.unwrap_or_default(),
            tenure: tenure?,
            restart: restart?.unwrap_or_default(),
            start: start?.unwrap_or_default(),
            suspicion: suspicion?.unwrap_or_default(),
        })
    };
    let guest = guest();
    Found { label: section.label, name: name_at, cores: cores_at, class_at, guest }
}

/// Whose it is, what for, and until when.
fn tenure(section: &Section<'_, '_, '_>, at: usize) -> Option<Tenure> {
    let text = |key, example, keeps: fn(&str) -> bool, rule: &str| {
        let setting = section.require(key, at, example)?;
        setting.string_that(keeps, &format!("a string of {rule}, for example {example}"))
    };
    let owner = text("owner", "\"Web team\"", limits::is_owner, limits::OWNER_RULE);
    let purpose =
        text("purpose", "\"The shop's database\"", limits::is_purpose, limits::PURPOSE_RULE);
    let classification =
        text("classification", "\"internal\"", limits::is_class, limits::CLASS_RULE);
    let expires = section.require("expires", at, "\"2027-12-31\"").and_then(|setting| {
        let expiry = setting.string(limits::EXPIRY_RULE)?.parse();
        if expiry.is_err() {
            setting.report(limits::EXPIRY_RULE);
        }
        expiry.ok()
    });
    let on_expiry = optional(section, "on_expiry", |setting| {
        setting.one_of(&[("report", OnExpiry::Report), ("stop", OnExpiry::Stop)])
    });
    Some(Tenure {
        owner: owner?,
        purpose: purpose?,
        classification: classification?,
        expires: expires?,
        on_expiry: on_expiry?.unwrap_or_default(),
    })
}

/// `Some(None)` where the key is absent, `None` where its value is wrong and was reported.
fn optional<'r, 'a, 'i, T>(
    section: &'r Section<'r, 'a, 'i>,
    key: &'r str,
    read: impl FnOnce(&Setting<'r, 'a, 'i>) -> Option<T>,
) -> Option<Option<T>> {
    match section.get(key) {
        None => Some(None),
        Some(setting) => read(&setting).map(Some),
    }
}

fn cores(setting: &Setting<'_, '_, '_>) -> Option<Cores> {
    let rule = limits::CORES_RULE;
    let Some(list) = setting.value.as_array() else {
        let cores = whole(setting.value).map(Cores::Count).filter(limits::is_cores);
        if cores.is_none() {
            setting.report(format_args!(
                "a whole number of cores, {rule}, for example 1, or a list of core numbers, for example [1, 2]"
            ));
        }
        return cores;
    };
    let Some(numbers) = list.iter().map(|number| whole(number.get_ref())).collect() else {
        setting.report(format_args!("a list of core numbers, each {rule}, for example [1, 2]"));
        return None;
    };
    let cores = Some(Cores::Numbers(numbers)).filter(limits::is_cores);
    if cores.is_none() {
        setting.report(format_args!(
            "a list of core numbers, each {rule} and there once, for example [1, 2]; core 0 is the hypervisor's own"
        ));
    }
    cores
}

/// A whole number that is not negative and not above 2^32 - 1.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u32> {
    let integer = value.as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn suspicion(setting: &Setting<'_, '_, '_>) -> Option<Suspicion> {
    let mut found = Suspicion::default();
    let read = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("denied", count) => {
                found.denied = Some(whole(count).filter(|&count| count > 0)?);
            }
            ("fault", DeValue::Boolean(fault)) => found.fault = *fault,
            _ => return None,
        }
        Some(())
    };
    let table = setting.value.as_table();
    let read: Option<()> = table.and_then(|table| table.iter().map(read).collect());
    if read.is_none() {
        setting.report(QUARANTINE_MUST);
        return None;
    }
    Some(found)
}

fn memory(setting: &Setting<'_, '_, '_>) -> Option<u64> {
    parse_memory(setting.string(MEMORY_EXAMPLES)?).map_err(|must| setting.report(must)).ok()
}

fn kernel(reader: &Reader<'_>, setting: &Setting<'_, '_, '_>) -> Option<Input> {
    if let Some((package, file)) = setting.table_of("debian", Some("file")) {
        if !is_package(package) {
            setting.report(PACKAGE_MUST);
            return None;
        }
        if !file.is_none_or(is_path_within) {
            setting.report(PACKAGE_FILE_MUST);
            return None;
        }
        let (package, file) = (package.to_owned(), file.map(str::to_owned));
        return Some(input(reader, setting, Source::Debian { package, file }));
    }
    let path = setting.string_that(is_path, KERNEL_MUST)?;
    Some(input(reader, setting, Source::File(reader.path(&path))))
}

/// The script, and the list of modules if there is one, of `{ busybox = …, modules = … }`.
fn busybox<'s>(setting: &'s Setting<'_, '_, '_>) -> Option<(&'s str, Option<&'s DeValue<'s>>)> {
    let table = setting.value.as_table()?;
    let script = table.get("busybox")?.get_ref().as_str()?;
    let modules = table.get("modules").map(Spanned::get_ref);
    (table.len() == 1 + usize::from(modules.is_some())).then_some((script, modules))
}

/// Modules that an initramfs is to have, out of the package of the kernel.
fn modules_of(
    setting: &Setting<'_, '_, '_>,
    names: &DeValue<'_>,
    kernel: Option<&Input>,
) -> Option<Modules> {
    let name = |name: &Spanned<DeValue<'_>>| {
        name.get_ref().as_str().filter(|name| is_module(name)).map(str::to_owned)
    };
    let names: Option<Vec<_>> = names.as_array().and_then(|names| names.iter().map(name).collect());
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        setting.report(format_args!("one whose modules are {MODULES_MUST}"));
        return None;
    };
    match kernel.map(|kernel| &kernel.source) {
        Some(Source::Debian { package, .. }) => Some(Modules { package: package.clone(), names }),
        Some(_) => {
            setting.report(MODULES_NEED);
            None
        }
        // What is wrong with the kernel has been said.
        None => None,
    }
}

fn initrd(
    reader: &Reader<'_>,
    setting: &Setting<'_, '_, '_>,
    kernel: Option<&Input>,
) -> Option<Input> {
    if let Some((script, modules)) = busybox(setting) {
        if !is_path(script) {
            setting.report(INITRD_MUST);
            return None;
        }
        let modules = match modules {
            None => None,
            Some(names) => Some(modules_of(setting, names, kernel)?),
        };
        let script = reader.path(script);
        return Some(input(reader, setting, Source::Busybox { script, modules }));
    }
    let path = setting.string_that(is_path, INITRD_MUST)?;
    Some(input(reader, setting, Source::File(reader.path(&path))))
}

fn input(reader: &Reader<'_>, setting: &Setting<'_, '_, '_>, source: Source) -> Input {
    Input { source, written: setting.written(), place: reader.place(setting.span.start) }
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.contains('\0')
}

/// Whether a path stays in the folder that it starts in.
fn is_path_within(path: &str) -> bool {
    is_path(path) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_module(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (1..=63).contains(&name.len()) && name.chars().all(allowed)
}

/// Debian Policy 5.6.1. The name ends up on a command line, so it must not look like an option or a path.
fn is_package(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}
