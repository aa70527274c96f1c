//! What the ways of showing a session have in common.

use std::time::Duration;

use anyhow::Result;

use crate::channels::Said;
use crate::keys::{Action, Keys};
use crate::states::States;
use crate::view::Shown;

/// What is so whichever way it is shown.
#[derive(Debug)]
pub struct Model {
    /// The guests, in the order of the manifest.
    pub states: States,
    /// What keys mean now.
    pub keys: Keys,
    /// The guest that gets what is typed.
    pub input: usize,
}

impl Model {
    /// A session with guests of these names.
    pub fn new(guests: Vec<String>) -> Self {
        Self { keys: Keys::new(guests.clone()), states: States::new(guests), input: 0 }
    }

    /// The name of the guest that gets what is typed.
    pub fn input_name(&self) -> Option<&str> {
        self.states.name(self.input)
    }
}

/// A way of showing a session.
pub trait Display {
    /// Shows a piece of a channel. A piece of the log does not go on behind a line that means something. Gives what a
    /// terminal has to say to it: for the guest.
    fn say(&mut self, model: &Model, said: &Said) -> Result<Vec<u8>>;

    /// Shows a line that explains the log.
    fn remark(&mut self, line: &str) -> Result<()>;

    /// Shows what was held back of lines that are not whole: there will be no more.
    fn finish(&mut self, model: &Model) -> Result<()>;

    /// What is shown.
    fn shown(&self) -> Shown;

    /// Shows something else.
    fn switch(&mut self, to: Shown) -> Result<()>;

    /// Shows another guest's console from now on, as the one that was shown has stopped.
    fn follow(&mut self, guest: usize) -> Result<()>;

    /// Shows what has followed from keys.
    fn acted(&mut self, model: &Model, action: &Action) -> Result<()>;

    /// Says that a key was for a guest that there is not.
    fn no_such_guest(&mut self, model: &Model) -> Result<()>;

    /// Whether the machine's output waits while the prompt is shown.
    fn holds_output(&self) -> bool;

    /// Heeds that a guest is in another state, of which the log says nothing.
    fn state_changed(&mut self);

    /// Heeds that the terminal has another size.
    fn resized(&mut self) -> Result<()>;

    /// Brings up to date what is drawn as a whole. Gives how long that can wait, if it is not to be done at once.
    fn draw(&mut self, model: &Model) -> Result<Option<Duration>>;

    /// Goes, and leaves on the terminal what matters beyond the session.
    fn leave(self: Box<Self>, model: &Model) -> Result<()>;
}
