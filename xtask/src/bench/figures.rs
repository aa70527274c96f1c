//! What was measured, and the file that it is kept in.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Under what something was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No hypervisor.
    Bare,
    /// Bulkhead.
    Bulkhead,
    /// Linux's KVM, with the VMM in `bench/`.
    Kvm,
}

/// All figures of one run, and what they are of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The day, UTC, as year-month-day.
    pub date: String,
    /// What was measured with, by name: versions.
    pub versions: BTreeMap<String, String>,
    /// By the case's name.
    pub cases: BTreeMap<String, BTreeMap<Kind, f64>>,
}

impl Figures {
    /// A figure.
    pub fn get(&self, case: &str, kind: Kind) -> Option<f64> {
        self.cases.get(case)?.get(&kind).copied()
    }

    /// Notes a figure.
    pub fn set(&mut self, case: &str, kind: Kind, figure: f64) {
        self.cases.entry(case.to_string()).or_default().insert(kind, figure);
    }

    /// Notes several.
    pub fn extend(&mut self, kind: Kind, figures: impl IntoIterator<Item = (String, f64)>) {
        for (case, figure) in figures {
            self.set(&case, kind, figure);
        }
    }

    /// The text of the file.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("writing figures as JSON")? + "\n")
    }

    /// Reads the text of the file.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("not the figures of `cargo xtask bench`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut figures = Figures { date: "2026-11-26".into(), ..Figures::default() };
        figures.set("cpuid", Kind::Bulkhead, 154.5);
        figures.extend(Kind::Kvm, [("cpuid".to_string(), 982.0)]);
        let text = figures.to_json().unwrap();
        assert!(text.contains("\"bulkhead\": 154.5"), "{text}");
        assert_eq!(Figures::from_json(&text).unwrap(), figures);
        assert_eq!(figures.get("cpuid", Kind::Bare), None);
        assert!(Figures::from_json("[]").is_err());
    }
}
