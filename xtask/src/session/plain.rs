//! Plain streams: what is said is written as it comes, and the prompt between it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};

use super::display::{Display, Model};
use crate::channels::Said;
use crate::keys::{Action, HELP};
use crate::view::{Shown, View};

/// Writes to standard output.
#[derive(Debug)]
pub(super) struct Plain(View);

impl Plain {
    /// For guests of these names; on a terminal, or not.
    pub(super) fn new(guests: Vec<String>, terminal: bool) -> Self {
        Self(View::new(guests, terminal))
    }
}

impl Display for Plain {
    fn say(&mut self, _: &Model, said: &Said) -> Result<Vec<u8>> {
        show(&self.0.say(said))?;
        // The terminal itself sees what is shown, and its answer comes as if it were typed.
        Ok(Vec::new())
    }

    fn remark(&mut self, line: &str) -> Result<()> {
        show(format!("{line}\n").as_bytes())
    }

    fn finish(&mut self, _: &Model) -> Result<()> {
        show(&self.0.finish())
    }

    fn shown(&self) -> Shown {
        self.0.shown()
    }

    fn switch(&mut self, to: Shown) -> Result<()> {
        show(&self.0.switch(to))
    }

    fn follow(&mut self, guest: usize) -> Result<()> {
        // The end of the one that has stopped stays on the screen.
        self.0.follow(guest);
        Ok(())
    }

    fn acted(&mut self, model: &Model, action: &Action) -> Result<()> {
        match action {
            Action::Prompt => show(prompt(model).as_bytes()),
            Action::Help => {
                let lines = HELP.map(|(key, meaning)| format!("\r\n  {key:<7} {meaning}"));
                show(format!("{}{}", lines.concat(), prompt(model)).as_bytes())
            }
            Action::Line => show(line(model).as_bytes()),
            Action::Choices(words) => {
                show(format!("\r\n  {}\r\n{}", words.join("  "), line(model)).as_bytes())
            }
            Action::Continue | Action::Pause | Action::Stop | Action::Command(_) | Action::Quit => {
                show(b"\r\n")
            }
            // Terminals can look back by themselves.
            Action::Scroll(_) => Ok(()),
            Action::Send(_) | Action::Guest(_) | Action::Next | Action::Log | Action::All => Ok(()),
        }
    }

    fn no_such_guest(&mut self, model: &Model) -> Result<()> {
        let count = model.states.count();
        show(format!("\r\nthere are {count} guests: 1 to {count}{}", prompt(model)).as_bytes())
    }

    fn holds_output(&self) -> bool {
        true
    }

    fn state_changed(&mut self) {}

    fn resized(&mut self) -> Result<()> {
        Ok(())
    }

    fn draw(&mut self, _: &Model) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn leave(self: Box<Self>, _: &Model) -> Result<()> {
        Ok(())
    }
}

/// The prompt; it names the guest where there are several.
fn prompt(model: &Model) -> String {
    let keys = match model.input_name() {
        Some(name) if model.states.count() > 1 => format!("keys go to {name}; "),
        _ => String::new(),
    };
    format!("\r\n[bulkhead: {keys}q quit, c continue, ? help] ")
}

/// The command that is typed, in place of what was there of it.
fn line(model: &Model) -> String {
    format!("\r\x1b[K[bulkhead] {}", model.keys.line())
}

fn show(bytes: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("writing to standard output")
}
