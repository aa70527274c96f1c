//! Where the parts of the view are.

use ratatui::layout::Rect;

/// Columns of the longest word for a state.
pub const STATE: u16 = 11;
/// Columns of a name; longer ones are cut.
const MOST_OF_NAME: usize = 16;
/// Least columns of the pane beside the list: on a terminal so narrow there is no list.
const LEAST_PANE: u16 = 30;

/// The parts of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Guests and their states.
    pub list: Rect,
    /// Columns of a name in it.
    pub name: u16,
    /// The line between them.
    pub line: Rect,
    /// The console.
    pub pane: Rect,
    /// What the log says.
    pub notice: Rect,
    /// Keys, or the command that is typed.
    pub keys: Rect,
}

/// The parts of a terminal of this size, with guests of these names.
pub fn parts<'a>(area: Rect, names: impl Iterator<Item = &'a str>) -> Parts {
    let longest = names.map(str::len).max().unwrap_or(0).clamp(3, MOST_OF_NAME);
    let name = u16::try_from(longest).unwrap_or(STATE);
    // The mark of who gets the keys, a digit, the name, the state, the mark of what was not seen, and blanks.
    let wanted = 1 + 1 + 1 + name + 1 + STATE + 1;
    let wanted = if area.width >= wanted + 1 + LEAST_PANE { wanted } else { 0 };
    let line = u16::from(wanted > 0);
    let keys = area.height.min(1);
    let notice = area.height.saturating_sub(keys).min(1);
    let body = area.height - keys - notice;
    let left = area.x + wanted + line;
    Parts {
        list: Rect::new(area.x, area.y, wanted, body),
        name,
        line: Rect::new(area.x + wanted, area.y, line, body),
        pane: Rect::new(left, area.y, area.width - wanted - line, body),
        notice: Rect::new(area.x, area.y + body, area.width, notice),
        keys: Rect::new(area.x, area.y + body + notice, area.width, keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fill_the_terminal() {
        for (width, height) in [(80, 24), (20, 5), (0, 0), (1, 1), (300, 2)] {
            let area = Rect::new(0, 0, width, height);
            let parts = parts(area, ["one", "a-longer-name-than-fits-in"].into_iter());
            let all = [parts.list, parts.line, parts.pane, parts.notice, parts.keys];
            let cells: u32 = all.into_iter().map(Rect::area).sum();
            assert_eq!(cells, area.area(), "{width} by {height}");
            assert!(all.into_iter().all(|part| area.union(part) == area || part.is_empty()));
        }
    }
}
