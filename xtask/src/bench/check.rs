//! Whether anything has become dearer.

use super::cases::{CASES, Case};
use super::figures::{Figures, Kind};

/// How many times dearer a case may be before that is a failure.
const TOLERATED: f64 = 1.05;

/// Whether a figure has grown by more than is tolerated, and by more than it wobbles.
fn is_dearer(before: f64, now: f64, wobble: f64) -> bool {
    now > before * TOLERATED && now - before > wobble
}

/// The cases that have become dearer under Bulkhead, and those whose figure is gone: a line for each. A case that
/// was not looked at is not among `looked_at`.
pub fn dearer<'a>(
    committed: &Figures,
    now: &Figures,
    looked_at: impl IntoIterator<Item = &'a Case>,
) -> Vec<String> {
    let line = |case: &Case| {
        let before = committed.get(case.name, Kind::Bulkhead)?;
        match now.get(case.name, Kind::Bulkhead) {
            None => Some(format!("{} ({}): no figure any more", case.title, case.name)),
            Some(now) if is_dearer(before, now, case.wobble) => {
                let change = if before > 0.0 {
                    format!(", {:.1} % more", (now / before - 1.0) * 100.0)
                } else {
                    String::new()
                };
                Some(format!("{} ({}): {before} before, {now} now{change}", case.title, case.name))
            }
            Some(_) => None,
        }
    };
    looked_at.into_iter().filter_map(line).collect()
}

/// The cases that cost more than they are to.
pub fn beyond_target(figures: &Figures) -> Vec<String> {
    let line = |case: &Case| {
        let figure = figures.get(case.name, Kind::Bulkhead)?;
        let most = case.most(figures.get(case.name, Kind::Bare))?;
        (figure > most).then(|| {
            let most = super::table::shown(case.unit, most);
            let figure = super::table::shown(case.unit, figure);
            format!("{} ({}): {figure}, the target is {most}", case.title, case.name)
        })
    };
    CASES.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cases: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        figures.extend(Kind::Bulkhead, cases.iter().map(|&(name, n)| (name.to_string(), n)));
        figures
    }

    #[test]
    fn five_percent_are_tolerated_and_no_more() {
        let committed = of(&[("cpuid", 100.0), ("vmcall", 100.0), ("eoi", 4.0), ("tpr", 4.0)]);
        let now = of(&[("cpuid", 105.0), ("vmcall", 106.0), ("eoi", 4.5), ("tpr", 5.0)]);
        let dearer = dearer(&committed, &now, CASES);
        assert_eq!(
            dearer,
            [
                "VMCALL (vmcall): 100 before, 106 now, 6.0 % more",
                "TPR (tpr): 4 before, 5 now, 25.0 % more"
            ]
        );
    }

    #[test]
    fn an_exit_where_there_was_none_is_dearer() {
        let lines = dearer(&of(&[("exits-idle", 0.0)]), &of(&[("exits-idle", 1.0)]), CASES);
        assert_eq!(lines, ["exits of an idle Linux (exits-idle): 0 before, 1 now"]);
    }

    #[test]
    fn a_figure_that_is_gone_is_a_failure_where_it_was_looked_for() {
        let committed = of(&[("cpuid", 100.0), ("linux-boot", 1.0)]);
        let now = of(&[]);
        assert_eq!(dearer(&committed, &now, CASES).len(), 2);
        assert_eq!(dearer(&committed, &now, super::super::cases::operations()).len(), 1);
        assert!(dearer(&now, &committed, CASES).is_empty());
    }

    #[test]
    fn targets_are_looked_at() {
        let mut figures = of(&[("cpuid", 121.0), ("eoi", 10.0), ("linux-boot", 103.0)]);
        assert_eq!(beyond_target(&figures), ["CPUID (cpuid): 121, the target is 120"]);
        figures.set("linux-boot", Kind::Bare, 100.0);
        assert_eq!(beyond_target(&figures).len(), 2);
    }
}
