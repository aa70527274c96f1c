//! A byte queue with a fixed limit, which never allocates after it was made.

use alloc::collections::VecDeque;

/// Bytes in the order they came, at most `limit` of them.
pub struct ByteQueue {
    bytes: VecDeque<u8>,
    limit: usize,
}

impl ByteQueue {
    /// An empty queue for at most `limit` bytes. The only place that allocates.
    pub fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::with_capacity(limit), limit }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no byte is waiting.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that can still be put in.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Puts one byte in; `false` when the queue is full and the byte was not taken.
    pub fn push(&mut self, byte: u8) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.bytes.push_back(byte);
        true
    }

    /// Puts in as many of `bytes` as there is room for, and says how many.
    pub fn push_slice(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.bytes.extend(bytes.iter().take(taken));
        taken
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }

    /// Moves the oldest bytes to `buffer`, and says how many.
    pub fn pop_slice(&mut self, buffer: &mut [u8]) -> usize {
        let taken = buffer.len().min(self.len());
        for (to, from) in buffer.iter_mut().zip(self.bytes.drain(..taken)) {
            *to = from;
        }
        taken
    }

    /// The oldest bytes, as many as lie together: none only where the queue is empty.
    pub fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Forgets so many of the oldest bytes, or all.
    pub fn forget(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }

    /// Moves the oldest bytes to `buffer`, up to the end of their first line, and says how many.
    pub fn pop_line(&mut self, buffer: &mut [u8]) -> usize {
        let end = self.bytes.iter().take(buffer.len()).position(|&byte| byte == b'\n');
        let line = end.and_then(|at| buffer.get_mut(..=at));
        match line {
            Some(line) => self.pop_slice(line),
            None => self.pop_slice(buffer),
        }
    }

    /// Forgets all bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_its_limit_and_keeps_the_order() {
        let mut queue = ByteQueue::new(4);
        assert!(queue.push(1));
        assert_eq!(queue.push_slice(&[2, 3, 4, 5]), 3);
        assert!(!queue.push(6));
        assert_eq!(queue.room(), 0);
        let mut buffer = [0; 3];
        assert_eq!(queue.pop_slice(&mut buffer), 3);
        assert_eq!(buffer, [1, 2, 3]);
        assert_eq!(queue.push_slice(&[7]), 1);
        assert_eq!(queue.pop(), Some(4));
        assert_eq!(queue.pop_slice(&mut buffer), 1);
        assert_eq!(buffer[0], 7);
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn gives_a_line_at_a_time() {
        let mut queue = ByteQueue::new(16);
        queue.push_slice(b"one\n\ntwo");
        let mut buffer = [0; 3];
        assert_eq!((queue.pop_line(&mut buffer), &buffer), (3, b"one"));
        assert_eq!((queue.pop_line(&mut buffer), buffer[0]), (1, b'\n'));
        assert_eq!((queue.pop_line(&mut buffer), buffer[0]), (1, b'\n'));
        assert_eq!((queue.pop_line(&mut buffer), &buffer), (3, b"two"));
        assert_eq!(queue.pop_line(&mut buffer), 0);
    }

    #[test]
    fn what_is_in_front_is_forgotten_when_it_was_taken() {
        let mut queue = ByteQueue::new(4);
        queue.push_slice(&[1, 2, 3, 4]);
        queue.forget(3);
        queue.push_slice(&[5, 6]);
        let mut seen = std::vec::Vec::new();
        while !queue.is_empty() {
            let front = queue.front().to_vec();
            queue.forget(front.len());
            seen.extend(front);
        }
        assert_eq!(seen, [4, 5, 6]);
        queue.forget(1);
    }

    #[test]
    fn never_grows_its_allocation() {
        let mut queue = ByteQueue::new(100);
        let capacity = queue.bytes.capacity();
        let mut buffer = [0; 33];
        for _ in 0..50 {
            queue.push_slice(&[9; 77]);
            queue.pop_slice(&mut buffer);
        }
        assert_eq!(queue.bytes.capacity(), capacity);
    }
}
