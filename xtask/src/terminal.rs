//! The user's terminal in raw mode, and back again whatever happens.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::termios::{self, OptionalActions, OutputModes, Termios};

/// The mode to go back to. One for the process, as the terminal is: a panic restores it without
/// having the guard at hand.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether the whole screen is ours. One for the process, too.
static FULL: AtomicBool = AtomicBool::new(false);

/// To the alternate screen, which is empty, and from which one comes back to what was there.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[2J";
/// Back from it, without what programs in guests may have asked for: colours, another meaning of arrows and of the
/// keypad, pastes in brackets, no cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?1l\x1b>\x1b[?2004l\x1b[?25h\x1b[?1049l";

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

/// While this lives, the whole screen of the terminal is ours. Dropping it brings back what was there.
#[derive(Debug)]
pub struct FullScreen(());

impl FullScreen {
    /// Takes the screen of the terminal that standard output is. It must be in raw mode.
    pub fn enter(_: &RawTerminal) -> Result<Self> {
        FULL.store(true, Ordering::SeqCst);
        let full = Self(());
        write(ENTER).context("writing to the terminal")?;
        Ok(full)
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    if FULL.swap(false, Ordering::SeqCst) {
        // Without a terminal any more, there is nothing to bring back.
        let _ = write(LEAVE);
    }
}

/// Writes to standard output. Its lock is re-entrant: whoever panics may hold it.
fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()
}

/// Restores the terminal, if it is in raw mode, or its whole screen is ours.
pub fn restore() {
    leave();
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
