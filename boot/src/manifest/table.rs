//! Reading TOML tables by hand, so that each message can name the guest, the key, the value as written, and the place.

use crate::error::{Place, Problem};
use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Most characters of a value that a message repeats.
const MAX_SHOWN: usize = 60;

/// The manifest's text, and what was found wrong with it so far.
pub struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, folder: &'a Path) -> Self {
        Self { text, folder, problems: RefCell::default() }
    }

    pub fn place(&self, offset: usize) -> Place {
        Place::of(self.text, offset)
    }

    /// A path of the manifest, which starts at the manifest's folder.
    pub fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }

    /// What the manifest says between two offsets, in one line and not too long.
    pub fn written(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let mut shown: String = text.chars().take(MAX_SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn report(&self, offset: usize, message: impl Into<String>) {
        let place = Some(self.place(offset));
        self.problems.borrow_mut().push(Problem { place, message: message.into() });
    }

    pub fn report_whole(&self, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place: None, message: message.into() });
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A table that belongs to a guest, and how messages call that guest.
pub struct Section<'r, 'a, 'i> {
    pub reader: &'r Reader<'a>,
    pub table: &'r DeTable<'i>,
    /// `guest "web"`, or `guest 2` where there is no name.
    pub label: String,
}

/// A value, with what a message about it needs.
pub struct Setting<'r, 'a, 'i> {
    section: &'r Section<'r, 'a, 'i>,
    key: &'r str,
    pub value: &'r DeValue<'i>,
    pub span: Range<usize>,
}

impl<'r, 'a, 'i> Section<'r, 'a, 'i> {
    /// The value of a key, if the table has it.
    pub fn get(&'r self, key: &'r str) -> Option<Setting<'r, 'a, 'i>> {
        let value = self.table.get(key)?;
        Some(Setting { section: self, key, value: value.get_ref(), span: value.span() })
    }

    /// The value of a key, which is reported as missing, with a line that would do, if the table does not have it.
    pub fn require(
        &'r self,
        key: &'r str,
        at: usize,
        example: &str,
    ) -> Option<Setting<'r, 'a, 'i>> {
        let setting = self.get(key);
        if setting.is_none() {
            let label = &self.label;
            self.reader.report(
                at,
                format!("{label}: \"{key}\" is missing; write for example {key} = {example}"),
            );
        }
        setting
    }

    /// Reports every key that is not in `keys`. `others` are names from other tools and the keys they stand for.
    pub fn refuse_unknown(&self, keys: &[&str], others: &[(&str, &str)]) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if !keys.contains(&name) {
                let hint = did_you_mean(name, keys, others);
                let label = &self.label;
                let message = format!(
                    "{label}: unknown key \"{}\"{hint}; the keys are {}",
                    name.escape_debug(),
                    keys.join(", ")
                );
                self.reader.report(key.span().start, message);
            }
        }
    }
}

impl Setting<'_, '_, '_> {
    /// The value as the manifest writes it.
    pub fn written(&self) -> String {
        self.section.reader.written(self.span.clone())
    }

    /// Reports that the value must be something else.
    pub fn report(&self, must: impl std::fmt::Display) {
        let Self { section, key, span, .. } = self;
        let message = format!("{}: {key} = {}: must be {must}", section.label, self.written());
        section.reader.report(span.start, message);
    }

    /// The same where the value may be a secret.
    pub fn report_unseen(&self, must: impl std::fmt::Display) {
        let Self { section, key, span, .. } = self;
        section.reader.report(span.start, format!("{}: {key} must be {must}", section.label));
    }

    /// The value as a string; anything else is reported.
    pub fn string(&self, must: &str) -> Option<&str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.report(must);
        }
        text
    }

    /// The value as a string that keeps a rule; anything else is reported.
    pub fn string_that(&self, keeps: impl Fn(&str) -> bool, must: &str) -> Option<String> {
        let text = self.string(must)?;
        let kept = keeps(text).then(|| text.to_owned());
        if kept.is_none() {
            self.report(must);
        }
        kept
    }

    /// The value as one of a few words; anything else is reported.
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let chosen = self
            .value
            .as_str()
            .and_then(|text| choices.iter().find(|(name, _)| *name == text))
            .map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.report(names.join(" or "));
        }
        chosen
    }

    /// The string of `key` in an inline table that has no other key, and that of `option`, which may also be there.
    pub fn table_of(&self, key: &str, option: Option<&str>) -> Option<(&str, Option<&str>)> {
        let table = self.value.as_table()?;
        let value = table.get(key)?.get_ref().as_str()?;
        let more = match option.and_then(|option| table.get(option)) {
            Some(more) => Some(more.get_ref().as_str()?),
            None => None,
        };
        (table.len() == 1 + usize::from(more.is_some())).then_some((value, more))
    }
}

/// ` (did you mean "memory"?)` or nothing, for a word that is none of `known`.
pub fn did_you_mean(word: &str, known: &[&str], others: &[(&str, &str)]) -> String {
    let lower = word.to_lowercase();
    let meant =
        others.iter().find(|(other, _)| *other == lower).map(|(_, key)| *key).or_else(|| {
            let closest =
                known.iter().map(|key| (strsim::damerau_levenshtein(&lower, key), *key)).min()?;
            // Two slips of the finger, but not so many that the word is another one.
            (closest.0 <= 2 && closest.0 < closest.1.len().div_ceil(2)).then_some(closest.1)
        });
    meant.map_or_else(String::new, |key| format!(" (did you mean \"{key}\"?)"))
}
