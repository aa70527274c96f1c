//! One `[[operator]]`: its keys, and what each may be.

use super::table::{Reader, Section};
use bulkhead_manifest::{Operator, Role};
use bulkhead_operators::{NAME_RULE, is_name, read as read_hash};
use toml::de::DeTable;

/// The keys of an `[[operator]]`.
pub const KEYS: [&str; 3] = ["name", "role", "password"];

/// What people may write instead.
const OTHER_NAMES: &[(&str, &str)] =
    &[("hash", "password"), ("passwd", "password"), ("rights", "role"), ("user", "name")];

/// What was read of an `[[operator]]`. The name is kept apart so that two with the same are found even if one has other faults.
pub struct Found {
    /// The name, and the byte in the text where it stands.
    pub name: Option<(String, usize)>,
    /// The operator, if nothing is wrong with it.
    pub operator: Option<Operator>,
}

/// Reads the operator at `position`, counted from 1, whose table starts at the byte `at`. What is wrong is reported.
pub fn read(reader: &Reader<'_>, position: usize, at: usize, table: &DeTable<'_>) -> Found {
    let label = match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) if is_name(name) => format!("operator \"{name}\""),
        _ => format!("operator {position}"),
    };
    let section = Section { reader, table, label };
    section.refuse_unknown(&KEYS, OTHER_NAMES);
    let name_must = format!("{NAME_RULE}, for example \"anna\"");
    let name_setting = section.require("name", at, "\"anna\"");
    let name = name_setting.as_ref().and_then(|setting| setting.string_that(is_name, &name_must));
    let role = section.require("role", at, "\"viewer\"").and_then(|setting| {
        let roles = Role::ALL.map(|role| (role.name(), role));
        setting.one_of(&roles)
    });
    let hash = section.require("password", at, "what `cargo xtask passwd NAME` prints");
    let hash = hash.and_then(|setting| {
        let made = "the hash that `cargo xtask passwd NAME` prints";
        let text = setting.string(made)?;
        match read_hash(text) {
            Ok(_) => Some(text.to_owned()),
            // What is written may be a password: it is not repeated.
            Err(bad) => {
                setting.report_unseen(format_args!("{made}: {bad}"));
                None
            }
        }
    });
    let name_at = name.clone().zip(name_setting.map(|setting| setting.span.start));
    let operator = || Some(Operator { name: name?, role: role?, hash: hash? });
    Found { operator: operator(), name: name_at }
}
