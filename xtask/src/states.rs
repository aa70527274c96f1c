//! The states of the guests, as far as the hypervisor says them: in its log, or in answers to whoever commands it. Who
//! asked for them by the control protocol would be in the way of another client there.

use std::fmt;

use crate::console;

/// Where a guest is in its life. `kernel/src/control/life.rs` has what leads from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no cores and no memory.
    Undefined,
    /// It has never been started.
    Defined,
    /// Its cores wipe its memory and load its kernel.
    Starting,
    /// Its processors run.
    Running,
    /// They run, and it was asked to power itself off.
    Stopping,
    /// They stand still.
    Paused,
    /// They stand still, and its console is cut off.
    Quarantined,
    /// It will be started again after a while.
    Waiting,
    /// It has ended by itself.
    PoweredOff,
    /// The operator has ended it.
    Stopped,
    /// It was stopped for a fault, or could not be started.
    Faulted,
}

impl State {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Undefined,
        Self::Defined,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Paused,
        Self::Quarantined,
        Self::Waiting,
        Self::PoweredOff,
        Self::Stopped,
        Self::Faulted,
    ];

    /// The hypervisor's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Defined => "defined",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Quarantined => "quarantined",
            Self::Waiting => "waiting",
            Self::PoweredOff => "powered off",
            Self::Stopped => "stopped",
            Self::Faulted => "faulted",
        }
    }

    /// The state that a text begins with.
    fn beginning(text: &str) -> Option<Self> {
        let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', ',', ';', ':']);
        let fits = |state: &Self| text.strip_prefix(state.name()).is_some_and(ends);
        Self::ALL.into_iter().find(fits)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a line says of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is in this state.
    Is(State),
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
            "goes on" => Some((name, News::Is(State::Running))),
            "is destroyed" => Some((name, News::Is(State::Undefined))),
            rest if rest.starts_with("is told to stop") => Some((name, News::ToldToStop)),
            rest if rest.starts_with("is asked to power itself off") => {
                Some((name, News::Is(State::Stopping)))
            }
            rest => {
                let state = State::beginning(rest.strip_prefix("is ")?)?;
                Some((name, News::Is(state)))
            }
        };
    }
    let row = answer.strip_prefix("* ").or_else(|| answer.strip_prefix("  "))?;
    let (name, rest) = row.split_once(' ')?;
    Some((name, News::Is(State::beginning(rest.trim_start())?)))
}

/// What a refusal says: `cannot pause guest NAME: it is paused`.
fn refused(refusal: &str) -> Option<(&str, News)> {
    let (order, rest) = refusal.strip_prefix("cannot ")?.split_once(" guest ")?;
    let (name, why) = rest.split_once(": it is ")?;
    let state = match order {
        // It is so from now on, although its cores have not come to it.
        "pause" if why.starts_with("being started") => State::Paused,
        "quarantine" if why.starts_with("being started") => State::Quarantined,
        _ => State::beginning(why)?,
    };
    Some((name, News::Is(state)))
}

/// What the hypervisor reports by itself: `guest NAME: …`.
fn reported(text: &str) -> Option<(&str, News)> {
    if let Some(suspect) = text.strip_prefix("warning: ") {
        let (name, what) = suspect.strip_prefix("guest ")?.split_once(": ")?;
        return what
            .starts_with("is put into quarantine: ")
            .then_some((name, News::Is(State::Quarantined)));
    }
    let error = text.strip_prefix("error: ");
    let (name, what) = error.unwrap_or(text).strip_prefix("guest ")?.split_once(": ")?;
    let state = match what {
        // It was not tried.
        _ if what.starts_with("not started: has expired") => return None,
        _ if what.starts_with("destroyed: ") => State::Undefined,
        _ if error.is_some() && what.starts_with("not started: ") => State::Faulted,
        _ if error.is_some() && what.starts_with("stopped: ") => State::Faulted,
        _ if error.is_some() => return None,
        "powered off" => State::PoweredOff,
        // Where it starts again, the next line says so.
        "reset" => State::Stopped,
        _ if what.starts_with("asked for a reset; ") => State::PoweredOff,
        "stopped by the operator" | "stopped as it has expired" => State::Stopped,
        _ if what.starts_with("starts again in ") => State::Waiting,
        _ if what.starts_with("starting on core") => State::Starting,
        _ if what.starts_with("first instruction ") => State::Running,
        _ => return None,
    };
    Some((name, News::Is(state)))
}

/// The guests of a machine, in the order of the manifest, and their states.
#[derive(Debug, Default)]
pub struct States(Vec<(String, State)>);

impl States {
    /// Of guests that nothing has been said of.
    pub fn new(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| (name, State::Defined)).collect())
    }

    /// How many guests there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The guests' names and states.
    pub fn iter(&self) -> impl Iterator<Item = (&str, State)> {
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
    pub fn state(&self, guest: usize) -> Option<State> {
        self.0.get(guest).map(|(_, state)| *state)
    }

    /// Takes what a line said of a guest.
    pub fn heed(&mut self, name: &str, news: News) {
        let Some((_, state)) = self.0.iter_mut().find(|(known, _)| known == name) else { return };
        match news {
            News::Is(now) => *state = now,
            News::ToldToStop if *state == State::Waiting => *state = State::Stopped,
            // Its end is reported once it has left its cores.
            News::ToldToStop => {}
        }
    }

    /// Takes that a guest has said something: it runs. Only of its first start does the log say when.
    pub fn has_spoken(&mut self, name: &str) {
        if let Some((_, state)) = self.0.iter_mut().find(|(known, _)| known == name)
            && *state == State::Starting
        {
            *state = State::Running;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead::control::life::Life;

    #[test]
    fn the_words_are_the_hypervisors() {
        let words = Life::ALL.map(|life| life.to_string());
        assert_eq!(words, State::ALL.map(|state| state.to_string()));
    }

    #[test]
    fn what_lines_say_is_understood() {
        let is = |state| Some(News::Is(state));
        for (line, expected) in [
            ("guest a: starting on cores 1, 2", is(State::Starting)),
            ("guest a: first instruction 1,000 ticks after the", is(State::Running)),
            ("guest a: powered off", is(State::PoweredOff)),
            ("guest a: reset", is(State::Stopped)),
            (
                "guest a: asked for a reset; its restart policy is never: stopped",
                is(State::PoweredOff),
            ),
            ("guest a: stopped by the operator", is(State::Stopped)),
            ("guest a: stopped as it has expired", is(State::Stopped)),
            ("guest a: starts again in 4 s", is(State::Waiting)),
            ("guest a: is started by hand: start a", None),
            ("guest a: ran 5 ticks, of which 1 in 2 exits", None),
            ("error: guest a: stopped: triple fault", is(State::Faulted)),
            ("error: guest a: not started: core 1 is dead", is(State::Faulted)),
            ("error: guest a: not started: has expired, and on_expiry", None),
            ("error: guest a:   rip 0x1", None),
            ("warning: guest a: 5 bytes of its console were lost", None),
            ("console: guest a is paused, after 17 ticks", is(State::Paused)),
            ("console: guest a is quarantined, after 17 ticks", is(State::Quarantined)),
            ("console: guest a is paused", is(State::Paused)),
            ("console: guest a is powered off", is(State::PoweredOff)),
            ("console: guest a goes on", is(State::Running)),
            ("console: guest a is started", None),
            ("console: guest a is told to stop", Some(News::ToldToStop)),
            ("console: guest a is told to stop, as it was asked", Some(News::ToldToStop)),
            ("console: guest a is asked to power itself off, and is", is(State::Stopping)),
            ("console: guest a is destroyed", is(State::Undefined)),
            ("console: guest a is defined: core 1, 16 MiB at", is(State::Defined)),
            ("guest a: destroyed: core 1 and 16 MiB are free", is(State::Undefined)),
            ("error: guest a: destroyed: 16 MiB are lost until", is(State::Undefined)),
            ("warning: guest a: is put into quarantine: triple fault", is(State::Quarantined)),
            ("console: * a      powered off 1        16 MiB", is(State::PoweredOff)),
            ("console:   a      waiting     1        16 MiB", is(State::Waiting)),
            ("console:   NAME STATE       CORES", None),
            ("error: console: cannot pause guest a: it is quarantined", is(State::Quarantined)),
            ("error: console: cannot examine guest a: it is running; pause it", is(State::Running)),
            ("error: console: cannot pause guest a: it is being started, and", is(State::Paused)),
            ("error: console: cannot start guest a: it has expired, and", None),
            ("error: console: this takes an operator: sign in first", None),
        ] {
            assert_eq!(news(line), expected.map(|news| ("a", news)), "{line}");
        }
    }

    #[test]
    fn states_follow_what_is_said() {
        let mut states = States::new(vec!["a".into(), "b".into()]);
        states.has_spoken("a");
        assert_eq!(states.state(0), Some(State::Defined));
        states.heed("a", News::Is(State::Starting));
        states.has_spoken("b");
        states.has_spoken("a");
        states.heed("c", News::Is(State::Paused));
        let now: Vec<_> = states.iter().collect();
        assert_eq!(now, [("a", State::Running), ("b", State::Defined)]);
        states.heed("a", News::ToldToStop);
        assert_eq!(states.state(0), Some(State::Running));
        states.heed("a", News::Is(State::Waiting));
        states.heed("a", News::ToldToStop);
        assert_eq!(states.state(0), Some(State::Stopped));
        assert_eq!((states.count(), states.place("b"), states.name(1)), (2, Some(1), Some("b")));
    }
}
