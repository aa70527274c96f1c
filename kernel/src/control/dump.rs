//! A guest's memory, streamed to a program: piece by piece, as fast as that reads.

use super::answers::{answer, refuse};
use super::audit;
use super::guest::Guest;
use super::listing::Step;
use crate::guest::examine::{Answer, Question, Scan};
use crate::memory::GuestPhysical;
use bulkhead_control::dump::{PIECE, Pieces};

/// An answer to `dump` on its way.
pub struct Dump {
    /// The guest's position.
    guest: usize,
    /// Its [`Guest::moves`] when the dump began.
    moves: u64,
    /// The guest-physical address from which on nothing has been looked at.
    next: u64,
    pieces: Pieces,
}

impl Dump {
    /// A dump of the guest at this position, of which nothing has been said.
    pub fn new(position: usize, guest: &Guest) -> Self {
        Self { guest: position, moves: guest.moves(), next: 0, pieces: Pieces::default() }
    }

    /// Says the next piece, if one is found soon; at the end, sums up.
    pub fn step(&mut self, guests: &[Guest]) -> Step {
        let Some(guest) = guests.get(self.guest) else { return Step::Done };
        let name = guest.name();
        if guest.moves() != self.moves {
            refuse(format_args!("the dump of guest {name} is not whole: it has moved since"));
            return Step::Done;
        }
        match guest.examine(0, Question::Piece(GuestPhysical::new(self.next))) {
            Ok(Answer::Piece(Scan::Found(piece))) => {
                self.pieces.add(&piece);
                self.next = piece.at.saturating_add(PIECE as u64);
                answer(format_args!("{piece}"));
                Step::More
            }
            Ok(Answer::Piece(Scan::NoneBefore(next))) => {
                self.next = next;
                Step::Soon
            }
            Ok(Answer::Piece(Scan::End(end))) => {
                let sum = self.pieces.sum(end);
                answer(format_args!("{sum}"));
                audit::record("guest", format_args!("{name} was {sum}"));
                Step::Done
            }
            Ok(_) => {
                refuse(format_args!("guest {name} has answered another question: a defect"));
                Step::Done
            }
            Err(why) => {
                refuse(format_args!("cannot dump guest {name}: it {why}"));
                Step::Done
            }
        }
    }
}
