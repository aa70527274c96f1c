//! What the user's keys mean: most go to the guest, the escape key leads to a prompt.

/// Ctrl-], as in telnet: hardly any program in a guest uses it.
pub const ESCAPE: u8 = 0x1d;

/// What follows from keys.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// These bytes are for the guest.
    Send(Vec<u8>),
    /// Show the prompt and wait for one key.
    Prompt,
    /// Leave the prompt; back to the guest.
    Continue,
    /// Show the console of the guest with this place in the manifest, from 0.
    Guest(usize),
    /// Show the next guest's console.
    Next,
    /// Show the hypervisor's log.
    Log,
    /// Show the lines of all.
    All,
    /// Pause the guest, or let it go on.
    Pause,
    /// Stop the guest.
    Stop,
    /// Explain the keys of the prompt.
    Help,
    /// End the run.
    Quit,
}

/// The state between keys.
#[derive(Debug, Default)]
pub struct Keys {
    prompting: bool,
}

impl Keys {
    /// Whether the prompt is being shown.
    pub fn prompting(&self) -> bool {
        self.prompting
    }

    /// With the prompt being shown.
    pub fn at_prompt() -> Self {
        Self { prompting: true }
    }

    /// Takes keys that were typed.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut guest = Vec::new();
        for &byte in bytes {
            if self.prompting {
                let action = match byte {
                    b'q' | b'Q' => Action::Quit,
                    b'1'..=b'9' => Action::Guest(usize::from(byte - b'1')),
                    b'n' | b'N' | b'\t' => Action::Next,
                    b'l' | b'L' => Action::Log,
                    b'a' | b'A' => Action::All,
                    b'p' | b'P' => Action::Pause,
                    b's' | b'S' => Action::Stop,
                    // Twice the escape key is the escape key.
                    ESCAPE => {
                        actions.push(Action::Continue);
                        Action::Send(vec![ESCAPE])
                    }
                    b'c' | b'C' | b'\r' | b'\n' | 0x1b => Action::Continue,
                    _ => Action::Help,
                };
                self.prompting = action == Action::Help;
                actions.push(action);
            } else if byte == ESCAPE {
                if !guest.is_empty() {
                    actions.push(Action::Send(std::mem::take(&mut guest)));
                }
                self.prompting = true;
                actions.push(Action::Prompt);
            } else {
                guest.push(byte);
            }
        }
        if !guest.is_empty() {
            actions.push(Action::Send(guest));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_to_the_guest_control_keys_too() {
        assert_eq!(Keys::default().feed(b"ls\r\x03"), [Action::Send(b"ls\r\x03".to_vec())]);
    }

    #[test]
    fn the_escape_key_leads_out_and_back() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"a\x1d"), [Action::Send(b"a".to_vec()), Action::Prompt]);
        assert!(keys.prompting());
        assert_eq!(keys.feed(b"?"), [Action::Help]);
        assert_eq!(keys.feed(b"cb"), [Action::Continue, Action::Send(b"b".to_vec())]);
        assert_eq!(keys.feed(b"\x1dq"), [Action::Prompt, Action::Quit]);
    }

    #[test]
    fn the_prompt_has_a_key_for_each_view() {
        let keys = [
            (b'1', Action::Guest(0)),
            (b'9', Action::Guest(8)),
            (b'n', Action::Next),
            (b'\t', Action::Next),
            (b'l', Action::Log),
            (b'a', Action::All),
            (b'p', Action::Pause),
            (b's', Action::Stop),
        ];
        for (key, action) in keys {
            let mut keys = Keys::default();
            assert_eq!(keys.feed(&[ESCAPE, key]), [Action::Prompt, action]);
            assert!(!keys.prompting());
        }
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1d0"), [Action::Prompt, Action::Help]);
        assert!(keys.prompting());
    }

    #[test]
    fn the_escape_key_twice_is_for_the_guest() {
        let expected = [Action::Prompt, Action::Continue, Action::Send(vec![ESCAPE])];
        assert_eq!(Keys::default().feed(b"\x1d\x1d"), expected);
    }
}
