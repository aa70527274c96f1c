//! What the user sees, as text.

use bulkhead_life::Life;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::{Position, Rect};

use super::desk::Desk;
use super::draw;
use super::modes::Modes;
use crate::channels::{Channel, Said};
use crate::console::{Event, Watcher};
use crate::keys::Action;
use crate::session::Model;
use crate::states::News;
use crate::view::Shown;

/// A view, and the session that it shows.
struct Seen {
    desk: Desk,
    model: Model,
    terminal: Terminal<TestBackend>,
}

impl Seen {
    fn new(names: &[&str], width: u16, height: u16) -> Self {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let desk = Desk::new(names.clone(), Rect::new(0, 0, width, height));
        Self { desk, model: Model::new(names), terminal }
    }

    fn log(&mut self, line: &str) {
        let bytes = format!("{line}\r\n").into_bytes();
        for (_, event) in Watcher::default().feed(&bytes) {
            if let Event::Guest(name, news) = event {
                self.model.states.heed(&name, news);
            }
        }
        self.desk.say(&self.model, &Said { channel: Channel::Log, breaks_line: false, bytes });
    }

    fn guest(&mut self, name: &str, text: &str) {
        // The log says so before.
        if self.model.states.iter().any(|guest| guest == (name, Life::Starting)) {
            self.model.states.heed(name, News::Is(Life::Running));
        }
        let channel = Channel::Guest(name.into());
        self.desk.say(&self.model, &Said { channel, breaks_line: false, bytes: text.into() });
    }

    /// Presses keys, which say by themselves what is shown.
    fn press(&mut self, keys: &str) {
        for action in self.model.keys.feed(keys.as_bytes()) {
            match &action {
                Action::Guest(guest) if self.model.states.name(*guest).is_some() => {
                    self.model.input = *guest;
                    self.desk.switch(Shown::Guest(*guest));
                }
                Action::Guest(_) => self.desk.no_such_guest(),
                Action::Log => self.desk.switch(Shown::Log),
                Action::All => self.desk.switch(Shown::All),
                _ => {}
            }
            self.desk.acted(&self.model, &action);
        }
    }

    fn rows(&mut self) -> Vec<String> {
        self.terminal.draw(|frame| draw::draw(&self.desk, &self.model, frame)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_string()).collect()
    }

    fn cursor(&mut self) -> Position {
        self.terminal.draw(|frame| draw::draw(&self.desk, &self.model, frame)).unwrap();
        self.terminal.backend().cursor_position()
    }
}

fn two() -> Seen {
    let mut seen = Seen::new(&["one", "two"], 60, 8);
    seen.log("[   1.000000] guest one: starting on core 1");
    seen.log("[   1.000000] guest two: starting on core 2");
    seen
}

#[test]
fn the_log_is_seen_until_the_first_guest_speaks() {
    let mut seen = two();
    seen.guest("two", "hello from two\r\n");
    assert_eq!(
        seen.rows(),
        [
            ">1 one starting    │[   1.000000] guest one: starting on cor",
            " 2 two running    *│e 1",
            " l log             │[   1.000000] guest two: starting on cor",
            " a all             │e 2",
            "                   │",
            "                   │",
            "guest one: starting on core 1",
            "the log is shown; keys go to one; Ctrl-] leads out",
        ]
    );
    seen.guest("one", "hello from one\r\n$ ");
    assert_eq!(
        seen.rows(),
        [
            ">1 one running     │hello from one",
            " 2 two running    *│$",
            " l log             │",
            " a all             │",
            "                   │",
            "                   │",
            "guest one: starting on core 1",
            "keys go to one; Ctrl-] leads out",
        ]
    );
    assert_eq!(seen.cursor(), Position::new(22, 1));
}

#[test]
fn another_console_is_chosen_and_what_was_not_seen_is_marked() {
    let mut seen = two();
    seen.guest("one", "1\r\n");
    seen.guest("two", "2\r\n");
    seen.press("\x1d");
    assert_eq!(seen.rows()[6..], ["", "q quit  c back  ? help  1-9 guest  l log  a all  p pause"]);
    seen.press("2");
    seen.guest("one", "more\r\n");
    let rows = seen.rows();
    assert_eq!(rows[0], " 1 one running    *│2");
    assert_eq!(rows[1], ">2 two running     │");
    assert_eq!(rows[7], "keys go to two; Ctrl-] leads out");
    seen.press("\x1da");
    let rows = seen.rows();
    assert!(rows.iter().any(|row| row.ends_with("│one: more")), "{rows:?}");
    assert_eq!(rows[7], "the lines of all are shown; keys go to two; Ctrl-] leads out");
    seen.press("\x1d7");
    assert_eq!(seen.rows()[6], "there are 2 guests: 1 to 2");
}

#[test]
fn states_are_seen() {
    let mut seen = two();
    seen.log("[   2.000000] guest one: first instruction 5 ticks after");
    seen.log("[   3.000000] console: guest one is paused, after 17 ticks");
    seen.log("[   3.000000] error: guest two: stopped: triple fault");
    assert!(seen.rows()[0].starts_with(">1 one paused      │"));
    assert!(seen.rows()[1].starts_with(" 2 two faulted     │"));
    assert_eq!(seen.rows()[6], "guest two: stopped: triple fault");
    seen.press("\x1d");
    let mut wide = Seen::new(&["one"], 100, 4);
    wide.log("[   3.000000] console: guest one is paused, after 17 ticks");
    wide.press("\x1d");
    assert_eq!(
        wide.rows()[3],
        "q quit  c back  ? help  1-9 guest  l log  a all  p resume  s stop  : command  PgUp what was said"
    );
    // A refusal to pause it says what it is.
    seen.log("[   4.000000] error: console: cannot pause guest one: it is quarantined");
    assert!(seen.rows()[0].starts_with(">1 one quarantined │"));
    seen.log("[   4.000000] guest one: stopped by the operator");
    assert!(seen.rows()[0].starts_with(">1 one stopped     │"));
    let left = seen.desk.left(&seen.model);
    assert_eq!(
        left,
        [
            "[   3.000000] error: guest two: stopped: triple fault",
            "[   4.000000] guest one: stopped by the operator",
        ]
    );
    wide.guest("one", "$ poweroff\r\n");
    wide.log("[   5.000000] guest one: ran 5 ticks, of which 1 in 2 exits");
    assert_eq!(
        wide.desk.left(&wide.model),
        [
            "one said last:",
            "  $ poweroff",
            "[   5.000000] guest one: ran 5 ticks, of which 1 in 2 exits",
            "guest one was paused",
        ]
    );
}

#[test]
fn a_command_is_typed_and_answered() {
    let mut seen = two();
    seen.guest("one", "$ ");
    seen.press("\x1d:st\t");
    assert_eq!(seen.rows()[6..], ["start  stop", ": st"]);
    assert_eq!(seen.cursor(), Position::new(4, 7));
    seen.press("\x15sign-in anna secret");
    assert_eq!(seen.rows()[7], ": sign-in anna ******");
    seen.press("\x15list\r");
    seen.log("[   5.000000] console:   NAME STATE");
    seen.log("[   5.000000] console: * one  running");
    assert_eq!(
        seen.rows(),
        [
            ">1 one running     │$",
            " 2 two starting    │",
            " l log            *│",
            " a all             │────────────────────────────────────────",
            "                   │  NAME STATE",
            "                   │* one  running",
            "",
            "keys go to one; Ctrl-] leads out",
        ]
    );
    for _ in 0..5 {
        seen.log("[   5.000000] console:   two  running");
    }
    assert_eq!(seen.rows()[5], "                   │6 more lines are in the log");
    // What is typed next is about something else.
    seen.press("x");
    assert_eq!(
        seen.rows()[3..7],
        [" a all             │", "                   │", "                   │", ""]
    );
}

#[test]
fn one_looks_back_at_the_prompt() {
    let mut seen = two();
    for line in 1..=20 {
        seen.guest("one", &format!("line {line}\r\n"));
    }
    seen.press("\x1d\x1b[5~");
    let rows = seen.rows();
    assert_eq!(rows[0], ">1 one running     │line 11");
    assert_eq!(rows[6].trim_start(), "5 lines back");
    // Beside it one sees what is typed, where that is answered.
    seen.press("cx");
    assert_eq!(seen.rows()[4], "                   │line 20");
}

#[test]
fn keys_are_explained() {
    let mut seen = Seen::new(&["one"], 80, 24);
    seen.press("\x1d?");
    let rows = seen.rows().join("\n");
    for (key, meaning) in crate::keys::HELP {
        assert!(rows.contains(&format!("│{key:<7} {meaning}")), "{rows}");
    }
    seen.press("c");
    assert!(!seen.rows().join("\n").contains("end the machine"));
}

#[test]
fn any_size_can_be_drawn() {
    let mut seen = Seen::new(&["one", "a-name-that-is-too-long"], 80, 8);
    seen.guest("one", "$ ");
    assert!(seen.rows()[1].starts_with(" 2 a-name-that-is-… defined"));
    for (width, height) in [(0, 0), (1, 1), (5, 2), (40, 3), (200, 60)] {
        for keys in ["x", "\x1d", "?", ":list\r", "\x1dl", "\x1d1", "\x1d:x", "\x03"] {
            seen.press(keys);
            seen.log("[   5.000000] console:   NAME STATE");
            seen.terminal.backend_mut().resize(width, height);
            seen.terminal.resize(Rect::new(0, 0, width, height)).unwrap();
            seen.desk.resize(Rect::new(0, 0, width, height));
            assert_eq!(seen.rows().len(), usize::from(height));
        }
    }
    assert!(seen.rows()[0].ends_with("│$"));
}

#[test]
fn the_terminal_sends_keys_as_the_guest_wants_them() {
    let mut seen = two();
    let mut modes = Modes::default();
    let mut change = |seen: &Seen| modes.change(Modes::wanted(&seen.desk, &seen.model));
    seen.guest("one", "\x1b[?1h\x1b[?2004h");
    assert_eq!(change(&seen), "\x1b[?1h\x1b[?2004h");
    assert_eq!(change(&seen), "");
    seen.press("\x1d");
    assert_eq!(change(&seen), "\x1b[?1l\x1b[?2004l");
    seen.press("c");
    assert_eq!(change(&seen), "\x1b[?1h\x1b[?2004h");
    seen.press("\x1d2");
    assert_eq!(change(&seen), "\x1b[?1l\x1b[?2004l");
}
