use super::*;
use crate::device::queue::ByteQueue;
use proptest::prelude::*;
use std::vec::Vec;

/// What a piece has at most: a transmitter FIFO.
const PIECE: usize = 16;
/// How far apart the bytes of two guests may be that always have something to send.
const BOUND: usize = (QUANTUM + LINE) as usize + PIECE;

/// Guests with output, and what the port got of it.
struct Port {
    shares: Shares,
    guests: Vec<ByteQueue>,
    sent: Vec<Vec<u8>>,
    /// Who sent each piece.
    order: Vec<usize>,
    now: u64,
}

impl Port {
    fn new(guests: usize) -> Self {
        let queue = || ByteQueue::new(1 << 20);
        Self {
            shares: Shares::new(guests),
            guests: (0..guests).map(|_| queue()).collect(),
            sent: vec![Vec::new(); guests],
            order: Vec::new(),
            now: 0,
        }
    }

    fn write(&mut self, guest: usize, bytes: &[u8]) {
        assert_eq!(self.guests[guest].push_slice(bytes), bytes.len());
    }

    fn next(&mut self, log: bool) -> Next {
        let guests = &self.guests;
        self.shares.next(self.now, log, |guest| !guests[guest].is_empty())
    }

    /// Sends a piece; says whose.
    fn step(&mut self) -> Next {
        let next = self.next(false);
        if let Next::Guest(guest) = next {
            let mut piece = [0; PIECE];
            let len = self.guests[guest].pop_line(&mut piece);
            assert!(len > 0, "guest {guest} has nothing");
            self.shares.sent(len, piece[len - 1] == b'\n');
            self.sent[guest].extend_from_slice(&piece[..len]);
            self.order.push(guest);
            self.now += len as u64 * BYTE_TIME;
        }
        next
    }
}

#[test]
fn the_log_comes_first_but_not_into_a_line() {
    let mut port = Port::new(1);
    assert_eq!(port.next(true), Next::Log);
    port.write(0, b"a line that is longer than a piece\nanother\n");
    assert_eq!(port.next(true), Next::Log);
    assert_eq!(port.step(), Next::Guest(0));
    // The rest of the line, then the log, then the next line.
    assert_eq!(port.next(true), Next::Guest(0));
    while !port.sent[0].ends_with(b"\n") {
        port.step();
    }
    assert_eq!(port.next(true), Next::Log);
    assert_eq!(port.step(), Next::Guest(0));
}

#[test]
fn the_log_waits_for_no_endless_line() {
    let mut port = Port::new(1);
    port.write(0, &[b'x'; 10_000]);
    port.step();
    let mut pieces = 0;
    while port.next(true) != Next::Log {
        port.step();
        pieces += 1;
    }
    assert!(pieces * PIECE <= BOUND, "{pieces}");
}

#[test]
fn without_guests_there_is_the_log() {
    assert_eq!(Port::new(0).next(true), Next::Log);
    assert_eq!(Port::new(0).next(false), Next::Nobody);
}

#[test]
fn the_rest_of_a_line_is_waited_for_and_not_for_long() {
    let mut port = Port::new(2);
    port.write(0, b"begun");
    assert_eq!(port.step(), Next::Guest(0));
    port.write(1, b"other\n");
    assert_eq!(port.next(false), Next::Nobody);
    port.now += LINGER - 1;
    assert_eq!(port.next(false), Next::Nobody);
    port.write(0, b", ended\n");
    assert_eq!(port.step(), Next::Guest(0));
    assert_eq!(port.step(), Next::Guest(1));

    port.write(0, b"$ ");
    assert_eq!(port.step(), Next::Guest(0));
    port.write(1, b"other\n");
    assert_eq!(port.next(false), Next::Nobody);
    port.now += LINGER;
    assert_eq!(port.step(), Next::Guest(1));
}

#[test]
fn a_guest_that_trickles_takes_no_more_than_its_share_of_time() {
    let mut port = Port::new(2);
    let end = 10_000_000;
    let mut idle = 0;
    while port.now < end {
        // One floods, the other ends no line and writes a byte whenever the port almost gives it up.
        if port.guests[0].is_empty() {
            port.write(0, b"a line of the guest that has much to say\n");
        }
        if port.step() == Next::Nobody {
            port.now += LINGER - 1;
            idle += LINGER - 1;
            port.write(1, b"x");
        } else if port.guests[1].is_empty() && port.order.last() == Some(&0) {
            port.write(1, b"x");
        }
    }
    let taken = idle + port.sent[1].len() as u64 * BYTE_TIME;
    assert!(taken <= end / 2, "{taken} of {end} microseconds");
    assert!(port.sent[1].len() > 100, "it gets its turn: {}", port.sent[1].len());
}

#[test]
fn a_guest_that_was_silent_has_no_more_credit_than_others() {
    let mut port = Port::new(2);
    port.write(0, &b"line\n".repeat(10_000));
    for _ in 0..1000 {
        port.step();
    }
    let before = port.sent[0].len();
    port.write(1, &b"line\n".repeat(10_000));
    for _ in 0..2000 {
        port.step();
    }
    let (one, two) = (port.sent[0].len() - before, port.sent[1].len());
    assert!(one.abs_diff(two) <= BOUND, "{one} and {two}");
}

/// Lines of the given lengths, over and over, each byte of which says whose it is and which.
fn text(guest: usize, lengths: &[usize]) -> Vec<u8> {
    let mut text = Vec::new();
    for (line, length) in lengths.iter().cycle().enumerate() {
        text.extend((0..*length).map(|at| b'a' + ((guest + line + at) % 26) as u8));
        text.push(b'\n');
        if text.len() > 6_000 {
            return text;
        }
    }
    text
}

proptest! {
    /// Whatever their lines are like, guests that always have something to send get equal shares, at
    /// every moment, and nothing is lost or changes its order.
    #[test]
    fn shares_are_equal(guests in prop::collection::vec(prop::collection::vec(0usize..2000, 1..8), 2..7)) {
        let mut port = Port::new(guests.len());
        let texts: Vec<_> = guests.iter().enumerate().map(|(guest, lengths)| text(guest, lengths)).collect();
        for (guest, text) in texts.iter().enumerate() {
            port.write(guest, text);
        }
        while port.guests.iter().all(|queue| !queue.is_empty()) {
            prop_assert!(matches!(port.step(), Next::Guest(_)));
            let sent = || port.sent.iter().map(Vec::len);
            let (least, most) = (sent().min().unwrap(), sent().max().unwrap());
            prop_assert!(most - least <= BOUND, "{least} and {most}");
        }
        while port.step() != Next::Nobody || port.guests.iter().any(|queue| !queue.is_empty()) {
            port.now += LINGER;
        }
        for (sent, text) in port.sent.iter().zip(&texts) {
            prop_assert!(sent == text);
        }
    }

    /// Lines up to so long are never cut.
    #[test]
    fn short_lines_stay_whole(lengths in prop::collection::vec(prop::collection::vec(0usize..LINE as usize - PIECE, 1..8), 2..7)) {
        let mut port = Port::new(lengths.len());
        for (guest, lengths) in lengths.iter().enumerate() {
            port.write(guest, &text(guest, lengths));
        }
        let mut before = None;
        while port.guests.iter().all(|queue| !queue.is_empty()) {
            let Next::Guest(guest) = port.step() else { panic!("nobody") };
            if before.is_some_and(|before| before != guest) {
                let before: usize = before.unwrap();
                prop_assert!(port.sent[before].ends_with(b"\n"));
            }
            before = Some(guest);
        }
    }
}
