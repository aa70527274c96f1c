//! Taking a guest out of its place, and giving it another.

use super::{Cores, Guest, Refusal, Wanted, partition};
use crate::control::audit;
use crate::control::commands::Manner;
use crate::control::estate::{CannotDefine, Estate};
use crate::control::plan::{Definition, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_life::Event;
use bulkhead_manifest::Size;
use core::fmt;
use log::{error, info};

/// A parked core answers within a hundredth of a second.
const ANSWERS_IN_A_SECOND: u64 = 100;

/// Why a guest is not defined.
#[derive(Debug)]
pub enum NotDefined {
    /// Its state.
    Refusal(Refusal),
    /// It cannot have what is wanted for it.
    Cannot(CannotDefine),
}

impl fmt::Display for NotDefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => write!(f, "it {refusal}"),
            Self::Cannot(error) => error.fmt(f),
        }
    }
}

impl Guest {
    /// Ends its run, if it has one, and takes its cores and its memory away: at once, or when its processors have left.
    /// Says whether that has been done.
    ///
    /// # Errors
    /// If it has no place.
    pub fn destroy(&mut self, estate: &mut Estate) -> Result<bool, Refusal> {
        if self.life.is_active() {
            self.stop(Manner::Now)?;
            self.wanted = Wanted::Destroy;
            return Ok(false);
        }
        if self.life.after(Event::Destroy).is_none() {
            return Err(Refusal::Life(self.life));
        }
        self.vacate(estate);
        Ok(true)
    }

    /// Takes its cores and its memory away. None of its processors may be left.
    pub(super) fn vacate(&mut self, estate: &mut Estate) {
        let Some(place) = self.definition.place.take() else { return };
        // It has no processor now, so nothing of the last run is left on a core.
        self.run = Arc::new(partition(&self.definition));
        let (cores, memory) = (place.cores.clone(), Size(place.memory));
        let name = &self.definition.name;
        let limit = self.definition.clock.rates.tsc_hz / ANSWERS_IN_A_SECOND;
        match estate.take_back(place, limit) {
            Ok(()) => {
                info!("guest {name}: destroyed: {} and {memory} are free", Cores(&cores));
            }
            Err(_) => {
                error!(
                    "guest {name}: destroyed: {memory} are lost until the next boot, as a core has failed"
                );
                audit::record(audit::HYPERVISOR, format_args!("has lost {memory} of {name}'s"));
            }
        }
        // It has ended, or was never started.
        let _ = self.go(Event::Destroy);
    }
}

/// Gives the guest at `index`, which has none, a place: with the cores and the memory of its manifest where others are not
/// wanted.
///
/// # Errors
/// Why not; nothing has changed then.
pub fn define<'a>(
    guests: &'a mut [Guest],
    index: usize,
    estate: &mut Estate,
    wanted: (Option<bulkhead_manifest::Cores>, Option<u64>),
) -> Result<&'a Place, NotDefined> {
    let guest = &guests[index];
    if guest.life.after(Event::Define).is_none() {
        return Err(NotDefined::Refusal(Refusal::HasPlace(guest.life)));
    }
    let (cores, memory) = guest.definition.wanted.clone();
    let wanted = (wanted.0.unwrap_or(cores), wanted.1.unwrap_or(memory));
    let others: Vec<&Definition> =
        guests.iter().filter(|other| other.name() != guest.name()).map(Guest::definition).collect();
    let place = estate
        .give(&guest.definition, others.iter().copied(), wanted)
        .map_err(NotDefined::Cannot)?;
    let guest = &mut guests[index];
    guest.definition.place = Some(place);
    guest.run = Arc::new(partition(&guest.definition));
    // It was undefined.
    let _ = guest.go(Event::Define);
    guest.definition.place.as_ref().ok_or(NotDefined::Refusal(Refusal::Life(guest.life)))
}
