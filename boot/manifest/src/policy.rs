//! Which guests may be on a machine together, and how much of it each owner may have.

use crate::limits::{self, MAX_CLASSES, MAX_QUOTAS};
use crate::size::Size;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The classes of a machine, and which may be on it together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The classes that there are; see [`limits::is_class`].
    pub classes: Vec<String>,
    /// Sets of classes, bit *n* for `classes[n]`: two guests of different classes may be together if one of the sets has
    /// both.
    pub together: Vec<u32>,
}

/// How much of a machine the guests of an owner may have in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The owner, as guests name him.
    pub owner: String,
    /// Cores.
    pub cores: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Guests.
    pub guests: Option<u32>,
}

/// What is asked of a guest here.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whom it belongs to.
    pub owner: &'a str,
    /// Its class.
    pub classification: &'a str,
    /// How many cores it has.
    pub cores: u32,
    /// Bytes of its memory.
    pub memory: u64,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Cores.
    Cores,
    /// Bytes of memory.
    Memory,
    /// Guests.
    Guests,
}

/// Why these guests may not be on this machine, or its rules are none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyFault {
    /// A class's name.
    #[error("policy: class \"{}\" must be {}", .0.escape_debug(), limits::CLASS_RULE)]
    Class(String),
    /// Too many classes, or sets of them.
    #[error("policy: {0} classes or sets of them, at most {MAX_CLASSES} are allowed")]
    TooManyClasses(usize),
    /// A set, as it is in the bundle, has a class that is none.
    #[error("policy: together has {0:#b}, and there are fewer classes")]
    NoSuchClass(u32),
    /// A guest's class is none.
    #[error("guest \"{guest}\": classification = \"{class}\": the policy's classes are {classes}")]
    UnknownClass {
        /// The guest.
        guest: String,
        /// Its class.
        class: String,
        /// Those that there are.
        classes: String,
    },
    /// Two guests may not be together.
    #[error(
        "guests \"{one}\" ({class}) and \"{other}\" ({other_class}) may not be on one machine: policy: no set of together has both \"{class}\" and \"{other_class}\""
    )]
    Apart {
        /// The first guest.
        one: String,
        /// Its class.
        class: String,
        /// The second.
        other: String,
        /// Its class.
        other_class: String,
    },
    /// Too many quotas.
    #[error("{0} quotas, at most {MAX_QUOTAS} are allowed")]
    TooManyQuotas(usize),
    /// An owner has two.
    #[error("quota of \"{}\": there is another; an owner has one", .0.escape_debug())]
    DuplicateQuota(String),
    /// A quota that limits nothing.
    #[error("quota of \"{}\" limits nothing; give it cores, memory or guests", .0.escape_debug())]
    EmptyQuota(String),
    /// A quota's owner cannot be one.
    #[error("the owner of a quota must be {}", limits::OWNER_RULE)]
    QuotaOwner,
    /// An owner's guests ask for more than he may have.
    #[error(
        "guest \"{guest}\" is too much for its owner \"{owner}\": {} would be in use, and the quota is {}",
        Amount(*.limited, *.asked), Amount(*.limited, *.quota)
    )]
    Quota {
        /// The first guest that is too much.
        guest: String,
        /// Its owner.
        owner: String,
        /// What there is too little of.
        limited: Limited,
        /// How much his guests would have.
        asked: u64,
        /// How much they may.
        quota: u64,
    },
}

struct Amount(Limited, u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(limited, amount) = *self;
        let plural = if amount == 1 { "" } else { "s" };
        match limited {
            Limited::Cores => write!(f, "{amount} core{plural}"),
            Limited::Memory => Size(amount).fmt(f),
            Limited::Guests => write!(f, "{amount} guest{plural}"),
        }
    }
}

impl Policy {
    /// Whether guests of two classes may be on the machine together.
    pub fn allows(&self, one: &str, other: &str) -> bool {
        let both = self.set_of([one, other]);
        one == other || both.is_some_and(|both| self.together.iter().any(|set| set & both == both))
    }

    /// The set of these classes; `None` if one of them is none.
    pub fn set_of<'a>(&self, classes: impl IntoIterator<Item = &'a str>) -> Option<u32> {
        classes.into_iter().try_fold(0, |set, class| {
            let place = self.classes.iter().position(|each| each == class)?;
            Some(set | 1_u32.checked_shl(u32::try_from(place).ok()?)?)
        })
    }

    fn check(&self) -> Result<(), PolicyFault> {
        for count in [self.classes.len(), self.together.len()] {
            if count > MAX_CLASSES {
                return Err(PolicyFault::TooManyClasses(count));
            }
        }
        if let Some(class) = self.classes.iter().find(|class| !limits::is_class(class)) {
            return Err(PolicyFault::Class(class.clone()));
        }
        let beyond =
            |set: &&u32| set.checked_shr(self.classes.len() as u32).is_some_and(|set| set != 0);
        match self.together.iter().find(beyond) {
            Some(set) => Err(PolicyFault::NoSuchClass(*set)),
            None => Ok(()),
        }
    }
}

/// Whether these guests may be on one machine.
///
/// # Errors
/// The first rule that is broken.
pub fn check<'a>(
    policy: Option<&Policy>,
    quotas: &[Quota],
    guests: impl Iterator<Item = Subject<'a>> + Clone,
) -> Result<(), PolicyFault> {
    if let Some(policy) = policy {
        policy.check()?;
        check_classes(policy, guests.clone())?;
    }
    check_quotas(quotas)?;
    for (count, guest) in (1..).zip(guests.clone()) {
        let earlier = guests.clone().take(count);
        within(quotas, guest.owner, earlier).map_err(|over| over.of(guest))?;
    }
    Ok(())
}

fn check_classes<'a>(
    policy: &Policy,
    guests: impl Iterator<Item = Subject<'a>> + Clone,
) -> Result<(), PolicyFault> {
    for (place, guest) in guests.clone().enumerate() {
        if !policy.classes.iter().any(|class| class == guest.classification) {
            return Err(PolicyFault::UnknownClass {
                guest: guest.name.into(),
                class: guest.classification.into(),
                classes: policy.classes.join(", "),
            });
        }
        let apart =
            |other: &Subject<'_>| !policy.allows(other.classification, guest.classification);
        if let Some(other) = guests.clone().take(place).find(apart) {
            return Err(PolicyFault::Apart {
                one: other.name.into(),
                class: other.classification.into(),
                other: guest.name.into(),
                other_class: guest.classification.into(),
            });
        }
    }
    Ok(())
}

fn check_quotas(quotas: &[Quota]) -> Result<(), PolicyFault> {
    if quotas.len() > MAX_QUOTAS {
        return Err(PolicyFault::TooManyQuotas(quotas.len()));
    }
    for (place, quota) in quotas.iter().enumerate() {
        if !limits::is_owner(&quota.owner) {
            return Err(PolicyFault::QuotaOwner);
        }
        if quotas.iter().take(place).any(|other| other.owner == quota.owner) {
            return Err(PolicyFault::DuplicateQuota(quota.owner.clone()));
        }
        if quota.cores.is_none() && quota.memory.is_none() && quota.guests.is_none() {
            return Err(PolicyFault::EmptyQuota(quota.owner.clone()));
        }
    }
    Ok(())
}

/// An owner's guests ask for more than he may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    limited: Limited,
    asked: u64,
    quota: u64,
}

impl Over {
    /// The message, with the guest that is too much.
    pub fn of(self, guest: Subject<'_>) -> PolicyFault {
        let Self { limited, asked, quota } = self;
        let (guest, owner) = (guest.name.into(), guest.owner.into());
        PolicyFault::Quota { guest, owner, limited, asked, quota }
    }
}

/// Whether an owner may have those of these guests that are his.
///
/// # Errors
/// What there is too little of.
pub fn within<'a>(
    quotas: &[Quota],
    owner: &str,
    guests: impl Iterator<Item = Subject<'a>> + Clone,
) -> Result<(), Over> {
    let Some(quota) = quotas.iter().find(|quota| quota.owner == owner) else { return Ok(()) };
    let his = guests.filter(|guest| guest.owner == owner);
    let sum = |of: fn(&Subject<'_>) -> u64| {
        his.clone().fold(0_u64, |sum, guest| sum.saturating_add(of(&guest)))
    };
    let limits = [
        (Limited::Cores, quota.cores.map(u64::from), sum(|guest| guest.cores.into())),
        (Limited::Memory, quota.memory, sum(|guest| guest.memory)),
        (Limited::Guests, quota.guests.map(u64::from), sum(|_| 1)),
    ];
    for (limited, quota, asked) in limits {
        if let Some(quota) = quota.filter(|quota| asked > *quota) {
            return Err(Over { limited, asked, quota });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn subject<'a>(name: &'a str, owner: &'a str, classification: &'a str) -> Subject<'a> {
        Subject { name, owner, classification, cores: 2, memory: 64 << 20 }
    }

    fn policy() -> Policy {
        let classes = ["public", "internal", "secret"].map(ToString::to_string);
        Policy { classes: classes.to_vec(), together: vec![0b011] }
    }

    fn said(policy: Option<&Policy>, quotas: &[Quota], guests: &[Subject<'_>]) -> String {
        check(policy, quotas, guests.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn classes_that_may_not_be_together_are_named_with_their_guests() {
        let policy = policy();
        let [a, b, c] = [("a", "public"), ("b", "internal"), ("c", "secret")]
            .map(|(name, class)| subject(name, "me", class));
        let check = |guests: &[Subject<'_>]| check(Some(&policy), &[], guests.iter().copied());
        assert_eq!(check(&[a, b, a]), Ok(()));
        assert_eq!(check(&[c, c]), Ok(()));
        assert_eq!(
            said(Some(&policy), &[], &[a, b, c]),
            "guests \"a\" (public) and \"c\" (secret) may not be on one machine: policy: no set of \
             together has both \"public\" and \"secret\""
        );
        assert_eq!(
            said(Some(&policy), &[], &[subject("d", "me", "private")]),
            "guest \"d\": classification = \"private\": the policy's classes are public, internal, secret"
        );
        // Without a policy any may be with any.
        assert_eq!(super::check(None, &[], [a, b, c].into_iter()), Ok(()));
    }

    #[test]
    fn a_policy_has_rules_of_its_own() {
        let mut bad = policy();
        assert_eq!(bad.set_of(["secret", "public"]), Some(0b101));
        assert_eq!(bad.set_of(["secret", "private"]), None);
        bad.together.push(0b1001);
        let none = "policy: together has 0b1001, and there are fewer classes";
        assert_eq!(said(Some(&bad), &[], &[]), none);
        bad.classes.push("Private\x1b".into());
        assert!(said(Some(&bad), &[], &[]).starts_with("policy: class \"Private\\u{1b}\" must be"));
        bad.classes = vec!["x".into(); MAX_CLASSES + 1];
        assert!(said(Some(&bad), &[], &[]).contains("at most 32 are allowed"));
    }

    #[test]
    fn an_owner_has_no_more_than_the_quota() {
        let quota = Quota { owner: "me".into(), cores: Some(4), memory: None, guests: None };
        let [a, b, c] = ["a", "b", "c"].map(|name| subject(name, "me", "x"));
        let other = subject("o", "other", "x");
        let fits = |quota: &Quota, guests: &[Subject<'_>]| {
            check(None, core::slice::from_ref(quota), guests.iter().copied()).is_ok()
        };
        assert!(fits(&quota, &[a, b, other, other, other]));
        assert_eq!(
            said(None, core::slice::from_ref(&quota), &[a, other, b, c]),
            "guest \"c\" is too much for its owner \"me\": 6 cores would be in use, and the quota is 4 cores"
        );
        let memory = Quota { cores: None, memory: Some(100 << 20), ..quota.clone() };
        assert!(
            said(None, &[memory], &[a, b])
                .ends_with("128 MiB would be in use, and the quota is 100 MiB")
        );
        let guests = Quota { cores: None, guests: Some(1), ..quota.clone() };
        assert!(
            said(None, &[guests], &[a, b])
                .ends_with("2 guests would be in use, and the quota is 1 guest")
        );
        let empty = Quota { cores: None, ..quota.clone() };
        assert_eq!(
            said(None, &[empty], &[]),
            "quota of \"me\" limits nothing; give it cores, memory or guests"
        );
        assert!(said(None, &[quota.clone(), quota], &[]).contains("there is another"));
    }
}
