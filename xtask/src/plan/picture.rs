//! A plan as a picture: cores and memory as coloured bars, a colour for each guest.

use std::ops::Range;

use bulkhead_manifest::Size;
use bulkhead_plan::{Core, Machine, Plan, Why};

use super::svg::{Rect, Svg};

/// The picture's width, and what is left free at its sides, in pixels.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// A core's box, and the space between two.
const CORE_WIDTH: f64 = 100.0;
const CORE_HEIGHT: f64 = 62.0;
const GAP: f64 = 8.0;
/// The frame around the threads of a physical core.
const FRAME: f64 = 5.0;
/// A row of the table of owners.
const ROW: f64 = 24.0;
const SWATCH: f64 = 14.0;
/// The least height of a piece of memory, so that its label fits beside it, and the height of all where that is enough.
const LEAST_PIECE: f64 = 26.0;
const MEMORY_HEIGHT: f64 = 440.0;
const MEMORY_WIDTH: f64 = 150.0;
/// Pieces of memory shorter than this are shown together: they are of no use to a guest.
const SMALL: u64 = 2 << 20;
/// The colours that guests take by turns, chosen by Okabe and Ito to be told apart by colour-blind people, too; with the
/// colour of text on them.
const COLOURS: [(&str, &str); 7] = [
    ("#e69f00", DARK),
    ("#56b4e9", DARK),
    ("#009e73", DARK),
    ("#cc79a7", DARK),
    ("#f0e442", DARK),
    ("#0072b2", BRIGHT),
    ("#d55e00", DARK),
];
const DARK: &str = "on-bright";
const BRIGHT: &str = "on-dark";

/// Colours and fonts; those that depend on the background have a second set for a dark one.
const STYLE: &str = r##"  <style>
    text { font: 13px "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .title { font-size: 17px; font-weight: bold; }
    .head { font-size: 14px; font-weight: bold; }
    .name { font-weight: bold; }
    .note { fill: #59636e; font-size: 12px; }
    .code { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; }
    .small { font-size: 11px; }
    .on-bright { fill: #1f2328; }
    .on-dark { fill: #ffffff; }
    .background { fill: #ffffff; }
    .frame { fill: none; stroke: #818b98; }
    .hypervisor { fill: #57606a; }
    .free { fill: #eaeef2; stroke: #818b98; stroke-dasharray: 4 3; }
    .nobody { fill: url(#hatch); stroke: #818b98; }
    .second { fill: url(#stripes); }
    .hatch { stroke: #b1bac4; stroke-width: 1.5; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .note { fill: #9198a1; }
      .background { fill: #0d1117; }
      .frame, .free, .nobody { stroke: #656c76; }
      .free { fill: #262c36; }
      .hatch { stroke: #4b535d; }
    }
"##;

/// What is filled with lines: what is nobody's, and a second turn of the colours.
const PATTERNS: &str = r#"  </style>
  <defs>
    <pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
      <line class="hatch" x1="0" y1="0" x2="0" y2="8"/>
    </pattern>
    <pattern id="stripes" width="10" height="10" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">
      <rect width="3" height="10" fill="white" fill-opacity="0.3"/>
    </pattern>
  </defs>
"#;

/// Who has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Hypervisor,
    /// The guest at this position.
    Guest(usize),
    /// It is left over.
    Free,
    /// It is nobody's, and nobody can have it.
    Nobody,
}

impl Owner {
    /// The class of its boxes, and that of text on them.
    fn classes(self) -> (String, &'static str) {
        match self {
            Self::Hypervisor => ("hypervisor".into(), BRIGHT),
            Self::Guest(index) => {
                let colour = index % COLOURS.len();
                (format!("guest{colour}"), COLOURS[colour].1)
            }
            Self::Free => ("free".into(), ""),
            Self::Nobody => ("nobody".into(), ""),
        }
    }

    /// Draws a box of this owner's.
    fn draw(self, svg: &mut Svg, rect: Rect, radius: f64, tip: &str) {
        svg.rect(rect, &self.classes().0, radius, tip);
        if matches!(self, Self::Guest(index) if index / COLOURS.len() % 2 == 1) {
            svg.rect(rect, "second", radius, tip);
        }
    }

    /// What it is called.
    fn name(self, plan: &Plan) -> &str {
        match self {
            Self::Hypervisor => "hypervisor",
            Self::Guest(index) => plan.guests.get(index).map_or("", |share| &share.name),
            Self::Free => "free",
            Self::Nobody => "unused",
        }
    }
}

/// The picture, as an SVG file. `title` says what the plan is of.
pub fn picture(title: &str, machine: &Machine, plan: &Plan) -> String {
    let mut svg = Svg::default();
    let mut y = MARGIN + 14.0;
    svg.text(MARGIN, y, "title", &short(title, 80));
    y += 22.0;
    svg.text(MARGIN, y, "note", &summary(machine, plan));
    y = owners(&mut svg, y + 34.0, plan);
    y = cores(&mut svg, y + 34.0, machine, plan);
    y = memory(&mut svg, y + 34.0, plan);
    let height = (y + MARGIN).ceil();
    let mut style = STYLE.to_string();
    for (index, (colour, _)) in COLOURS.iter().enumerate() {
        style.push_str(&format!("    .guest{index} {{ fill: {colour}; }}\n"));
    }
    style.push_str(PATTERNS);
    style.push_str(&format!(
        "  <rect class=\"background\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    ));
    svg.finish(WIDTH, height, title, &style)
}

fn summary(machine: &Machine, plan: &Plan) -> String {
    let about = if plan.estimated { "about " } else { "" };
    let free: u64 = machine.free.iter().map(|run| run.end - run.start).sum();
    let bits = match machine.thread_bits {
        0 => "no hyper-threads".to_string(),
        bits => format!("up to {} threads on a physical core", 1_u64 << bits.min(31)),
    };
    format!(
        "{} cores, {bits}; {about}{} of memory for guests, of which {} are left over",
        machine.cores.len(),
        Size(free),
        Size(plan.free_bytes())
    )
}

/// The table of owners, which is the legend, too. Gives the height at which it ends.
fn owners(svg: &mut Svg, mut y: f64, plan: &Plan) -> f64 {
    const CORES: f64 = 320.0;
    const MEMORY: f64 = 580.0;
    const KERNEL: f64 = 670.0;
    svg.text(MARGIN, y, "head", "Who has what");
    let numbers = |cores: &[Core]| {
        let numbers: Vec<_> = cores.iter().map(|core| core.number.to_string()).collect();
        format!("core{} {}", if cores.len() == 1 { "" } else { "s" }, numbers.join(", "))
    };
    let bytes = |runs: &[Range<u64>]| Size(runs.iter().map(|run| run.end - run.start).sum());
    let mut row = |owner: Owner, cores: String, memory: String, rest: &str| {
        y += ROW;
        let swatch = Rect { x: MARGIN, y: y - 12.0, width: SWATCH, height: SWATCH };
        owner.draw(svg, swatch, 2.0, owner.name(plan));
        svg.text(MARGIN + SWATCH + 8.0, y, "name", owner.name(plan));
        svg.text(CORES, y, "", &short(&cores, 32));
        svg.text(MEMORY, y, "", &memory);
        svg.text(KERNEL, y, "note", &short(rest, 38));
    };
    let own = bytes(&plan.hypervisor).to_string();
    row(Owner::Hypervisor, numbers(&[plan.service]), own, "COM1, IOAPIC, real-time clock");
    for (index, share) in plan.guests.iter().enumerate() {
        let memory = bytes(std::slice::from_ref(&share.memory)).to_string();
        row(Owner::Guest(index), numbers(&share.cores), memory, &share.kernel);
    }
    let spare = |free: bool| -> Vec<_> {
        let spare = plan.spare.iter().filter(|spare| (spare.why == Why::Free) == free);
        spare.map(|spare| spare.core).collect()
    };
    let (free, unused) = (spare(true), spare(false));
    let shown = |cores: &[Core]| if cores.is_empty() { "no core".into() } else { numbers(cores) };
    let about = if plan.estimated { "about " } else { "" };
    row(Owner::Free, shown(&free), format!("{about}{}", bytes(&plan.free)), "");
    let why = if unused.is_empty() { "" } else { "threads of cores in use, or unfit" };
    row(Owner::Nobody, shown(&unused), String::new(), why);
    y
}

/// The cores, with a frame around the threads of each physical core. Gives the height at which they end.
fn cores(svg: &mut Svg, mut y: f64, machine: &Machine, plan: &Plan) -> f64 {
    svg.text(MARGIN, y, "head", "Cores");
    y += 14.0;
    let framed = machine.thread_bits > 0;
    if framed {
        svg.text(MARGIN + 60.0, y - 14.0, "note", "a frame is a physical core");
    }
    let border = if framed { FRAME } else { 0.0 };
    let mut x = MARGIN;
    for threads in physical_cores(machine) {
        let width = threads.len() as f64 * (CORE_WIDTH + GAP) - GAP + 2.0 * border;
        if x > MARGIN && x + width > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + CORE_HEIGHT + GAP + 2.0 * border);
        }
        if framed {
            let height = CORE_HEIGHT + 2.0 * border;
            svg.rect(Rect { x, y, width, height }, "frame", 7.0, "a physical core");
        }
        for (index, core) in threads.into_iter().enumerate() {
            let x = x + border + index as f64 * (CORE_WIDTH + GAP);
            core_box(svg, x, y + border, core, plan);
        }
        x += width + GAP;
    }
    y + CORE_HEIGHT + 2.0 * border
}

/// The threads of each physical core, in the order of their numbers.
fn physical_cores(machine: &Machine) -> Vec<Vec<Core>> {
    let id = |core: &Core| core.apic_id.checked_shr(machine.thread_bits);
    let mut physical: Vec<Vec<Core>> = Vec::new();
    for &core in &machine.cores {
        match physical.iter_mut().find(|threads| threads.first().map(id) == Some(id(&core))) {
            Some(threads) => threads.push(core),
            None => physical.push(vec![core]),
        }
    }
    physical
}

fn core_box(svg: &mut Svg, x: f64, y: f64, core: Core, plan: &Plan) {
    let guest = plan.guests.iter().position(|share| share.cores.contains(&core));
    let spare = plan.spare.iter().find(|spare| spare.core == core).map(|spare| spare.why);
    let owner = match (guest, spare) {
        (Some(index), _) => Owner::Guest(index),
        (None, None) => Owner::Hypervisor,
        (None, Some(Why::Free)) => Owner::Free,
        (None, Some(_)) => Owner::Nobody,
    };
    let name = match spare {
        Some(Why::CannotRun) => "cannot run",
        _ => owner.name(plan),
    };
    let Core { number, apic_id, .. } = core;
    let rect = Rect { x, y, width: CORE_WIDTH, height: CORE_HEIGHT };
    let tip = format!("core {number}, APIC ID {apic_id}: {name}");
    owner.draw(svg, rect, 4.0, &tip);
    let class = owner.classes().1;
    svg.text(x + 8.0, y + 19.0, &format!("name {class}"), &format!("core {number}"));
    svg.text(x + 8.0, y + 35.0, &format!("small {class}"), &format!("APIC ID {apic_id}"));
    svg.text(x + 8.0, y + 52.0, class, &short(name, 12));
}

/// A piece of memory as it is drawn.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    owner: Owner,
    name: String,
    range: Range<u64>,
    /// Bytes that its height stands for; 0 for what is not to scale.
    weight: u64,
}

/// The memory, highest address first. Gives the height at which it ends.
fn memory(svg: &mut Svg, y: f64, plan: &Plan) -> f64 {
    const NAME: f64 = MARGIN + MEMORY_WIDTH + 16.0;
    const SIZE: f64 = 580.0;
    const RANGE: f64 = 670.0;
    svg.text(MARGIN, y, "head", "Memory");
    let note = "highest address first; to scale but for the hatched and the shortest";
    svg.text(MARGIN + 76.0, y, "note", note);
    let mut y = y + 14.0;
    let pieces = pieces(plan);
    let weights: Vec<_> = pieces.iter().map(|piece| piece.weight).collect();
    for (piece, height) in pieces.iter().zip(heights(&weights)).rev() {
        let Range { start, end } = piece.range;
        let range = format!("{start:#x} to {end:#x}");
        let tip = format!("{}: {}, {range}", piece.name, Size(end - start));
        // A pixel between two, so that neighbours of one colour can be told apart.
        let rect = Rect { x: MARGIN, y, width: MEMORY_WIDTH, height: height - 1.0 };
        piece.owner.draw(svg, rect, 2.0, &tip);
        let middle = y + height / 2.0 + 4.0;
        svg.text(NAME, middle, "name", &short(&piece.name, 46));
        svg.text(SIZE, middle, "", &Size(end - start).to_string());
        svg.text(RANGE, middle, "code", &range);
        y += height;
    }
    y
}

/// All memory from address 0 on, ascending: shares, what is free, what lies between, and small pieces put together.
fn pieces(plan: &Plan) -> Vec<Piece> {
    let piece = |owner: Owner, range: &Range<u64>| Piece {
        owner,
        name: owner.name(plan).to_string(),
        range: range.clone(),
        weight: range.end - range.start,
    };
    let mut owned: Vec<_> =
        plan.hypervisor.iter().map(|run| piece(Owner::Hypervisor, run)).collect();
    let shares = plan.guests.iter().enumerate();
    owned.extend(shares.map(|(index, share)| piece(Owner::Guest(index), &share.memory)));
    owned.extend(plan.free.iter().map(|run| piece(Owner::Free, run)));
    owned.sort_by_key(|piece| piece.range.start);

    let mut all: Vec<Piece> = Vec::new();
    let mut at = 0;
    for next in owned {
        if at < next.range.start {
            let name = "firmware, image, bundle, or no memory".to_string();
            all.push(Piece { owner: Owner::Nobody, name, range: at..next.range.start, weight: 0 });
        }
        at = next.range.end;
        all.push(next);
    }
    let small = |piece: &Piece| piece.range.end - piece.range.start < SMALL;
    let mut joined: Vec<Piece> = Vec::new();
    for piece in all {
        match joined.last_mut() {
            Some(before) if small(before) && small(&piece) => {
                before.owner = Owner::Nobody;
                before.name = "small pieces: free, firmware, start-up code".to_string();
                before.range.end = piece.range.end;
                before.weight = 0;
            }
            _ => joined.push(piece),
        }
    }
    joined
}

/// Heights in proportion to the weights, none below the least.
fn heights(weights: &[u64]) -> Vec<f64> {
    let total = MEMORY_HEIGHT.max(weights.len() as f64 * LEAST_PIECE * 1.5);
    let mut low = vec![false; weights.len()];
    loop {
        let lows = low.iter().filter(|&&low| low).count() as f64;
        let high = || weights.iter().zip(&low).filter(|(_, low)| !**low).map(|(&weight, _)| weight);
        let sum = high().map(|weight| weight as f64).sum::<f64>().max(1.0);
        let scale = (total - lows * LEAST_PIECE) / sum;
        let height = |weight: u64| weight as f64 * scale;
        // Those that are lifted take height from the others, which may then be too low as well.
        let next: Vec<_> =
            weights.iter().zip(&low).map(|(&w, &low)| low || height(w) < LEAST_PIECE).collect();
        if next == low {
            let of = |(&weight, &low)| if low { LEAST_PIECE } else { height(weight) };
            return weights.iter().zip(&low).map(of).collect();
        }
        low = next;
    }
}

/// The text, cut where it would leave its place.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use bulkhead_manifest::Cores;
    use bulkhead_plan::Request;

    use super::*;

    const MACHINE: &str = "machine: cores 0=0 1=1 2=2 3=3 4=4x, thread bits 1, hypervisor 0x9e000-0x9f000 0x1e600000-0x1fe00000, \
        free 0x1000-0x9e000 0x100000-0x1000000 0x2100000-0x1e600000 0x1fe00000-0x1fff0000";

    fn drawn(guests: u32, machine: &str) -> (Plan, String) {
        let machine: Machine = machine.parse().unwrap();
        let guests: Vec<_> = (0..guests)
            .map(|index| Request {
                name: format!("guest-{index}"),
                cores: Cores::Count(1),
                memory: 16 << 20,
                kernel: "a<b".into(),
                initrd: false,
            })
            .collect();
        let plan = Plan::new(&machine, &guests).unwrap();
        let drawing = picture("a & b", &machine, &plan);
        (plan, drawing)
    }

    #[test]
    fn everything_of_the_plan_is_in_the_picture() {
        let (plan, drawing) = drawn(1, MACHINE);
        for text in [
            "<title id=\"title\">a &amp; b</title>",
            "core 0, APIC ID 0: hypervisor",
            "core 2, APIC ID 2: guest-0",
            "core 3, APIC ID 3: unused",
            "core 4, APIC ID 4: cannot run",
            "guest-0: 16 MiB, 0x1d600000 to 0x1e600000",
            "hypervisor: 24 MiB, 0x1e600000 to 0x1fe00000",
            "free: 437 MiB, 0x2100000 to 0x1d600000",
            "a&lt;b",
        ] {
            assert!(drawing.contains(text), "{text} is not in {drawing}");
        }
        assert_eq!(plan.spare.len(), 3);
        assert_eq!(drawing.matches("a physical core</title>").count(), 3);
    }

    #[test]
    fn more_guests_than_colours_are_striped() {
        let cores: Vec<_> = (0..12).map(|n| format!("{n}={n}")).collect();
        let machine = format!(
            "machine: cores {}, thread bits 0, hypervisor none, free 0x0-0x40000000",
            cores.join(" ")
        );
        // In the table, at its core and at its memory.
        for (guests, striped) in [(7, 0), (8, 3), (11, 12)] {
            let drawing = drawn(guests, &machine).1;
            assert_eq!(drawing.matches("class=\"second\"").count(), striped, "{guests} guests");
        }
    }

    #[test]
    fn memory_is_covered_without_a_hole() {
        let (plan, _) = drawn(1, MACHINE);
        let pieces = pieces(&plan);
        assert_eq!((pieces[0].range.start, pieces.last().unwrap().range.end), (0, 0x1FFF_0000));
        assert!(pieces.is_sorted_by(|one, next| one.range.end == next.range.start), "{pieces:?}");
        // What lies below 1 MiB is one piece.
        assert_eq!(pieces[0].range.end, 1 << 20);
    }

    #[test]
    fn heights_are_to_scale_where_they_can_be() {
        let heights = heights(&[0, 1, 1000, 3000]);
        assert_eq!(heights[..2], [LEAST_PIECE, LEAST_PIECE]);
        assert!((heights[3] / heights[2] - 3.0).abs() < 1e-9, "{heights:?}");
        assert!((heights.iter().sum::<f64>() - MEMORY_HEIGHT).abs() < 1e-9, "{heights:?}");
        assert!(super::heights(&[]).is_empty());
        assert_eq!(super::heights(&[0]), [LEAST_PIECE]);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!((short("äbc", 3), short("äbcd", 3)), ("äbc".into(), "äb…".to_string()));
    }
}
