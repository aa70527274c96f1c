//! Looking into a guest that stands still.
//!
//! The service core has no window to a guest's memory, and a VMCS is its core's alone. So a core of the guest's looks, while
//! it stands still, and hands a copy over.

use super::report::Report;
use crate::memory::{GuestMemory, GuestPhysical, NotRam, RamLayout};
use alloc::boxed::Box;
use bulkhead_control::dump::{PIECE, Piece};
use spin::Mutex;

/// Bytes of memory that are looked at at a time.
pub const BYTES: usize = 64;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The processor's registers.
    Registers,
    /// [`BYTES`] bytes of memory from here on.
    Memory(GuestPhysical),
    /// The next piece of memory that is not all zero, from here on: a multiple of [`PIECE`].
    Piece(GuestPhysical),
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The processor's registers.
    Registers(Box<Report>),
    /// Bytes of memory.
    Memory(Result<[u8; BYTES], NotRam>),
    /// What was found of a piece.
    Piece(Scan),
}

/// What a look for a piece of memory that is not all zero has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// It is this.
    Found(Box<Piece>),
    /// There is none before this address. It is not looked for any longer at a time.
    NoneBefore(u64),
    /// There is no more memory; it ends before this address.
    End(u64),
}

/// Most pieces that are looked at for one question: 16 KiB, as the service core waits for the answer.
const MOST_PIECES: usize = 32;

/// Looks for the next piece of a guest's memory that is not all zero, at a multiple of [`PIECE`].
pub fn scan(memory: &impl GuestMemory, layout: RamLayout, from: u64) -> Scan {
    let (low_end, high) = (layout.low_end(), layout.high());
    let mut at = from;
    for _ in 0..MOST_PIECES {
        if at >= low_end && at < high.start {
            at = high.start;
        }
        let mut bytes = [0; PIECE];
        if memory.read(GuestPhysical::new(at), &mut bytes).is_err() {
            return Scan::End(if high.is_empty() { low_end } else { high.end });
        }
        // Without vector registers, words at a time.
        let (words, _) = bytes.as_chunks::<8>();
        if words.iter().any(|word| u64::from_ne_bytes(*word) != 0) {
            return Scan::Found(Piece { at, bytes }.into());
        }
        at = at.saturating_add(PIECE as u64);
    }
    Scan::NoneBefore(at)
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Asked(u32, Question),
    Answered(Answer),
}

/// Carries a question from the service core to a guest's core, and the answer back.
#[derive(Debug, Default)]
pub struct Examination(Mutex<State>);

impl Examination {
    /// Asks a processor, by its virtual APIC ID. An earlier question is forgotten, and its answer.
    pub fn ask(&self, processor: u32, question: Question) {
        *self.0.lock() = State::Asked(processor, question);
    }

    /// The question to this processor, if there is one. Then it is to [`answer`](Self::answer).
    pub fn question(&self, processor: u32) -> Option<Question> {
        match *self.0.lock() {
            State::Asked(to, question) if to == processor => Some(question),
            _ => None,
        }
    }

    /// A processor answers a question, unless that was withdrawn; another may have been asked since.
    pub fn answer(&self, processor: u32, question: Question, answer: Answer) {
        let mut state = self.0.lock();
        if matches!(*state, State::Asked(to, asked) if (to, asked) == (processor, question)) {
            *state = State::Answered(answer);
        }
    }

    /// Takes the answer, if it is there.
    pub fn take(&self) -> Option<Answer> {
        let mut state = self.0.lock();
        match core::mem::take(&mut *state) {
            State::Answered(answer) => Some(answer),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Withdraws the question.
    pub fn withdraw(&self) {
        *self.0.lock() = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::TestMemory;

    const MEMORY: Question = Question::Memory(GuestPhysical::new(0x1000));

    #[test]
    fn one_processor_is_asked_and_answers_once() {
        let examination = Examination::default();
        assert_eq!(examination.question(0), None);
        examination.ask(1, MEMORY);
        assert_eq!((examination.question(0), examination.question(1)), (None, Some(MEMORY)));
        assert!(examination.take().is_none());
        examination.answer(1, MEMORY, Answer::Memory(Ok([7; BYTES])));
        assert_eq!(examination.question(1), None);
        assert!(matches!(examination.take(), Some(Answer::Memory(Ok([7, ..])))));
        assert!(examination.take().is_none());
    }

    #[test]
    fn memory_is_gone_through_piece_by_piece() {
        let mut memory = TestMemory::new(1 << 20);
        memory.0.fill(0);
        let layout = RamLayout::new(1 << 20);
        let scan = |memory: &TestMemory, from| scan(memory, layout, from);
        assert_eq!(scan(&memory, 0), Scan::NoneBefore(0x4000));
        memory.0[0x2_01FF] = 7;
        let Scan::Found(piece) = scan(&memory, 0x2_0000) else { panic!("nothing found") };
        assert_eq!((piece.at, piece.bytes[PIECE - 1]), (0x2_0000, 7));
        assert_eq!(scan(&memory, 0x2_0200), Scan::NoneBefore(0x2_4200));
        assert_eq!(scan(&memory, 0xF_FE00), Scan::End(1 << 20));
        assert_eq!(scan(&memory, u64::MAX - 511), Scan::End(1 << 20));
    }

    #[test]
    fn nobody_answers_what_is_not_asked_any_more() {
        let examination = Examination::default();
        examination.ask(0, Question::Registers);
        examination.withdraw();
        assert_eq!(examination.question(0), None);
        examination.answer(0, Question::Registers, Answer::Memory(Ok([0; BYTES])));
        assert!(examination.take().is_none());
    }

    #[test]
    fn a_late_answer_is_not_taken_for_that_to_another_question() {
        let examination = Examination::default();
        let other = Question::Memory(GuestPhysical::new(0x2000));
        examination.ask(0, MEMORY);
        examination.withdraw();
        examination.ask(0, other);
        examination.answer(0, MEMORY, Answer::Memory(Ok([1; BYTES])));
        examination.answer(1, other, Answer::Memory(Ok([2; BYTES])));
        assert!(examination.take().is_none());
        examination.answer(0, other, Answer::Memory(Ok([3; BYTES])));
        assert!(matches!(examination.take(), Some(Answer::Memory(Ok([3, ..])))));
    }
}
