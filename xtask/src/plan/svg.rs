//! Writing SVG: rectangles and lines of text.

use std::fmt::Write;

/// A box in a drawing, in pixels from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The elements of a drawing. What they look like is said by the classes of its style sheet.
#[derive(Debug, Default)]
pub struct Svg {
    elements: String,
}

impl Svg {
    /// A rectangle; `tip` is what a reader sees who points at it.
    pub fn rect(&mut self, rect: Rect, class: &str, radius: f64, tip: &str) {
        let Rect { x, y, width, height } = rect;
        let tip = escaped(tip);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            self.elements,
            "  <rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             rx=\"{radius}\"><title>{tip}</title></rect>"
        );
    }

    /// A line of text that begins at `x`, its baseline at `y`.
    pub fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.elements,
            "  <text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        );
    }

    /// The whole file. `head` is the style sheet and definitions.
    pub fn finish(self, width: f64, height: f64, title: &str, head: &str) -> String {
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title\">\n  \
             <title id=\"title\">{title}</title>\n{head}{}</svg>\n",
            self.elements
        )
    }
}

/// Text as it may stand in an element: without what XML takes for markup, and without characters that it forbids.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escaped("a<b> & \"c\" \x1b\0"),
            "a&lt;b&gt; &amp; &quot;c&quot; \u{FFFD}\u{FFFD}"
        );
        let mut svg = Svg::default();
        svg.text(1.0, 2.0, "name", "</text><script>");
        assert!(!svg.finish(1.0, 1.0, "<", "").contains("<script"));
    }
}
