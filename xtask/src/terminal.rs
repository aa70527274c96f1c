//! The user's terminal in raw mode, and back again whatever happens.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::termios::{self, OptionalActions, OutputModes, Termios};

/// The mode to go back to. One for the process, as the terminal is: a panic restores it without
/// having the guard at hand.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// While this lives, each key reaches us at once, uninterpreted. Dropping it restores the terminal.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Switches standard input to raw mode, if it is a terminal.
    pub fn enter() -> Result<Option<Self>> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&input).context("reading the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        // Line ends are still completed: log and guests may send a bare line feed.
        raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        restore_on_panic();
        termios::tcsetattr(&input, OptionalActions::Now, &raw)
            .context("switching the terminal to raw mode")?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, if it is in raw mode.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Without a terminal any more, there is nothing to restore.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
}

/// Restores the terminal before a panic's message is printed, so that it can be read.
fn restore_on_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let inner = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            inner(panic);
        }));
    });
}
