//! The figures as a table in Markdown, which reads well on a terminal too.

use super::cases::{CASES, COLUMNS, Case, Target, Unit};
use super::figures::{Figures, Kind};

/// What stands where there is no figure.
const NOTHING: &str = "—";

/// A figure as it is shown: with commas, and with one decimal where it has one and is small.
pub fn shown(unit: Unit, figure: f64) -> String {
    let number = if figure.fract() == 0.0 || figure >= 1000.0 {
        grouped(figure.round() as u64)
    } else {
        format!("{figure:.1}")
    };
    match unit {
        Unit::Instructions | Unit::Lines => number,
        Unit::ExitsPerSecond => format!("{number} /s"),
        Unit::Kib => format!("{number} KiB"),
    }
}

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many times KVM's figure is Bulkhead's.
pub fn ratio(case: &Case, figures: &Figures) -> Option<f64> {
    let bulkhead = figures.get(case.name, Kind::Bulkhead)?;
    let kvm = figures.get(case.name, Kind::Kvm)?;
    (bulkhead > 0.0).then(|| kvm / bulkhead)
}

fn target(case: &Case, figures: &Figures) -> String {
    let most = match case.target {
        Target::None => return String::new(),
        Target::Most(most) => shown(case.unit, most),
        Target::TimesBare(times) => format!("{times} × bare"),
    };
    let figure = figures.get(case.name, Kind::Bulkhead);
    let reached = figure.zip(case.most(figures.get(case.name, Kind::Bare)));
    match reached {
        Some((figure, most_now)) if figure <= most_now => format!("{most} ✓"),
        Some(_) => format!("{most} ✗"),
        None => most,
    }
}

/// The table of the cases that have any figure.
pub fn table(figures: &Figures) -> String {
    let mut rows =
        vec![["", "bare", "Bulkhead", "KVM", "KVM / Bulkhead", "target"].map(String::from)];
    for case in CASES.iter().filter(|case| figures.cases.contains_key(case.name)) {
        let [bare, bulkhead, kvm] = COLUMNS.map(|kind| {
            let figure = figures.get(case.name, kind);
            figure.map_or(NOTHING.to_string(), |figure| shown(case.unit, figure))
        });
        let ratio = ratio(case, figures).map_or(NOTHING.to_string(), |ratio| format!("{ratio:.1}"));
        rows.push([case.title.to_string(), bare, bulkhead, kvm, ratio, target(case, figures)]);
    }
    render(&rows)
}

/// Columns of equal width, all but the first aligned to the right.
fn render(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0).max(3));
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            out.push_str(&if column == 0 {
                format!("| {cell:<width$} ")
            } else {
                format!("| {cell:>width$} ")
            });
        }
        out.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                out.push_str(&if column == 0 {
                    format!("|{dashes}-")
                } else {
                    format!("|{dashes}:")
                });
            }
            out.push_str("|\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_both_columns_and_the_ratio() {
        let mut figures = Figures::default();
        figures.set("cpuid", Kind::Bulkhead, 110.0);
        figures.set("cpuid", Kind::Kvm, 982.0);
        figures.set("eoi", Kind::Kvm, 1173.0);
        figures.set("linux-boot", Kind::Bare, 100e6);
        figures.set("linux-boot", Kind::Bulkhead, 103e6);
        let table = table(&figures);
        let lines: Vec<_> = table.lines().collect();
        let cells =
            |line: &str| line.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
        assert_eq!(
            cells(lines[0])[1..7],
            ["", "bare", "Bulkhead", "KVM", "KVM / Bulkhead", "target"]
        );
        assert_eq!(cells(lines[2])[1..7], ["CPUID", "—", "110", "982", "8.9", "120 ✓"]);
        assert_eq!(cells(lines[3])[1..7], ["EOI", "—", "—", "1,173", "—", "10"]);
        let boot = cells(lines[4]);
        assert_eq!(boot[2..7], ["100,000,000", "103,000,000", "—", "—", "1.02 × bare ✗"]);
        assert_eq!(lines.len(), 5);
        let widths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }

    #[test]
    fn figures_are_shown_by_their_unit() {
        assert_eq!(shown(Unit::Instructions, 4.5), "4.5");
        assert_eq!(shown(Unit::Instructions, 12_345.6), "12,346");
        assert_eq!(shown(Unit::ExitsPerSecond, 0.0), "0 /s");
        assert_eq!(shown(Unit::Kib, 1024.0), "1,024 KiB");
    }
}
