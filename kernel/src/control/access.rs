//! Who is signed in at which console, and what he may do there.
//!
//! All of it is here, with the time as a number, so that it can be tested where there is no console.

use alloc::vec::Vec;
use bulkhead_operators::{Memory, Operator, Role, verify};
use core::fmt;

/// After so many seconds without a command an operator is signed out.
pub const IDLE_SECONDS: u64 = 10 * 60;
/// The longest wait after a wrong password, in seconds. Waits grow from 1 s, twofold.
const LONGEST_WAIT: u64 = 64;

/// The operators, and who of them is at which of `N` consoles.
pub struct Access<const N: usize> {
    operators: Vec<Operator>,
    memory: Memory,
    seats: [Seat; N],
}

/// What is known of a console.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    present: Option<Present>,
    /// Wrong passwords since the last right one.
    wrong: u32,
    /// Before this second no password is looked at.
    not_before: u64,
}

/// Who is there.
#[derive(Clone, Copy, Debug)]
struct Present {
    /// His place among the operators.
    operator: usize,
    /// The second at which he signed in.
    since: u64,
    /// The second of his last command.
    last: u64,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The manifest has no operators: what is more than looking is nobody's.
    NobodyMay(Role),
    /// Nobody is signed in.
    SignIn,
    /// Who is signed in has the first role, and the second is needed.
    Role(Role, Role),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyMay(needed) => write!(
                f,
                "this takes the role {needed}, and the manifest has no [[operator]]: without one guests can be looked at only"
            ),
            Self::SignIn => f.write_str("sign in first: sign-in NAME PASSWORD"),
            Self::Role(is, needed) => {
                write!(f, "this takes the role {needed}; you are signed in as {is}")
            }
        }
    }
}

/// Why somebody is not signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSignedIn {
    /// The manifest has no operators.
    NoOperators,
    /// There is no such operator, or this is not his password. So many seconds have to pass before the next try.
    Wrong(u64),
    /// So many seconds have still to pass. The password was not looked at.
    Wait(u64),
}

impl fmt::Display for NotSignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOperators => {
                f.write_str("nobody can sign in: the manifest has no [[operator]]")
            }
            Self::Wrong(wait) => {
                write!(f, "the name or the password is wrong; try again in {wait} s")
            }
            Self::Wait(wait) => write!(
                f,
                "the password was not looked at: after a wrong one there is a wait, of which {wait} s are left"
            ),
        }
    }
}

/// Who has signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// What he may do.
    pub role: Role,
    /// Wrong passwords at this console since the last right one.
    pub wrong: u32,
}

impl<const N: usize> Access<N> {
    /// Nobody is signed in.
    pub fn new(operators: Vec<Operator>) -> Self {
        let memory = Memory::for_hashes(operators.iter().map(|operator| operator.hash.as_str()));
        Self { operators, memory, seats: [Seat::default(); N] }
    }

    /// Whether what takes this role may be done at a console, now, in seconds since some start. To whoever is signed
    /// in there it counts as a command.
    ///
    /// # Errors
    /// Why not.
    pub fn may(&mut self, seat: usize, needed: Role, now: u64) -> Result<(), Denied> {
        if self.operators.is_empty() {
            return if needed == Role::Viewer { Ok(()) } else { Err(Denied::NobodyMay(needed)) };
        }
        let Some(present) = self.seats[seat].present.as_mut() else { return Err(Denied::SignIn) };
        present.last = now;
        match self.operators[present.operator].role {
            role if role >= needed => Ok(()),
            role => Err(Denied::Role(role, needed)),
        }
    }

    /// Signs somebody in at a console; `now` tells the time, of which the password's check takes some. Who was signed in there no longer is, whether the password is right or not.
    ///
    /// # Errors
    /// Why not.
    pub fn sign_in(
        &mut self,
        seat: usize,
        name: &str,
        password: &[u8],
        now: impl Fn() -> u64,
    ) -> Result<SignedIn, NotSignedIn> {
        let Some(first) = self.operators.first() else { return Err(NotSignedIn::NoOperators) };
        let found = self.operators.iter().position(|operator| operator.name == name);
        let seat = &mut self.seats[seat];
        seat.present = None;
        let begun = now();
        if begun < seat.not_before {
            return Err(NotSignedIn::Wait(seat.not_before - begun));
        }
        // Also if there is no such operator, so that the time does not tell which there are.
        let operator = found.map_or(first, |operator| &self.operators[operator]);
        let right = verify(&operator.hash, password, &mut self.memory);
        let now = now();
        match found.filter(|_| right) {
            Some(operator) => {
                let wrong = core::mem::take(&mut seat.wrong);
                seat.present = Some(Present { operator, since: now, last: now });
                Ok(SignedIn { role: self.operators[operator].role, wrong })
            }
            None => {
                let wait = 1_u64.checked_shl(seat.wrong).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
                seat.wrong = seat.wrong.saturating_add(1);
                seat.not_before = now.saturating_add(wait);
                Err(NotSignedIn::Wrong(wait))
            }
        }
    }

    /// Signs out whoever is at a console. Gives his name.
    pub fn sign_out(&mut self, seat: usize) -> Option<&str> {
        let present = self.seats[seat].present.take()?;
        Some(&self.operators[present.operator].name)
    }

    /// Signs out one who has given no command for [`IDLE_SECONDS`]. Gives his console and his name; there may be more.
    pub fn expire(&mut self, now: u64) -> Option<(usize, &str)> {
        let idle = |present: &Present| now.saturating_sub(present.last) >= IDLE_SECONDS;
        let seat = self.seats.iter().position(|seat| seat.present.as_ref().is_some_and(idle))?;
        self.sign_out(seat).map(|name| (seat, name))
    }

    /// Who is signed in at a console, his role, and the second since when.
    pub fn who(&self, seat: usize) -> Option<(&str, Role, u64)> {
        let present = self.seats[seat].present?;
        let operator = &self.operators[present.operator];
        Some((&operator.name, operator.role, present.since))
    }

    /// Whether there is an operator of this name. For the audit trail: what is none may be a password in the wrong place.
    pub fn is_operator(&self, name: &str) -> bool {
        self.operators.iter().any(|operator| operator.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_operators::{Cost, make};
    use std::format;
    use std::vec;

    fn operator(name: &str, role: Role) -> Operator {
        let password = format!("{name}'s password");
        let hash = make(password.as_bytes(), b"sixteen bytes...", Cost::LEAST).unwrap();
        Operator { name: name.into(), role, hash }
    }

    fn access() -> Access<2> {
        Access::new(vec![
            operator("vera", Role::Viewer),
            operator("olga", Role::Operator),
            operator("anna", Role::Administrator),
        ])
    }

    #[test]
    fn without_operators_guests_can_be_looked_at_and_not_touched() {
        let mut access = Access::<1>::new(vec![]);
        assert_eq!(access.may(0, Role::Viewer, 0), Ok(()));
        for role in [Role::Operator, Role::Administrator] {
            assert_eq!(access.may(0, role, 0), Err(Denied::NobodyMay(role)));
        }
        assert_eq!(access.sign_in(0, "", b"", || 0), Err(NotSignedIn::NoOperators));
    }

    #[test]
    fn a_role_may_what_it_and_lower_ones_may() {
        let mut access = access();
        assert_eq!(access.may(0, Role::Viewer, 0), Err(Denied::SignIn));
        for (name, role) in
            [("vera", Role::Viewer), ("olga", Role::Operator), ("anna", Role::Administrator)]
        {
            let password = format!("{name}'s password");
            let signed = access.sign_in(0, name, password.as_bytes(), || 0);
            assert_eq!(signed, Ok(SignedIn { role, wrong: 0 }));
            assert_eq!(access.who(0), Some((name, role, 0)));
            for needed in Role::ALL {
                let may = if needed <= role { Ok(()) } else { Err(Denied::Role(role, needed)) };
                assert_eq!(access.may(0, needed, 0), may);
            }
            // Nobody else's console.
            assert_eq!(access.may(1, Role::Viewer, 0), Err(Denied::SignIn));
        }
        assert_eq!(access.sign_out(0), Some("anna"));
        assert_eq!(access.sign_out(0), None);
        assert_eq!(access.who(0), None);
        assert_eq!(access.may(0, Role::Viewer, 0), Err(Denied::SignIn));
    }

    #[test]
    fn wrong_passwords_are_delayed_and_counted() {
        let mut access = access();
        let mut now = 5;
        for wait in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(access.sign_in(0, "anna", b"guess", || now), Err(NotSignedIn::Wrong(wait)));
            // Not even the right one is looked at, and it does not lengthen the wait.
            for left in [wait, 1] {
                let soon = access.sign_in(0, "anna", b"anna's password", || now + wait - left);
                assert_eq!(soon, Err(NotSignedIn::Wait(left)));
            }
            now += wait;
        }
        // The other console does not wait.
        assert!(access.sign_in(1, "anna", b"anna's password", || now - 1).is_ok());
        let signed = access.sign_in(0, "anna", b"anna's password", || now);
        assert_eq!(signed, Ok(SignedIn { role: Role::Administrator, wrong: 8 }));
        assert_eq!(access.sign_in(0, "anna", b"guess", || now), Err(NotSignedIn::Wrong(1)));
        assert_eq!(access.may(0, Role::Viewer, now), Err(Denied::SignIn), "who was there is out");
    }

    #[test]
    fn anothers_password_and_nobodys_name_are_wrong() {
        let mut access = access();
        for (name, password) in [("vera", "anna's password"), ("nobody", "vera's password")] {
            let signed = access.sign_in(0, name, password.as_bytes(), || 100);
            assert!(matches!(signed, Err(NotSignedIn::Wrong(_))));
            access = self::access();
        }
        assert!(access.is_operator("vera") && !access.is_operator("vera's password"));
    }

    #[test]
    fn who_does_nothing_is_signed_out() {
        let mut access = access();
        access.sign_in(0, "vera", b"vera's password", || 10).unwrap();
        access.sign_in(1, "anna", b"anna's password", || 10).unwrap();
        assert_eq!(access.may(1, Role::Viewer, 20), Ok(()));
        assert_eq!(access.expire(9 + IDLE_SECONDS), None);
        assert_eq!(access.expire(10 + IDLE_SECONDS), Some((0, "vera")));
        assert_eq!(access.expire(10 + IDLE_SECONDS), None);
        assert_eq!(access.expire(20 + IDLE_SECONDS), Some((1, "anna")));
    }
}
