//! The states of the guests, as far as the hypervisor says them: in its log, or in answers to whoever commands it. Who
//! asked for them by the control protocol would be in the way of another client there.

use bulkhead_life::Life;

use crate::console;

/// What a line says of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is in this state.
    Is(Life),
    /// It is told to stop, and has stopped unless it has cores to leave.
    ToldToStop,
}

/// What the text of a line of the log, without its time, says of which guest.
pub fn news(text: &str) -> Option<(&str, News)> {
    match console::answer(text) {
        Some(Ok(answer)) => answered(answer),
        Some(Err(refusal)) => refused(refusal),
        None => reported(text),
    }
}

/// What an answer says: to an order, to `info`, or a row of `list`.
fn answered(answer: &str) -> Option<(&str, News)> {
    if let Some((name, rest)) = answer.strip_prefix("guest ").and_then(|rest| rest.split_once(' '))
    {
        return match rest {
            "goes on" => Some((name, News::Is(Life::Running))),
            "is destroyed" => Some((name, News::Is(Life::Undefined))),
            rest if rest.starts_with("is told to stop") => Some((name, News::ToldToStop)),
            rest if rest.starts_with("is asked to power itself off") => {
                Some((name, News::Is(Life::Stopping)))
            }
            rest => {
                let state = beginning(rest.strip_prefix("is ")?)?;
                Some((name, News::Is(state)))
            }
        };
    }
    let row = answer.strip_prefix("* ").or_else(|| answer.strip_prefix("  "))?;
    let (name, rest) = row.split_once(' ')?;
    Some((name, News::Is(beginning(rest.trim_start())?)))
}

/// What a refusal says: `cannot pause guest NAME: it is paused`.
fn refused(refusal: &str) -> Option<(&str, News)> {
    let (_, rest) = refusal.strip_prefix("cannot ")?.split_once(" guest ")?;
    let (name, why) = rest.split_once(": it is ")?;
    Some((name, News::Is(beginning(why)?)))
}

/// The state that a text begins with.
fn beginning(text: &str) -> Option<Life> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', ',', ';', ':']);
    let fits = |state: &Life| text.strip_prefix(state.name()).is_some_and(ends);
    Life::ALL.into_iter().find(fits)
}

/// What the hypervisor reports by itself: `guest NAME: …`.
fn reported(text: &str) -> Option<(&str, News)> {
    if let Some(suspect) = text.strip_prefix("warning: ") {
        let (name, what) = suspect.strip_prefix("guest ")?.split_once(": ")?;
        return what
            .starts_with("is put into quarantine: ")
            .then_some((name, News::Is(Life::Quarantined)));
    }
    let error = text.strip_prefix("error: ");
    let (name, what) = error.unwrap_or(text).strip_prefix("guest ")?.split_once(": ")?;
    let state = match what {
        // It was not tried.
        _ if what.starts_with("not started: has expired") => return None,
        _ if what.starts_with("destroyed: ") => Life::Undefined,
        _ if error.is_some() && what.starts_with("not started: ") => Life::Faulted,
        _ if error.is_some() && what.starts_with("stopped: ") => Life::Faulted,
        _ if error.is_some() => return None,
        "powered off" => Life::PoweredOff,
        // Where it starts again, the next line says so.
        "reset" => Life::Stopped,
        _ if what.starts_with("asked for a reset; ") => Life::PoweredOff,
        "stopped by the operator" | "stopped as it has expired" => Life::Stopped,
        _ if what.starts_with("starts again in ") => Life::Waiting,
        _ if what.starts_with("starting on core") => Life::Starting,
        _ if what.starts_with("first instruction ") => Life::Running,
        _ => return None,
    };
    Some((name, News::Is(state)))
}

/// The guests of a machine, in the order of the manifest, and their states.
#[derive(Debug, Default)]
pub struct States(Vec<(String, Life)>);

impl States {
    /// Of guests that nothing has been said of.
    pub fn new(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| (name, Life::Defined)).collect())
    }

    /// How many guests there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The guests' names and states.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Life)> {
        self.0.iter().map(|(name, state)| (name.as_str(), *state))
    }

    /// The name of a guest.
    pub fn name(&self, guest: usize) -> Option<&str> {
        self.0.get(guest).map(|(name, _)| name.as_str())
    }

    /// The place of a guest.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// The state of a guest.
    pub fn state(&self, guest: usize) -> Option<Life> {
        self.0.get(guest).map(|(_, state)| *state)
    }

    /// Takes what a line said of a guest.
    pub fn heed(&mut self, name: &str, news: News) {
        let Some((_, state)) = self.0.iter_mut().find(|(known, _)| known == name) else { return };
        match news {
            News::Is(now) => *state = now,
            News::ToldToStop if *state == Life::Waiting => *state = Life::Stopped,
            // Its end is reported once it has left its cores.
            News::ToldToStop => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lines_say_is_understood() {
        let is = |state| Some(News::Is(state));
        for (line, expected) in [
            ("guest a: starting on cores 1, 2", is(Life::Starting)),
            ("guest a: first instruction 1,000 ticks after the", is(Life::Running)),
            ("guest a: first instruction 1,000 ticks after its", is(Life::Running)),
            ("guest a: powered off", is(Life::PoweredOff)),
            ("guest a: reset", is(Life::Stopped)),
            (
                "guest a: asked for a reset; its restart policy is never: stopped",
                is(Life::PoweredOff),
            ),
            ("guest a: stopped by the operator", is(Life::Stopped)),
            ("guest a: stopped as it has expired", is(Life::Stopped)),
            ("guest a: starts again in 4 s", is(Life::Waiting)),
            ("guest a: is started by hand: start a", None),
            ("guest a: ran 5 ticks, of which 1 in 2 exits", None),
            ("error: guest a: stopped: triple fault", is(Life::Faulted)),
            ("error: guest a: not started: core 1 is dead", is(Life::Faulted)),
            ("error: guest a: not started: has expired, and on_expiry", None),
            ("error: guest a:   rip 0x1", None),
            ("warning: guest a: 5 bytes of its console were lost", None),
            ("console: guest a is paused, after 17 ticks", is(Life::Paused)),
            ("console: guest a is quarantined, after 17 ticks", is(Life::Quarantined)),
            ("console: guest a is paused", is(Life::Paused)),
            ("console: guest a is powered off", is(Life::PoweredOff)),
            ("console: guest a goes on", is(Life::Running)),
            ("console: guest a is started", None),
            ("console: guest a is told to stop", Some(News::ToldToStop)),
            ("console: guest a is told to stop, as it was asked", Some(News::ToldToStop)),
            ("console: guest a is asked to power itself off, and is", is(Life::Stopping)),
            ("console: guest a is destroyed", is(Life::Undefined)),
            ("console: guest a is defined: core 1, 16 MiB at", is(Life::Defined)),
            ("guest a: destroyed: core 1 and 16 MiB are free", is(Life::Undefined)),
            ("error: guest a: destroyed: 16 MiB are lost until", is(Life::Undefined)),
            ("warning: guest a: is put into quarantine: triple fault", is(Life::Quarantined)),
            ("console: * a      powered off 1        16 MiB", is(Life::PoweredOff)),
            ("console:   a      waiting     1        16 MiB", is(Life::Waiting)),
            ("console:   NAME STATE       CORES", None),
            ("error: console: cannot pause guest a: it is quarantined", is(Life::Quarantined)),
            ("error: console: cannot examine guest a: it is running; pause it", is(Life::Running)),
            ("console: guest a is paused: it is being loaded, and stands", is(Life::Paused)),
            ("error: console: cannot start guest a: it has expired, and", None),
            ("error: console: this takes an operator: sign in first", None),
        ] {
            assert_eq!(news(line), expected.map(|news| ("a", news)), "{line}");
        }
    }

    #[test]
    fn states_follow_what_is_said() {
        let mut states = States::new(vec!["a".into(), "b".into()]);
        assert_eq!(states.state(0), Some(Life::Defined));
        states.heed("a", News::Is(Life::Running));
        states.heed("c", News::Is(Life::Paused));
        let now: Vec<_> = states.iter().collect();
        assert_eq!(now, [("a", Life::Running), ("b", Life::Defined)]);
        states.heed("a", News::ToldToStop);
        assert_eq!(states.state(0), Some(Life::Running));
        states.heed("a", News::Is(Life::Waiting));
        states.heed("a", News::ToldToStop);
        assert_eq!(states.state(0), Some(Life::Stopped));
        assert_eq!((states.count(), states.place("b"), states.name(1)), (2, Some(1), Some("b")));
    }
}
