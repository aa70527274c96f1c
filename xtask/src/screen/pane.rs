//! What a terminal would show of a channel, and what it would answer.

use std::num::NonZeroU16;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use vt100::{Callbacks, Parser, Screen};

use crate::keys::Scroll;
use crate::view;

/// Lines that are kept of what has left the screen.
const SCROLLBACK: usize = 1000;
/// Most bytes that are answered to one piece: who asks without end is not told without end.
const MOST_ANSWERED: usize = 64;

/// A terminal of its own for a channel.
pub struct Pane {
    parser: Parser<Answers>,
    /// Something was said since it was looked at.
    unseen: bool,
}

impl Pane {
    /// With nothing said; it has the size of the area.
    pub fn new(area: Rect) -> Self {
        let (rows, columns) = size(area);
        let answers = Answers::default();
        let parser = Parser::new_with_callbacks(rows, columns, SCROLLBACK, answers);
        Self { parser, unseen: false }
    }

    /// Shows what is said. Gives what a terminal answers.
    pub fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.unseen |= !bytes.is_empty();
        // Programs that draw a whole screen may mean a bare line feed; lines may lack the return.
        if self.parser.screen().alternate_screen() {
            self.parser.process(bytes);
        } else {
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                if let Some(line) = line.strip_suffix(b"\n") {
                    self.parser.process(line);
                    self.parser.process(b"\r\n");
                } else {
                    self.parser.process(line);
                }
            }
        }
        std::mem::take(&mut self.parser.callbacks_mut().0)
    }

    /// Takes another size.
    pub fn resize(&mut self, area: Rect) {
        let (rows, columns) = size(area);
        self.parser.set_size(rows, columns);
    }

    /// Looks back, or on.
    pub fn scroll(&mut self, way: Scroll) {
        let screen = self.parser.screen_mut();
        let now = screen.scrollback();
        // A line stays in sight.
        let page = usize::from(screen.size().0.get()).saturating_sub(1).max(1);
        screen.set_scrollback(match way {
            Scroll::Up => now.saturating_add(1),
            Scroll::Down => now.saturating_sub(1),
            Scroll::PageUp => now.saturating_add(page),
            Scroll::PageDown => now.saturating_sub(page),
            Scroll::Top => SCROLLBACK,
            Scroll::Bottom => 0,
        });
    }

    /// How many lines back one looks.
    pub fn scrolled(&self) -> usize {
        self.parser.screen().scrollback()
    }

    /// Whether something was said since it was looked at.
    pub fn unseen(&self) -> bool {
        self.unseen
    }

    /// It is looked at.
    pub fn see(&mut self) {
        self.unseen = false;
    }

    /// The terminal's screen.
    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// The last rows, from one to one that something is in, but no more than so many; none of a program that draws a whole screen.
    pub fn last_rows(&mut self, most: usize) -> Vec<String> {
        self.scroll(Scroll::Bottom);
        let screen = self.screen();
        if screen.alternate_screen() {
            return Vec::new();
        }
        let rows = screen.rows(0, screen.size().1.get());
        let mut rows: Vec<_> = rows.map(|row| view::plain(row.as_bytes())).collect();
        let end = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        rows.truncate(end);
        let rows = rows.split_off(end.saturating_sub(most));
        rows.into_iter().skip_while(String::is_empty).collect()
    }

    /// Draws it.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let screen = self.screen();
        for row in 0..area.height {
            for column in 0..area.width {
                let Some(cell) = screen.cell(row, column) else { continue };
                let at = Position::new(area.x + column, area.y + row);
                // The second half of a wide character: the first one covers it.
                if cell.is_wide_continuation() {
                    continue;
                }
                if let Some(drawn) = buffer.cell_mut(at) {
                    let contents = if cell.has_contents() { cell.contents() } else { " " };
                    drawn.set_symbol(contents).set_style(style(cell));
                }
            }
        }
    }

    /// Where its cursor is in the area, if it is to be seen.
    pub fn cursor(&self, area: Rect) -> Option<Position> {
        let screen = self.screen();
        let (row, column) = screen.cursor_position();
        let at = Position::new(area.x + column.min(area.width.saturating_sub(1)), area.y + row);
        (!screen.hide_cursor() && screen.scrollback() == 0 && area.contains(at)).then_some(at)
    }
}

fn size(area: Rect) -> (NonZeroU16, NonZeroU16) {
    let least = |size: u16| NonZeroU16::new(size).unwrap_or(NonZeroU16::MIN);
    // A wide character has room in two columns.
    (least(area.height), least(area.width.max(2)))
}

fn style(cell: &vt100::Cell) -> Style {
    let modifiers = [
        (cell.bold(), Modifier::BOLD),
        (cell.dim(), Modifier::DIM),
        (cell.italic(), Modifier::ITALIC),
        (cell.underline(), Modifier::UNDERLINED),
        (cell.inverse(), Modifier::REVERSED),
    ];
    let modifiers = modifiers.into_iter().filter(|(on, _)| *on).map(|(_, modifier)| modifier);
    Style::reset()
        .fg(colour(cell.fgcolor()))
        .bg(colour(cell.bgcolor()))
        .add_modifier(modifiers.collect())
}

fn colour(colour: vt100::Color) -> Color {
    match colour {
        vt100::Color::Default => Color::Reset,
        vt100::Color::Idx(index) => Color::Indexed(index),
        vt100::Color::Rgb(red, green, blue) => Color::Rgb(red, green, blue),
    }
}

/// What is asked of a terminal is answered: shells ask for its size so.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        first: Option<u8>,
        second: Option<u8>,
        parameters: &[&[u16]],
        last: char,
    ) {
        let parameter = parameters.first().and_then(|all| all.first()).copied().unwrap_or(0);
        let answer = match (first, second, parameter, last) {
            // ECMA-48, 8.3.35, DEVICE STATUS REPORT: ready.
            (None, None, 5, 'n') => "\x1b[0n".into(),
            // The cursor's position, counted from 1 (8.3.14).
            (None, None, 6, 'n') => {
                let (row, column) = screen.cursor_position();
                // Behind the last column it waits for the next character.
                let column = column.min(screen.size().1.get() - 1);
                format!("\x1b[{};{}R", row + 1, column + 1)
            }
            // 8.3.24, DEVICE ATTRIBUTES: a VT100 with the advanced video option.
            (None, None, 0, 'c') => "\x1b[?1;2c".into(),
            _ => return,
        };
        if self.0.len() + answer.len() <= MOST_ANSWERED {
            self.0.extend_from_slice(answer.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pane(columns: u16, rows: u16) -> Pane {
        Pane::new(Rect::new(0, 0, columns, rows))
    }

    fn rows(pane: &Pane) -> Vec<String> {
        let area = Rect::new(0, 0, pane.screen().size().1.get(), pane.screen().size().0.get());
        let mut buffer = Buffer::empty(area);
        pane.draw(area, &mut buffer);
        let row = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..area.height).map(|y| row(y).trim_end().to_string()).collect()
    }

    #[test]
    fn it_shows_what_a_terminal_shows() {
        let mut pane = pane(8, 3);
        pane.say(b"one\ntwo\x1b[1;31m!\x1b[2;6Hx\r\n\x1e3");
        assert_eq!(rows(&pane), ["one", "two! x", "3"]);
        pane.say("\r日本\x1b[?25l".as_bytes());
        assert_eq!(rows(&pane)[2], "日 本");
        assert_eq!(pane.cursor(Rect::new(0, 0, 8, 3)), None);
    }

    #[test]
    fn where_a_whole_screen_is_drawn_a_line_feed_is_one() {
        let mut pane = pane(8, 3);
        pane.say(b"\x1b[?1049h");
        pane.say(b"ab\nc");
        assert_eq!(rows(&pane)[..2], ["ab", "  c"]);
    }

    #[test]
    fn what_is_asked_of_the_terminal_is_answered() {
        let mut pane = pane(20, 5);
        assert_eq!(pane.say(b"\x1b[999;999H\x1b[6n"), b"\x1b[5;20R");
        assert_eq!(pane.say(b"\x1b[5n\x1b[c\x1b[7n"), b"\x1b[0n\x1b[?1;2c");
        assert!(pane.say(&b"\x1b[6n".repeat(1000)).len() <= MOST_ANSWERED);
        assert_eq!(pane.say(b"no more"), b"");
    }

    #[test]
    fn one_can_look_back_and_return() {
        let mut pane = pane(8, 3);
        for line in 0..10 {
            pane.say(format!("line {line}\n").as_bytes());
        }
        assert_eq!(rows(&pane), ["line 8", "line 9", ""]);
        pane.scroll(Scroll::PageUp);
        assert_eq!((rows(&pane)[0].as_str(), pane.scrolled()), ("line 6", 2));
        // It stays there.
        pane.say(b"10\n");
        assert_eq!(rows(&pane)[0], "line 6");
        pane.scroll(Scroll::Top);
        assert_eq!(rows(&pane), ["line 0", "line 1", "line 2"]);
        pane.scroll(Scroll::Down);
        assert_eq!(rows(&pane)[0], "line 1");
        pane.scroll(Scroll::Bottom);
        assert_eq!((rows(&pane)[1].as_str(), pane.scrolled()), ("10", 0));
    }

    #[test]
    fn another_size_keeps_the_last_lines() {
        let mut pane = pane(8, 4);
        pane.say(b"1\n2\n3\n4");
        pane.resize(Rect::new(0, 0, 10, 2));
        assert_eq!(rows(&pane), ["3", "4"]);
        pane.resize(Rect::new(0, 0, 10, 4));
        assert_eq!(rows(&pane), ["1", "2", "3", "4"]);
    }

    #[test]
    fn its_last_rows_are_known() {
        let mut pane = pane(8, 4);
        assert_eq!(pane.last_rows(2), [""; 0]);
        pane.say(b"1\n2\n\n4\n5\n");
        pane.scroll(Scroll::Top);
        assert_eq!(pane.last_rows(4), ["4", "5"]);
        assert_eq!(pane.last_rows(1), ["5"]);
        pane.say(b"\x1b[?1049hx");
        assert_eq!(pane.last_rows(3), [""; 0]);
    }

    #[test]
    fn no_control_character_gets_through() {
        let mut pane = pane(20, 2);
        pane.say("a\u{9b}31m\u{85}b\u{7f}\x1b]52;c;eA==\x07c\u{202e}".as_bytes());
        let row = rows(&pane)[0].clone();
        assert!(!row.chars().any(char::is_control), "{row:?}");
        assert!(row.starts_with('a') && row.contains('c'), "{row:?}");
    }

    #[test]
    fn what_was_not_looked_at_is_known() {
        let mut pane = pane(8, 4);
        assert!(!pane.unseen());
        pane.say(b"x");
        assert!(pane.unseen());
        pane.see();
        assert!(!pane.unseen());
    }

    proptest! {
        /// Guests write what they like, while the terminal gets any size.
        #[test]
        fn anything_can_be_shown(
            pieces in prop::collection::vec((prop::collection::vec(prop_oneof![
                Just(b"\x1b[".to_vec()),
                "[0-9;?]{0,6}[A-Za-z@]".prop_map(String::into_bytes),
                "\x1b\\[[0-9]{1,3};[0-9]{1,3}[HrSTLMPX@]".prop_map(String::into_bytes),
                "\x1b\\[\\?(6|7|25|47|1049)[hl]".prop_map(String::into_bytes),
                "\x1b[78cDEM]".prop_map(String::into_bytes),
                "\\PC{0,9}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..9),
                Just(b"\r\n\n\n\t".to_vec()),
            ], 0..20), 0u16..12, 0u16..6, any::<bool>()), 0..12),
        ) {
            let mut pane = pane(5, 3);
            for (bytes, columns, rows_, back) in pieces {
                pane.say(&bytes.concat());
                pane.scroll(if back { Scroll::Top } else { Scroll::Up });
                prop_assert!(!rows(&pane).concat().chars().any(char::is_control));
                pane.resize(Rect::new(0, 0, columns, rows_));
                rows(&pane);
            }
        }
    }
}
