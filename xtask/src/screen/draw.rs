//! Drawing the view.

use bulkhead_life::Life;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::desk::Desk;
use super::layout::{Parts, STATE};
use super::notices::Notice;
use crate::keys::HELP;
use crate::session::Model;
use crate::view::Shown;

/// Keys that only this view has.
const MORE_HELP: (&str, &str) = ("arrows", "look back in what was said; so do PgUp and Home");

/// Draws all of it.
pub fn draw(desk: &Desk, model: &Model, frame: &mut Frame<'_>) {
    let parts = desk.parts();
    list(desk, model, parts, frame);
    frame.render_widget(Block::new().borders(Borders::LEFT).dim(), parts.line);
    desk.pane(desk.drawn()).draw(parts.pane, frame.buffer_mut());
    if desk.helps() {
        help(parts.pane, frame);
    } else {
        answer(desk.notices.answer(), parts.pane, frame);
    }
    notice(desk, parts.notice, frame);
    keys(desk, model, parts.keys, frame);
    if let Some(at) = cursor(desk, model, parts) {
        frame.set_cursor_position(at);
    }
}

/// An entry for each guest, the log, and the lines of all.
fn list(desk: &Desk, model: &Model, parts: Parts, frame: &mut Frame<'_>) {
    let guests = model.states.iter().enumerate().map(|(guest, (name, state))| {
        let digit = if guest < 9 { char::from(b"123456789"[guest]) } else { ' ' };
        let keys = if guest == model.input { '>' } else { ' ' };
        (Shown::Guest(guest), format!("{keys}{digit}"), name, Some(state))
    });
    let log = (Shown::Log, " l".into(), "log", None);
    let all = (Shown::All, " a".into(), "all", None);
    let entries: Vec<_> = guests.chain([log, all]).collect();
    let height = usize::from(parts.list.height);
    // The one that is shown is in sight.
    let at = entries.iter().position(|(shown, ..)| *shown == desk.drawn()).unwrap_or(0);
    let first = (at + 1).saturating_sub(height);
    for (row, (shown, mark, name, state)) in (0u16..).zip(entries.iter().skip(first).take(height)) {
        let width = usize::from(parts.name);
        let name =
            if name.len() > width { format!("{}…", &name[..width - 1]) } else { (*name).into() };
        let unseen = if desk.pane(*shown).unseen() && *shown != Shown::All { "*" } else { " " };
        let state = match state {
            Some(state) => {
                let text = format!("{state:<columns$}", columns = usize::from(STATE));
                Span::styled(text, of_state(*state))
            }
            None => Span::raw(" ".repeat(usize::from(STATE))),
        };
        let mut line = Line::from(vec![
            format!("{mark} {name:<width$} ").into(),
            state,
            Span::from(unseen).bold(),
        ]);
        if *shown == desk.drawn() {
            line = line.reversed();
        }
        let at = Rect { y: parts.list.y + row, height: 1, ..parts.list };
        frame.render_widget(line, at);
    }
}

fn of_state(state: Life) -> Style {
    match state {
        Life::Running => Style::new().fg(Color::Green),
        Life::Starting | Life::Waiting | Life::Stopping => Style::new().fg(Color::Cyan),
        Life::Paused => Style::new().fg(Color::Yellow),
        Life::Quarantined => Style::new().fg(Color::Magenta),
        Life::Faulted => Style::new().fg(Color::Red),
        Life::Undefined | Life::Defined | Life::PoweredOff | Life::Stopped => Style::new().dim(),
    }
}

/// The keys of the prompt, over the pane.
fn help(pane: Rect, frame: &mut Frame<'_>) {
    let lines = HELP.into_iter().chain([MORE_HELP]);
    let lines: Vec<_> = lines.map(|(key, text)| Line::from(format!("{key:<7} {text}"))).collect();
    over(lines, pane, frame);
}

/// An answer of several lines, over the pane's lower half.
fn answer(lines: &[Notice], pane: Rect, frame: &mut Frame<'_>) {
    let most = usize::from(pane.height / 2).max(2) - 1;
    if lines.is_empty() {
        return;
    }
    let more = lines.len().saturating_sub(most);
    let shown = if more > 0 { most.saturating_sub(1) } else { lines.len() };
    let mut drawn: Vec<_> = lines[..shown].iter().map(line).collect();
    if more > 0 {
        drawn.push(
            Line::from(format!("{} more lines are in the log", lines.len() - shown)).italic(),
        );
    }
    over(drawn, pane, frame);
}

/// Draws lines over the end of an area.
fn over(lines: Vec<Line<'_>>, area: Rect, frame: &mut Frame<'_>) {
    let height = u16::try_from(lines.len() + 1).unwrap_or(u16::MAX).min(area.height);
    let at = Rect { y: area.bottom() - height, height, ..area };
    frame.render_widget(Clear, at);
    frame.render_widget(Paragraph::new(lines).block(Block::new().borders(Borders::TOP)), at);
}

fn line(notice: &Notice) -> Line<'_> {
    let line = Line::from(notice.text.as_str());
    if notice.bad { line.red() } else { line }
}

/// What the log said last, and how far one looks back.
fn notice(desk: &Desk, area: Rect, frame: &mut Frame<'_>) {
    // The last line of an answer is among its others.
    let answered = !desk.notices.answer().is_empty() && !desk.helps();
    if let Some(notice) = desk.notices.last().filter(|_| !answered) {
        frame.render_widget(line(notice), area);
    }
    let back = desk.pane(desk.drawn()).scrolled();
    if back > 0 {
        let text = format!(" {back} lines back");
        let width = u16::try_from(text.len()).unwrap_or(area.width).min(area.width);
        let at = Rect { x: area.right() - width, width, ..area };
        frame.render_widget(Line::from(text).bold(), at);
    }
}

/// What keys do now.
fn keys(desk: &Desk, model: &Model, area: Rect, frame: &mut Frame<'_>) {
    let input = model.input_name().unwrap_or("no guest");
    let line = if model.keys.typing() {
        Line::from(format!(": {}", model.keys.line()))
    } else if model.keys.prompting() {
        let paused = model.states.state(model.input) == Some(Life::Paused);
        let keys = [
            ("q", "quit"),
            ("c", "back"),
            ("?", "help"),
            ("1-9", "guest"),
            ("l", "log"),
            ("a", "all"),
            ("p", if paused { "resume" } else { "pause" }),
            ("s", "stop"),
            (":", "command"),
            ("PgUp", "what was said"),
        ];
        let mut line = Line::default();
        for (key, meaning) in keys {
            // What is not there whole, `?` explains.
            if line.width() + key.len() + 1 + meaning.len() > usize::from(area.width) {
                break;
            }
            line.push_span(Span::from(key).bold());
            line.push_span(format!(" {meaning}  "));
        }
        line
    } else {
        let what = match desk.drawn() {
            Shown::Guest(guest) if guest == model.input => String::new(),
            Shown::Guest(guest) => {
                format!("{} is shown; ", model.states.name(guest).unwrap_or_default())
            }
            Shown::Log => "the log is shown; ".into(),
            Shown::All | Shown::Stream => "the lines of all are shown; ".into(),
        };
        Line::from(format!("{what}keys go to {input}; Ctrl-] leads out"))
    };
    frame.render_widget(Block::new().reversed(), area);
    frame.render_widget(line, area);
}

/// Where the cursor is, if it is to be seen.
fn cursor(desk: &Desk, model: &Model, parts: Parts) -> Option<Position> {
    if model.keys.typing() {
        let typed = u16::try_from(model.keys.line().chars().count()).unwrap_or(u16::MAX);
        let column = typed.saturating_add(2).min(parts.keys.width.saturating_sub(1));
        return Some(Position::new(parts.keys.x + column, parts.keys.y));
    }
    let types = desk.drawn() == Shown::Guest(model.input) && !model.keys.prompting();
    desk.pane(desk.drawn()).cursor(parts.pane).filter(|_| types)
}
