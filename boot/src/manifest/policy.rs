//! `[policy]` and `[[quota]]`: which guests may be together, and how much owners may have.

use super::Guest;
use super::guest::whole;
use super::table::{Reader, Section, Setting};
use bulkhead_manifest::policy::{self, PolicyFault};
use bulkhead_manifest::{MEMORY_EXAMPLES, Policy, Quota, limits, parse_memory};
use toml::de::{DeTable, DeValue};

const POLICY_KEYS: [&str; 2] = ["classes", "together"];
const QUOTA_KEYS: [&str; 4] = ["owner", "cores", "memory", "guests"];

/// The policy, if there is one and nothing is wrong with it.
pub fn policy(reader: &Reader<'_>, document: &DeTable<'_>) -> Option<Policy> {
    let value = document.get("policy")?;
    let at = value.span().start;
    let DeValue::Table(table) = value.get_ref() else {
        reader.report(at, "write [policy] in single brackets; a manifest has one at the most");
        return None;
    };
    let section = Section { reader, table, label: "policy".into() };
    section.refuse_unknown(&POLICY_KEYS, &[("class", "classes"), ("sets", "together")]);
    let classes =
        section.require("classes", at, "[\"public\", \"internal\"]").and_then(|setting| {
            let rule = format!(
                "a list of at most {} classes, each {}",
                limits::MAX_CLASSES,
                limits::CLASS_RULE
            );
            let classes = texts(setting.value).filter(|classes| {
                classes.len() <= limits::MAX_CLASSES
                    && classes.iter().all(|class| limits::is_class(class))
            });
            if classes.is_none() {
                setting.report(rule);
            }
            classes
        });
    let mut policy = Policy { classes: classes?, together: Vec::new() };
    if let Some(setting) = section.get("together") {
        policy.together = together(&policy, &setting)?;
    }
    Some(policy)
}

fn together(policy: &Policy, setting: &Setting<'_, '_, '_>) -> Option<Vec<u32>> {
    let sets: Option<Vec<u32>> = setting.value.as_array().and_then(|sets| {
        let set = |set: &DeValue<'_>| policy.set_of(texts(set)?.iter().map(String::as_str));
        sets.iter().map(|each| set(each.get_ref())).collect()
    });
    let sets = sets.filter(|sets| sets.len() <= limits::MAX_CLASSES);
    if sets.is_none() {
        setting.report(format_args!(
            "a list of at most {} sets of classes, for example [[\"public\", \"internal\"]]; the classes are {}",
            limits::MAX_CLASSES,
            policy.classes.join(", ")
        ));
    }
    sets
}

/// A list of strings.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect()
}

/// The quotas that could be read, each with the byte where it stands.
pub fn quotas(reader: &Reader<'_>, document: &DeTable<'_>) -> Vec<(Quota, usize)> {
    let Some(value) = document.get("quota") else { return Vec::new() };
    let DeValue::Array(entries) = value.get_ref() else {
        reader.report(value.span().start, "write [[quota]] in double brackets, one for each owner");
        return Vec::new();
    };
    let read = |(position, entry): (usize, &toml::Spanned<DeValue<'_>>)| {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            reader.report(at, "a quota is a table; write [[quota]] and its keys below");
            return None;
        };
        quota(reader, position, at, table).map(|quota| (quota, at))
    };
    (1..).zip(entries.iter()).filter_map(read).collect()
}

fn quota(reader: &Reader<'_>, position: usize, at: usize, table: &DeTable<'_>) -> Option<Quota> {
    let section = Section { reader, table, label: format!("quota {position}") };
    section.refuse_unknown(&QUOTA_KEYS, &[("ram", "memory"), ("cpus", "cores")]);
    let owner = section.require("owner", at, "\"Web team\"").and_then(|setting| {
        setting.string_that(limits::is_owner, &format!("a string of {}", limits::OWNER_RULE))
    });
    let number = |key| match section.get(key) {
        None => Some(None),
        Some(setting) => {
            let number = whole(setting.value);
            if number.is_none() {
                setting.report("a whole number, for example 4");
            }
            number.map(Some)
        }
    };
    let (cores, guests) = (number("cores"), number("guests"));
    let memory = match section.get("memory") {
        None => Some(None),
        Some(setting) => setting
            .string(MEMORY_EXAMPLES)
            .and_then(|text| parse_memory(text).map_err(|must| setting.report(must)).ok())
            .map(Some),
    };
    Some(Quota { owner: owner?, cores: cores?, memory: memory?, guests: guests? })
}

/// Reports what policy and quotas have against the guests, where it stands. `classes_at` has the place of each guest's
/// classification.
pub fn check(
    reader: &Reader<'_>,
    policy: Option<&Policy>,
    quotas: &[(Quota, usize)],
    guests: &[Guest],
    classes_at: &[usize],
) {
    let all: Vec<_> = quotas.iter().map(|(quota, _)| quota.clone()).collect();
    let Err(fault) = policy::check(policy, &all, guests.iter().map(Guest::subject)) else { return };
    let of_guest = |name: &str| {
        let place = guests.iter().position(|guest| guest.name == name);
        place.and_then(|place| classes_at.get(place)).copied()
    };
    let of_quota = |owner: &str| {
        // Of two, the second is too much.
        quotas.iter().rev().find(|(quota, _)| quota.owner == owner).map(|(_, at)| *at)
    };
    let at = match &fault {
        PolicyFault::UnknownClass { guest, .. } | PolicyFault::Apart { other: guest, .. } => {
            of_guest(guest)
        }
        PolicyFault::Quota { owner, .. }
        | PolicyFault::DuplicateQuota(owner)
        | PolicyFault::EmptyQuota(owner) => of_quota(owner),
        _ => None,
    };
    match at {
        Some(at) => reader.report(at, fault.to_string()),
        None => reader.report_whole(fault.to_string()),
    }
}
