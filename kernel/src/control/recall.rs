//! The newest lines of the log, for whoever did not read the port.

use super::answers::answer;
use super::kept::LONGEST;
use super::listing::Step;
use super::log as console;

/// An answer to `log` on its way.
pub struct Recall {
    /// The byte of the log at which the next line begins.
    next: u64,
    /// What was written later is not said.
    end: u64,
}

impl Recall {
    /// The lines up to now, none of them said.
    pub fn up_to_now() -> Self {
        Self { next: 0, end: console::written() }
    }

    /// Says the next line.
    pub fn step(&mut self) -> Step {
        let mut line = [0; LONGEST];
        let Some((len, next)) = console::kept_line(self.next, &mut line) else { return Step::Done };
        if next > self.end {
            return Step::Done;
        }
        self.next = next;
        let text = core::str::from_utf8(&line[..len]).unwrap_or("(not text)");
        if is_answer(text) {
            return Step::Soon;
        }
        answer(format_args!("{text}"));
        Step::More
    }
}

/// Whether a line of the log answers a command. What an administrator was shown of a guest is not for everybody who may
/// see the log.
fn is_answer(line: &str) -> bool {
    let text = line.split_once("] ").map_or(line, |(_, text)| text);
    text.trim_start_matches("error: ").starts_with("console: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_happened() {
        assert!(is_answer("[   5.120034] console:   rip 0000000000200000"));
        assert!(is_answer("[   5.120034] error: console: cannot stop"));
        assert!(!is_answer("[   5.120034] guest one: powered off"));
        assert!(!is_answer("[   5.120034] error: guest one: stopped: triple fault"));
    }
}
