//! Answers that are not given at once. Those that have a part for each guest are given a guest at a time: so the longest one
//! needs no more memory than that of one guest, and waits for its reader where the service core does not.

use super::commands::Form;
use super::dump::Dump;
use super::guest::Guest;
use super::inventory::{self, Columns};
use super::json;
use super::recall::Recall;
use super::top::Top;
use alloc::boxed::Box;

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// What guests are and do.
    List,
    /// What they are made of.
    Inventory,
}

/// What comes of a step of a long answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Something was said, and there is more.
    More,
    /// There is more, but nothing was said.
    Soon,
    /// There is nothing to say now.
    Later,
    /// That was all.
    Done,
}

/// An answer that has not been said whole.
pub enum Rest {
    /// About all guests.
    Listing(Listing),
    /// What they do.
    Top(Top),
    /// What is in the memory of one.
    Dump(Box<Dump>),
    /// What the log has said.
    Recall(Recall),
}

impl Rest {
    /// Says more of it, if there is more now; what is typed goes to guest `attached`.
    pub fn step(&mut self, guests: &[Guest], attached: usize) -> Step {
        match self {
            Self::Listing(listing) => listing.step(guests, attached),
            Self::Top(top) => top.step(guests),
            Self::Dump(dump) => dump.step(guests),
            Self::Recall(recall) => recall.step(),
        }
    }
}

/// An answer that has a part for each guest.
pub struct Listing {
    what: What,
    form: Form,
    columns: Columns,
    /// The guest that is next.
    next: usize,
}

impl Listing {
    /// An answer of which nothing has been said.
    pub fn new(what: What, form: Form, guests: &[Guest]) -> Self {
        Self { what, form, columns: Columns::of(guests), next: 0 }
    }

    /// Says what there is to say of the next guest.
    fn step(&mut self, guests: &[Guest], attached: usize) -> Step {
        let Some(guest) = guests.get(self.next) else { return Step::Done };
        let first = self.next == 0;
        let attached = self.next == attached;
        self.next += 1;
        match (self.what, self.form) {
            (What::List, Form::Table) => {
                if first {
                    inventory::list_head(self.columns);
                }
                inventory::list(guest, attached, self.columns);
            }
            (What::List, Form::Json) => json::list(guest, attached),
            (What::Inventory, Form::Table) => inventory::inventory(guest),
            (What::Inventory, Form::Json) => json::inventory(guest),
        }
        Step::More
    }
}
