//! One `[[guest]]`: its keys, and what each may be.

use super::table::{Reader, Section, Setting};
use super::{Guest, Input, Source, size};
use bulkhead_manifest::{KernelKind, Restart, limits};
use toml::de::DeTable;

/// The keys of a `[[guest]]`, in the order in which the reference lists them.
pub const KEYS: [&str; 9] =
    ["name", "cores", "memory", "kernel", "kind", "initrd", "cmdline", "owner", "restart"];

/// What people who know other tools write, and the key it stands for.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("append", "cmdline"),
    ("cmd", "cmdline"),
    ("command-line", "cmdline"),
    ("command_line", "cmdline"),
    ("cpus", "cores"),
    ("vcpus", "cores"),
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
const INITRD_MUST: &str = "a path such as \"initrd.img\", or { busybox = \"SCRIPT\" } for an initramfs with busybox that runs a script";

/// Where a name stands in the text, kept apart from the guest so that two of one name are found even if one of them has
/// other faults.
pub type NameAt = Option<(String, usize)>;

/// Reads the guest at `position`, counted from 1, whose table starts at the byte `at`. What is wrong is reported.
pub fn read(
    reader: &Reader<'_>,
    position: usize,
    at: usize,
    table: &DeTable<'_>,
) -> (NameAt, Option<Guest>) {
    let label = match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) if limits::is_name(name) => format!("guest \"{name}\""),
        _ => format!("guest {position}"),
    };
    let section = Section { reader, table, label };
    section.refuse_unknown(&KEYS, OTHER_NAMES);

    let name_setting = section.require("name", at, "\"linux\"");
    let name =
        name_setting.as_ref().and_then(|setting| setting.string_that(limits::is_name, NAME_MUST));
    let cores = section.require("cores", at, "1").and_then(|setting| cores(&setting));
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
    let initrd = optional(&section, "initrd", |setting| initrd(reader, setting));
    let command_line = optional(&section, "cmdline", |setting| {
        let must = format!("a string of {}", limits::COMMAND_LINE_RULE);
        setting.string_that(limits::is_command_line, &must)
    });
    let owner = optional(&section, "owner", |setting| {
        setting.string_that(limits::is_owner, &format!("a string of {}", limits::OWNER_RULE))
    });
    let restart = optional(&section, "restart", |setting| {
        setting.one_of(&[("never", Restart::Never), ("on-reset", Restart::OnReset)])
    });

    let name_at = name.clone().zip(name_setting.map(|setting| setting.span.start));
    let guest = || {
        Some(Guest {
            name: name?,
            cores: cores?,
            memory: memory?,
            kernel: kernel?,
            kind: kind?,
            initrd: initrd?,
            command_line: command_line?.unwrap_or_default(),
            owner: owner?,
            restart: restart?.unwrap_or_default(),
        })
    };
    (name_at, guest())
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

fn cores(setting: &Setting<'_, '_, '_>) -> Option<u32> {
    let cores = setting
        .value
        .as_integer()
        .and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok())
        .filter(|&cores| limits::is_cores(cores));
    if cores.is_none() {
        setting
            .report(format_args!("a whole number of cores, {}, for example 1", limits::CORES_RULE));
    }
    cores
}

fn memory(setting: &Setting<'_, '_, '_>) -> Option<u64> {
    size::parse(setting.string(size::RULE)?).map_err(|must| setting.report(must)).ok()
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

fn initrd(reader: &Reader<'_>, setting: &Setting<'_, '_, '_>) -> Option<Input> {
    if let Some((script, _)) = setting.table_of("busybox", None) {
        if !is_path(script) {
            setting.report(INITRD_MUST);
            return None;
        }
        return Some(input(reader, setting, Source::Busybox { script: reader.path(script) }));
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

/// Debian Policy 5.6.1. The name ends up on a command line, so it must not look like an option or a path.
fn is_package(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
}
