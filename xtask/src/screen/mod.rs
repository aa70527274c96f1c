//! The full-screen view of a session: the guests and their states at the left, the console that was chosen at the
//! right, and below them what the log says and what keys do.

mod desk;
mod draw;
mod layout;
mod modes;
mod notices;
mod pane;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::channels::Said;
use crate::keys::Action;
use crate::session::{Display, Model};
use crate::terminal::{FullScreen, RawTerminal};
use crate::view::Shown;
use desk::Desk;
use modes::Modes;

/// The shortest time from one picture to the next: a guest that says much is read, not drawn.
const FRAME: Duration = Duration::from_millis(33);

/// The view, and the terminal that it is drawn on.
pub struct Screen {
    desk: Desk,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    modes: Modes,
    /// When it was drawn.
    drawn: Option<Instant>,
    changed: bool,
    /// Where all that the machine says is written to.
    record: String,
    full: FullScreen,
}

impl Screen {
    /// Whether standard output is a terminal that can be drawn on.
    pub fn fits() -> bool {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        std::io::stdout().is_terminal() && !dumb && size().is_ok_and(|size| !size.is_empty())
    }

    /// Takes the terminal's screen. All that the machine says is in a file of the name `record` too.
    pub fn new(raw: &RawTerminal, guests: Vec<String>, record: String) -> Result<Self> {
        let area = size()?;
        let full = FullScreen::enter(raw)?;
        // Its size is told, rather than asked for at each picture: it would be that of the terminal that controls the
        // process, which need not be standard output.
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let backend = CrosstermBackend::new(std::io::stdout());
        let terminal = Terminal::with_options(backend, options).context("drawing")?;
        let desk = Desk::new(guests, area);
        let modes = Modes::default();
        Ok(Self { desk, terminal, modes, drawn: None, changed: true, record, full })
    }
}

/// The size of the terminal that standard output is.
fn size() -> Result<Rect> {
    let size =
        rustix::termios::tcgetwinsize(std::io::stdout()).context("reading the terminal's size")?;
    Ok(Rect::new(0, 0, size.ws_col, size.ws_row))
}

impl Display for Screen {
    fn say(&mut self, model: &Model, said: &Said) -> Result<Vec<u8>> {
        self.changed = true;
        Ok(self.desk.say(model, said))
    }

    fn remark(&mut self, line: &str) -> Result<()> {
        self.changed = true;
        self.desk.remark(line);
        Ok(())
    }

    fn finish(&mut self, model: &Model) -> Result<()> {
        self.changed = true;
        self.desk.finish(model);
        Ok(())
    }

    fn shown(&self) -> Shown {
        self.desk.shown()
    }

    fn switch(&mut self, to: Shown) -> Result<()> {
        self.changed = true;
        self.desk.switch(to);
        Ok(())
    }

    fn follow(&mut self, guest: usize) -> Result<()> {
        self.switch(Shown::Guest(guest))
    }

    fn acted(&mut self, model: &Model, action: &Action) -> Result<()> {
        self.changed = true;
        self.desk.acted(model, action);
        Ok(())
    }

    fn no_such_guest(&mut self, _: &Model) -> Result<()> {
        self.changed = true;
        self.desk.no_such_guest();
        Ok(())
    }

    fn holds_output(&self) -> bool {
        false
    }

    fn state_changed(&mut self) {
        self.changed = true;
    }

    fn resized(&mut self) -> Result<()> {
        let area = size()?;
        self.terminal.resize(area).context("drawing")?;
        self.desk.resize(area);
        self.changed = true;
        Ok(())
    }

    fn draw(&mut self, model: &Model) -> Result<Option<Duration>> {
        if !self.changed {
            return Ok(None);
        }
        let left = self.drawn.map(|drawn| FRAME.saturating_sub(drawn.elapsed()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Ok(Some(left));
        }
        self.terminal.draw(|frame| draw::draw(&self.desk, model, frame)).context("drawing")?;
        let change = self.modes.change(Modes::wanted(&self.desk, model));
        let mut output = std::io::stdout().lock();
        output.write_all(change.as_bytes()).and_then(|()| output.flush()).context("drawing")?;
        (self.changed, self.drawn) = (false, Some(Instant::now()));
        Ok(None)
    }

    fn leave(self: Box<Self>, model: &Model) -> Result<()> {
        let Self { mut desk, terminal, full, record, .. } = *self;
        // It shows the cursor, and that on the screen that is left.
        drop(terminal);
        drop(full);
        let mut output = std::io::stdout().lock();
        for line in desk.left(model) {
            writeln!(output, "{line}").context("writing to standard output")?;
        }
        writeln!(output, "All that was said is in {record}").context("writing to standard output")
    }
}
