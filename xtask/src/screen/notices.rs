//! Lines of the log that the user should see whatever is shown.

use std::collections::VecDeque;

use crate::console::{self, MARK};
use crate::states::{self, News};
use crate::view;
use bulkhead_life::Life;

/// Bytes of a line. The hypervisor's own lines are shorter.
const LONGEST: usize = 512;
/// Begins a line of which the user has nothing.
const IMAGE_BASE: &str = "bulkhead: image base ";
/// Begin lines that say that the hypervisor has failed, or does not start.
const FAILED: [&str; 3] = ["bulkhead: refused: ", "panic: ", "  backtrace: "];
/// Begins the last line of a run.
const ENDED: &str = "bulkhead: all guests stopped: ";
/// Lines of an answer.
const MOST_ANSWERED: usize = 200;
/// Lines that are left on the terminal.
const MOST_KEPT: usize = 100;

/// A line to be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// Whether something is wrong.
    pub bad: bool,
}

/// The lines, and those that were.
#[derive(Debug, Default)]
pub struct Notices {
    /// A line of the log that has begun.
    line: Vec<u8>,
    last: Option<Notice>,
    /// A command has been given, and its answer is looked for.
    asked: bool,
    answer: Vec<Notice>,
    kept: VecDeque<String>,
}

impl Notices {
    /// Takes a piece of the log, while this guest's console is looked at.
    pub fn say(&mut self, bytes: &[u8], guest: Option<&str>) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(guest);
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
    }

    /// Takes a line that has no end, for there is no more.
    pub fn end_line(&mut self, guest: Option<&str>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let marked = line.strip_prefix(MARK);
        let timed = console::text(line);
        let begins = |texts: &[&str]| {
            marked.is_some_and(|line| texts.iter().any(|text| line.starts_with(text)))
        };
        // Tools alone want to know this.
        if begins(&[IMAGE_BASE]) {
            return;
        }
        let failed = begins(&FAILED);
        if failed || begins(&[ENDED]) || timed.is_some_and(lasts) {
            self.keep(marked.unwrap_or(line).to_string());
        }
        if !view::concerns(line, guest) {
            return;
        }
        let text = marked.or(timed).unwrap_or(line);
        let error = text.strip_prefix("error: ");
        let bad = error.is_some() || failed;
        let text = match console::answer(text) {
            Some(Ok(text) | Err(text)) => text,
            None => error.unwrap_or(text),
        };
        self.tell(Notice { text: view::plain(text.as_bytes()), bad });
    }

    fn tell(&mut self, notice: Notice) {
        if self.asked && self.answer.len() < MOST_ANSWERED {
            self.answer.push(notice.clone());
        }
        self.last = Some(notice);
    }

    /// Has a line left on the terminal.
    pub fn keep(&mut self, line: String) {
        if self.kept.len() >= MOST_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// Says something that is not in the log.
    pub fn say_now(&mut self, text: String, bad: bool) {
        self.last = Some(Notice { text, bad });
    }

    /// A command is given: what comes next is its answer.
    pub fn ask(&mut self) {
        self.forget();
        self.asked = true;
    }

    /// The user has seen what there is.
    pub fn forget(&mut self) {
        (self.last, self.asked) = (None, false);
        self.answer.clear();
    }

    /// The last line.
    pub fn last(&self) -> Option<&Notice> {
        self.last.as_ref()
    }

    /// The lines of an answer, where there are several.
    pub fn answer(&self) -> &[Notice] {
        if self.answer.len() > 1 { &self.answer } else { &[] }
    }

    /// What matters when the screen is gone.
    pub fn kept(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(String::as_str)
    }
}

/// Whether a line of the log matters beyond the session: errors, warnings, how guests have ended and how long they ran.
fn lasts(text: &str) -> bool {
    let ended = matches!(
        states::news(text),
        Some((_, News::Is(Life::PoweredOff | Life::Stopped | Life::Faulted)))
    );
    match console::answer(text) {
        // The user has asked, and seen it.
        Some(_) => false,
        None => {
            let ran = text.starts_with("guest ") && text.contains(": ran ");
            ended || ran || text.starts_with("error: ") || text.starts_with("warning: ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(notices: &mut Notices, line: &str) {
        notices.say(format!("{line}\r\n").as_bytes(), Some("one"));
    }

    fn last(notices: &Notices) -> (&str, bool) {
        notices.last().map_or(("", false), |notice| (&notice.text, notice.bad))
    }

    #[test]
    fn what_concerns_the_guest_is_seen() {
        let mut notices = Notices::default();
        say(&mut notices, "[   1.000000] guest two: powered off");
        assert_eq!(notices.last(), None);
        say(&mut notices, "[   1.000000] guest one: powered off");
        assert_eq!(last(&notices), ("guest one: powered off", false));
        say(&mut notices, "[   1.000000] error: guest two: stopped: triple fault");
        assert_eq!(last(&notices), ("guest two: stopped: triple fault", true));
        say(&mut notices, "[   1.000000] error: console: no command");
        assert_eq!(last(&notices), ("no command", true));
        say(&mut notices, "\x1ebulkhead: refused: no VT-x");
        assert_eq!(last(&notices), ("bulkhead: refused: no VT-x", true));
        notices.forget();
        assert_eq!(notices.last(), None);
    }

    #[test]
    fn an_answer_is_seen_whole() {
        let mut notices = Notices::default();
        say(&mut notices, "[   1.000000] console: input goes to guest one");
        assert_eq!(notices.answer(), []);
        notices.ask();
        say(&mut notices, "[   1.000000] console:   NAME");
        assert_eq!(notices.answer(), [], "one line is the last line");
        say(&mut notices, "[   1.000000] console: * one");
        let answer: Vec<_> = notices.answer().iter().map(|line| line.text.as_str()).collect();
        assert_eq!(answer, ["  NAME", "* one"]);
        notices.ask();
        assert_eq!((notices.last(), notices.answer()), (None, [].as_slice()));
    }

    #[test]
    fn what_matters_is_kept() {
        let mut notices = Notices::default();
        for line in [
            "\x1ebulkhead: image base 0xffff800000000000",
            "[   1.000000] guest one: starting on core 1",
            "[   2.000000] error: console: no command",
            "[   2.000000] console: guest one is stopped",
            "[   2.000000] warning: guest two: 5 bytes of its console were lost",
            "[   3.000000] error: guest two: stopped: triple fault",
            "[   3.000000] guest one: powered off",
        ] {
            say(&mut notices, line);
        }
        notices.say(b"\x1ebulkhead: all guests stopped: 1 powered off, 1 faulted", None);
        notices.end_line(None);
        let kept: Vec<_> = notices.kept().collect();
        assert_eq!(
            kept,
            [
                "[   2.000000] warning: guest two: 5 bytes of its console were lost",
                "[   3.000000] error: guest two: stopped: triple fault",
                "[   3.000000] guest one: powered off",
                "bulkhead: all guests stopped: 1 powered off, 1 faulted",
            ]
        );
        for _ in 0..1000 {
            say(&mut notices, "[   3.000000] guest one: powered off");
        }
        assert_eq!(notices.kept().count(), MOST_KEPT);
    }
}
