//! What the full-screen view holds: a pane for each channel, which of them is shown, and what is said below.

use bulkhead_life::Life;
use ratatui::layout::Rect;

use super::layout;
use super::notices::Notices;
use super::pane::Pane;
use crate::channels::{Channel, Said};
use crate::keys::{Action, Scroll};
use crate::session::Model;
use crate::view::{Shown, View};

/// Rows of a console that are left on the terminal.
const MOST_LEFT: usize = 10;

/// All of it, but for the terminal that it is drawn on.
pub struct Desk {
    guests: Vec<(String, Pane)>,
    log: Pane,
    all: Pane,
    /// Makes the lines of all.
    merged: View,
    shown: Shown,
    /// The log is shown until the guest that gets the keys says something.
    begins: bool,
    help: bool,
    /// What the log says below.
    pub notices: Notices,
    area: Rect,
}

impl Desk {
    /// For guests of these names, on a terminal of this size.
    pub fn new(names: Vec<String>, area: Rect) -> Self {
        let pane = layout::parts(area, names.iter().map(String::as_str)).pane;
        let mut merged = View::new(names.clone(), true);
        merged.switch(Shown::All);
        Self {
            guests: names.into_iter().map(|name| (name, Pane::new(pane))).collect(),
            log: Pane::new(pane),
            all: Pane::new(pane),
            merged,
            shown: Shown::Log,
            begins: true,
            help: false,
            notices: Notices::default(),
            area,
        }
    }

    /// What is shown.
    pub fn shown(&self) -> Shown {
        // It is that guest's console, of which there is nothing to see.
        if self.begins { Shown::Guest(0) } else { self.shown }
    }

    /// Whose pane is drawn.
    pub fn drawn(&self) -> Shown {
        self.shown
    }

    /// The pane of a channel.
    pub fn pane(&self, of: Shown) -> &Pane {
        match of {
            Shown::Guest(guest) => self.guests.get(guest).map_or(&self.log, |(_, pane)| pane),
            Shown::Log => &self.log,
            Shown::All | Shown::Stream => &self.all,
        }
    }

    fn pane_mut(&mut self, of: Shown) -> &mut Pane {
        match of {
            Shown::Guest(guest) => {
                self.guests.get_mut(guest).map_or(&mut self.log, |(_, pane)| pane)
            }
            Shown::Log => &mut self.log,
            Shown::All | Shown::Stream => &mut self.all,
        }
    }

    /// Where the parts of the view are.
    pub fn parts(&self) -> layout::Parts {
        layout::parts(self.area, self.guests.iter().map(|(name, _)| name.as_str()))
    }

    /// Whether the keys are explained.
    pub fn helps(&self) -> bool {
        self.help
    }

    /// Takes another size of the terminal.
    pub fn resize(&mut self, area: Rect) {
        self.area = area;
        let pane = self.parts().pane;
        for (_, guest) in &mut self.guests {
            guest.resize(pane);
        }
        self.log.resize(pane);
        self.all.resize(pane);
    }

    /// Takes a piece of a channel. Gives what a terminal answers to it.
    pub fn say(&mut self, model: &Model, said: &Said) -> Vec<u8> {
        let lines = self.merged.say(said);
        self.all.say(&lines);
        let answer = match &said.channel {
            Channel::Log => {
                self.log.say(&said.bytes);
                self.notices.say(&said.bytes, self.noticed(model));
                Vec::new()
            }
            Channel::Guest(name) => {
                let Some(guest) = self.guests.iter().position(|(known, _)| known == name) else {
                    return Vec::new();
                };
                if self.begins && guest == 0 {
                    (self.begins, self.shown) = (false, Shown::Guest(0));
                }
                self.guests[guest].1.say(&said.bytes)
            }
        };
        self.pane_mut(self.shown).see();
        answer
    }

    /// Takes a line that explains the log.
    pub fn remark(&mut self, line: &str) {
        self.log.say(format!("{line}\n").as_bytes());
        if !line.is_empty() {
            self.notices.keep(line.to_string());
        }
    }

    /// Takes that there is no more to come.
    pub fn finish(&mut self, model: &Model) {
        let lines = self.merged.finish();
        self.all.say(&lines);
        self.notices.end_line(self.noticed(model));
    }

    /// The guest on which the log is quoted: the one that is shown, or that gets the keys.
    fn noticed<'a>(&self, model: &'a Model) -> Option<&'a str> {
        match self.shown {
            Shown::Guest(guest) => model.states.name(guest),
            _ => model.input_name(),
        }
    }

    /// Shows something else.
    pub fn switch(&mut self, to: Shown) {
        (self.begins, self.shown) = (false, to);
        self.pane_mut(to).see();
    }

    /// Shows what has followed from keys.
    pub fn acted(&mut self, model: &Model, action: &Action) {
        match action {
            Action::Help => self.help = true,
            Action::Scroll(way) => {
                self.help = false;
                self.pane_mut(self.shown).scroll(*way);
            }
            Action::Choices(words) => self.notices.say_now(words.join("  "), false),
            Action::Prompt => self.notices.forget(),
            Action::Send(_) => {
                self.notices.forget();
                // What answers the keys is said below.
                self.pane_mut(self.shown).scroll(Scroll::Bottom);
            }
            Action::Command(_) | Action::Pause | Action::Stop => self.notices.ask(),
            Action::Continue
            | Action::Guest(_)
            | Action::Next
            | Action::Log
            | Action::All
            | Action::Line
            | Action::Quit => {}
        }
        self.help &= model.keys.prompting() && !model.keys.typing();
    }

    /// Says that a key was for a guest that there is not.
    pub fn no_such_guest(&mut self) {
        let count = self.guests.len();
        self.notices.say_now(format!("there are {count} guests: 1 to {count}"), true);
    }

    /// What is left on the terminal when the view goes: the end of the console that is shown, what matters of the log,
    /// and guests that have not ended.
    pub fn left(&mut self, model: &Model) -> Vec<String> {
        let mut left = Vec::new();
        if let Shown::Guest(guest) = self.shown {
            let rows = self.pane_mut(self.shown).last_rows(MOST_LEFT);
            let name = model.states.name(guest).unwrap_or_default();
            if !rows.is_empty() {
                left.push(format!("{name} said last:"));
                left.extend(rows.into_iter().map(|row| format!("  {row}")));
            }
        }
        left.extend(self.notices.kept().map(String::from));
        let ended =
            [Life::PoweredOff, Life::Stopped, Life::Faulted, Life::Defined, Life::Undefined];
        let running = model.states.iter().filter(|(_, state)| !ended.contains(state));
        left.extend(running.map(|(name, state)| format!("guest {name} was {state}")));
        left
    }
}
