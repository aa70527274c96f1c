//! The figures of both hypervisors as bars, on a logarithmic scale.

use super::cases::{CASES, Case, Unit};
use super::figures::{Figures, Kind};
use super::table;
use crate::plan::svg::{Rect, Svg};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Where bars begin and how long the longest may be.
const LEFT: f64 = 300.0;
const LENGTH: f64 = 470.0;
const BAR: f64 = 11.0;
const ROW: f64 = 34.0;
/// How wide the mark of a target is, and how far behind a bar it would be under the bar's label.
const MARK: f64 = 3.0;
const NEAR: f64 = 12.0;
/// The figure that a bar of no length has.
const LEAST: f64 = 1.0;
/// The order of magnitude that the scale ends at, at the least.
const LEAST_END: f64 = 4.0;

/// Colours by Okabe and Ito, as in the plan's picture.
const STYLE: &str = r##"  <style>
    text { font: 13px "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .title { font-size: 17px; font-weight: bold; }
    .note { fill: #59636e; font-size: 12px; }
    .small { font-size: 11px; }
    .name { text-anchor: end; }
    .tick { fill: #59636e; font-size: 11px; text-anchor: middle; }
    .background { fill: #ffffff; }
    .grid { fill: #d1d9e0; }
    .bulkhead { fill: #0072b2; }
    .kvm { fill: #e69f00; }
    .target { fill: #d55e00; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .note, .tick { fill: #9198a1; }
      .background { fill: #0d1117; }
      .grid { fill: #262c36; }
      .bulkhead { fill: #56b4e9; }
    }
  </style>
"##;

/// The picture, as an SVG file: operations that have a figure of both hypervisors.
pub fn chart(figures: &Figures) -> String {
    let of_both = |case: &&Case| {
        let has = |kind| figures.get(case.name, kind).is_some();
        // Longer things would make all else short.
        case.unit == Unit::Instructions
            && case.name != "linux-boot"
            && has(Kind::Bulkhead)
            && has(Kind::Kvm)
    };
    let cases: Vec<_> = CASES.iter().filter(of_both).collect();
    let scale = Scale::of(&cases, figures);
    let mut svg = Svg::default();
    let mut y = MARGIN + 14.0;
    svg.text(MARGIN, y, "title", "What operations cost a guest");
    y += 22.0;
    let note = format!(
        "Instructions in Bochs, the least of 1,000 rounds, on a logarithmic scale; {}",
        figures.date
    );
    svg.text(MARGIN, y, "note", &note);
    y += 24.0;
    legend(&mut svg, y);
    y += 34.0;
    let height = (y + ROW * cases.len() as f64 + MARGIN).ceil();
    for decade in 0..=scale.decades as u32 {
        let x = LEFT + LENGTH * f64::from(decade) / scale.decades;
        let bottom = height - MARGIN;
        svg.rect(Rect { x, y: y - 8.0, width: 1.0, height: bottom - y + 8.0 }, "grid", 0.0, "");
        svg.text(x, y - 14.0, "tick", &table::shown(Unit::Instructions, 10f64.powi(decade as i32)));
    }
    for case in cases {
        row(&mut svg, y, case, figures, &scale);
        y += ROW;
    }
    let style =
        format!("{STYLE}  <rect class=\"background\" width=\"{WIDTH}\" height=\"{height}\"/>\n");
    svg.finish(WIDTH, height, "What operations cost under Bulkhead and under KVM", &style)
}

/// How long bars are.
struct Scale {
    decades: f64,
}

impl Scale {
    fn of(cases: &[&Case], figures: &Figures) -> Self {
        let all = cases.iter().flat_map(|case| {
            [Kind::Bulkhead, Kind::Kvm].map(|kind| figures.get(case.name, kind).unwrap_or(LEAST))
        });
        let largest = all.fold(LEAST, f64::max);
        Self { decades: largest.log10().ceil().max(LEAST_END) }
    }

    fn length(&self, figure: f64) -> f64 {
        LENGTH * figure.max(LEAST).log10() / self.decades
    }
}

fn legend(svg: &mut Svg, y: f64) {
    let mut x = MARGIN;
    for (class, what) in [("bulkhead", "Bulkhead"), ("kvm", "KVM"), ("target", "Bulkhead's target")]
    {
        let width = if class == "target" { MARK } else { 14.0 };
        svg.rect(Rect { x, y: y - 11.0, width, height: 14.0 }, class, 1.0, what);
        svg.text(x + 20.0, y, "", what);
        x += 36.0 + 8.0 * what.len() as f64;
    }
}

fn row(svg: &mut Svg, y: f64, case: &Case, figures: &Figures, scale: &Scale) {
    svg.text(LEFT - 12.0, y + 14.0, "name", case.title);
    let mark = case.most(None).map(|most| LEFT + scale.length(most));
    for (index, (kind, class)) in
        [(Kind::Bulkhead, "bulkhead"), (Kind::Kvm, "kvm")].into_iter().enumerate()
    {
        let Some(figure) = figures.get(case.name, kind) else { continue };
        let figure_shown = table::shown(case.unit, figure);
        let top = y + (BAR + 1.0) * index as f64;
        // What costs nothing is seen to be there.
        let width = scale.length(figure).max(2.0);
        svg.rect(Rect { x: LEFT, y: top, width, height: BAR }, class, 1.0, &figure_shown);
        let label = match (kind, table::ratio(case, figures)) {
            (Kind::Kvm, Some(ratio)) if ratio >= 1.5 => {
                format!("{figure_shown}, {ratio:.0} times as many")
            }
            _ => figure_shown,
        };
        // Not on the mark of the target.
        let marked = mark.filter(|mark| (0.0..NEAR).contains(&(mark - LEFT - width)));
        let end = marked.map_or(LEFT + width, |mark| mark + MARK);
        svg.text(end + 6.0, top + 10.0, "small", &label);
    }
    if let Some(x) = mark {
        svg.rect(Rect { x, y: y - 2.0, width: MARK, height: BAR + 4.0 }, "target", 1.0, "target");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_have_is_drawn() {
        let mut figures = Figures::default();
        for (case, bulkhead, kvm) in
            [("cpuid", 150.0, Some(982.0)), ("eoi", 0.0, Some(1173.0)), ("icr-self", 1.0, None)]
        {
            figures.set(case, Kind::Bulkhead, bulkhead);
            if let Some(kvm) = kvm {
                figures.set(case, Kind::Kvm, kvm);
            }
        }
        let chart = chart(&figures);
        assert!(chart.contains("CPUID") && chart.contains("982, 7 times as many"), "{chart}");
        assert!(chart.contains("EOI") && !chart.contains("through ICR"), "{chart}");
        assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }

    #[test]
    fn a_scale_is_of_whole_decades() {
        let scale = Scale { decades: 4.0 };
        assert_eq!(scale.length(10_000.0), LENGTH);
        assert_eq!(scale.length(100.0), LENGTH / 2.0);
        assert_eq!(scale.length(0.0), 0.0);
    }
}
