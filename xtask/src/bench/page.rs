//! The part of `docs/performance.md` that the command writes.

use anyhow::{Context, Result};

use super::figures::Figures;
use super::table;

const BEGIN: &str = "<!-- begin: written by `cargo xtask bench` -->\n";
const END: &str = "<!-- end -->\n";

/// The page with this table in place of its last.
pub fn with_table(page: &str, figures: &Figures) -> Result<String> {
    let (head, rest) = page.split_once(BEGIN).context("docs/performance.md has no begin mark")?;
    let (_, tail) = rest.split_once(END).context("docs/performance.md has no end mark")?;
    let versions: Vec<_> =
        figures.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let table = table::table(figures);
    let of = format!("Of {}, by `cargo xtask bench`, with {}.", figures.date, versions.join("; "));
    Ok(format!("{head}{BEGIN}{of}\n\n{table}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# Head\n{BEGIN}old\n{END}tail\n");
        let figures = Figures { date: "2026-11-26".into(), ..Figures::default() };
        let new = with_table(&page, &figures).unwrap();
        assert!(new.starts_with("# Head\n") && new.ends_with(&format!("{END}tail\n")), "{new}");
        assert!(new.contains("Of 2026-11-26") && !new.contains("old"));
        assert_eq!(with_table(&new, &figures).unwrap(), new);
        assert!(with_table("# Head\n", &figures).is_err());
    }
}
