//! Answers that have a part for each guest, given a guest at a time: so the longest one needs no more memory than that of
//! one guest, and waits for its reader where the service core does not.

use super::commands::Form;
use super::guest::Guest;
use super::inventory::{self, Columns};

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// What guests are and do.
    List,
    /// What they are made of.
    Inventory,
}

/// An answer that has not been said whole.
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

    /// Says what there is to say of the next guest; what is typed goes to guest `attached`. Says whether there was one.
    pub fn step(&mut self, guests: &[Guest], attached: usize) -> bool {
        let Some(guest) = guests.get(self.next) else { return false };
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
            (What::List, Form::Json) => inventory::list_json(guest, attached),
            (What::Inventory, Form::Table) => inventory::inventory(guest),
            (What::Inventory, Form::Json) => inventory::inventory_json(guest),
        }
        true
    }
}
