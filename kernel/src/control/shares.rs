//! Who may use the serial port next: the log first, then the guests in turn, each with an equal share.
//!
//! A turn is `QUANTUM` bytes. It ends with a line, so that lines stay whole, but not for long: what goes
//! beyond the quantum, `LINE` bytes at most, is owed in the guest's next turns. In the middle of a line
//! the port waits for the rest of it, `LINGER` at most in a turn, and that time is paid for like bytes.

use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a guest's turn, the switch to it included.
const QUANTUM: i32 = 256;
/// Bytes that a turn may grow beyond its quantum for its last line to be whole.
const LINE: i32 = 256;
/// Microseconds in a turn for which the port waits for the rest of a line.
const LINGER: u64 = 5_000;
/// Microseconds in which the port sends a byte: 10 bits at 115,200 baud.
const BYTE_TIME: u64 = 87;

/// Who sends next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The log, up to the end of a line.
    Log,
    /// This guest, up to the end of a line.
    Guest(usize),
    /// Nobody has anything, or the rest of a line is waited for.
    Nobody,
}

/// The guests' shares of the port.
pub struct Shares {
    /// Bytes that each guest may still send in its turn; what it owes is below zero.
    credit: Vec<i32>,
    /// Whose turn it is.
    turn: usize,
    /// Its line has begun and not ended.
    mid_line: bool,
    /// Microseconds for which the port has waited for it in this turn.
    waited: u64,
    /// Since when it waits.
    since: Option<u64>,
}

impl Shares {
    /// Equal shares of so many guests.
    pub fn new(guests: usize) -> Self {
        Self { credit: vec![0; guests], turn: 0, mid_line: false, waited: 0, since: None }
    }

    /// Says who sends next. `now` is a time in microseconds, `log` whether the log has something to
    /// send, `pending` whether a guest has.
    pub fn next(&mut self, now: u64, log: bool, mut pending: impl FnMut(usize) -> bool) -> Next {
        let turn = self.turn;
        let credit = self.credit.get(turn).copied().unwrap_or(0);
        if self.mid_line && credit > -LINE {
            if pending(turn) {
                self.pay_for_waiting(now);
                return Next::Guest(turn);
            }
            if self.may_wait(now) {
                return Next::Nobody;
            }
        }
        self.pay_for_waiting(now);
        self.mid_line = false;
        if log {
            return Next::Log;
        }
        if credit > 0 && pending(turn) {
            return Next::Guest(turn);
        }
        self.next_turn(pending).map_or(Next::Nobody, Next::Guest)
    }

    /// The guest whose turn it is has sent something: what it cost, in bytes, and whether it ended a line.
    pub fn sent(&mut self, cost: usize, line_ended: bool) {
        self.charge(i32::try_from(cost).unwrap_or(i32::MAX));
        self.mid_line = !line_ended;
    }

    fn charge(&mut self, bytes: i32) {
        if let Some(credit) = self.credit.get_mut(self.turn) {
            *credit = credit.saturating_sub(bytes);
        }
    }

    /// The next guest in the circle that has something to send and does not owe too much.
    fn next_turn(&mut self, mut pending: impl FnMut(usize) -> bool) -> Option<usize> {
        let count = self.credit.len();
        // Twice round: nobody owes as much as two quanta.
        for step in 1..=2 * count {
            let guest = (self.turn + step) % count;
            if !pending(guest) {
                continue;
            }
            let credit = &mut self.credit[guest];
            *credit = credit.saturating_add(QUANTUM).min(QUANTUM);
            if *credit > 0 {
                (self.turn, self.waited) = (guest, 0);
                return Some(guest);
            }
        }
        None
    }

    fn may_wait(&mut self, now: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        self.waited + now.saturating_sub(since) < LINGER
    }

    fn pay_for_waiting(&mut self, now: u64) {
        let Some(since) = self.since.take() else { return };
        let waited = now.saturating_sub(since).min(LINGER);
        self.waited += waited;
        self.charge(i32::try_from(waited / BYTE_TIME).unwrap_or(i32::MAX));
    }
}

#[cfg(test)]
mod tests;
