//! What a program in a guest asks of the keyboard, passed on to the user's terminal: it is that which sends the keys.

use super::desk::Desk;
use crate::session::Model;
use crate::view::Shown;

/// How the terminal sends keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes {
    /// DECCKM: arrows are `ESC O A` rather than `ESC [ A`.
    cursor: bool,
    /// DECKPAM: the keypad sends sequences rather than digits.
    keypad: bool,
    /// What is pasted is between brackets.
    brackets: bool,
}

impl Modes {
    /// Those that the guest wants that keys go to; none of them while keys do not go there.
    pub fn wanted(desk: &Desk, model: &Model) -> Self {
        if model.keys.prompting() {
            return Self::default();
        }
        let screen = desk.pane(Shown::Guest(model.input)).screen();
        Self {
            cursor: screen.application_cursor(),
            keypad: screen.application_keypad(),
            brackets: screen.bracketed_paste(),
        }
    }

    /// Changes to others. Gives what tells the terminal.
    pub fn change(&mut self, to: Self) -> String {
        let from = std::mem::replace(self, to);
        let mut text = String::new();
        for (was, is, on, off) in [
            (from.cursor, to.cursor, "\x1b[?1h", "\x1b[?1l"),
            (from.keypad, to.keypad, "\x1b=", "\x1b>"),
            (from.brackets, to.brackets, "\x1b[?2004h", "\x1b[?2004l"),
        ] {
            if was != is {
                text.push_str(if is { on } else { off });
            }
        }
        text
    }
}
