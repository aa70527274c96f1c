//! The heap: for set-up and for the service core. Nothing on an exit's path allocates.
//!
//! How much of it is needed follows from the machine and the bundle, and to read these takes a heap: a small first piece is
//! part of the image, and pieces from the free memory follow when it is known how large they must be.

use super::FrameRange;
use crate::memory::address_space::direct;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use linked_list_allocator::Heap;
use spin::Mutex;

/// Bytes of the first piece. It holds what firmware tables and an ordinary bundle's descriptor say.
pub const FIRST_PIECE: usize = 48 << 10;
/// Most pieces: the first, one for the descriptor of a large bundle, one for a large screen, and the one that everything
/// else comes from.
const MOST_PIECES: usize = 4;

/// An allocator that becomes usable once it has memory.
pub struct KernelHeap {
    pieces: Mutex<Pieces>,
    first: UnsafeCell<[MaybeUninit<u8>; FIRST_PIECE]>,
}

struct Pieces {
    heaps: heapless::Vec<Heap, MOST_PIECES>,
    /// The most bytes that were in use at a time.
    most: usize,
}

/// How much of the heap is there, and how much was in use at a time, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUse {
    /// All pieces.
    pub size: usize,
    /// What is in use now.
    pub now: usize,
    /// The most that was in use.
    pub most: usize,
}

// SAFETY: `first` is touched by nobody but the allocator behind the lock, from `start` on.
unsafe impl Sync for KernelHeap {}

impl KernelHeap {
    /// A heap without memory.
    pub const fn empty() -> Self {
        let pieces = Pieces { heaps: heapless::Vec::new(), most: 0 };
        Self {
            pieces: Mutex::new(pieces),
            first: UnsafeCell::new([MaybeUninit::uninit(); FIRST_PIECE]),
        }
    }

    /// Gives the heap its first piece.
    ///
    /// # Safety
    /// To be called once.
    pub unsafe fn start(&'static self) {
        // SAFETY: the piece is the heap's own, and lives for ever.
        let _ = unsafe { self.add(self.first.get().cast(), FIRST_PIECE) };
    }

    /// Gives the heap a further piece, for ever. Says whether it can have so many pieces.
    ///
    /// # Safety
    /// The memory must be mapped at [`direct`] for ever.
    #[must_use]
    pub unsafe fn grow(&self, frames: FrameRange) -> bool {
        let start = direct(frames.start()).as_u64() as *mut u8;
        // SAFETY: the range is owned and given up here; the caller has mapped it.
        unsafe { self.add(start, frames.len() as usize) }
    }

    /// # Safety
    /// The bytes must be mapped writable for ever and used by nothing else.
    unsafe fn add(&self, start: *mut u8, len: usize) -> bool {
        let mut heap = Heap::empty();
        // SAFETY: the caller's contract.
        unsafe { heap.init(start, len) };
        self.pieces.lock().heaps.push(heap).is_ok()
    }

    /// How much there is and was in use.
    pub fn usage(&self) -> HeapUse {
        let pieces = self.pieces.lock();
        let sum = |of: fn(&Heap) -> usize| pieces.heaps.iter().map(of).sum();
        HeapUse { size: sum(Heap::size), now: sum(Heap::used), most: pieces.most }
    }
}

impl Pieces {
    /// From the piece that came last, if it has room.
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let at =
            self.heaps.iter_mut().rev().find_map(|heap| heap.allocate_first_fit(layout).ok())?;
        self.most = self.most.max(self.heaps.iter().map(Heap::used).sum());
        Some(at)
    }

    /// # Safety
    /// `at` came from [`allocate`](Self::allocate) with this layout, and is freed once.
    unsafe fn free(&mut self, at: NonNull<u8>, layout: Layout) {
        let within = |heap: &&mut Heap| (heap.bottom()..heap.top()).contains(&at.as_ptr());
        if let Some(heap) = self.heaps.iter_mut().find(within) {
            // SAFETY: the caller's contract; this is the piece that it came from.
            unsafe { heap.deallocate(at, layout) };
        }
    }
}

// SAFETY: the pieces return memory that fits the layout and that nobody else has; the lock keeps cores apart, and no
// interrupt handler allocates.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.pieces.lock().allocate(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(at) = NonNull::new(at) {
            // SAFETY: the caller got `at` from `alloc` with this layout.
            unsafe { self.pieces.lock().free(at, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_comes_later_is_used_first_and_each_gets_back_what_came_from_it() {
        static HEAP: KernelHeap = KernelHeap::empty();
        let second = std::vec![0u64; 768].leak();
        let within = |at: *mut u8| second.as_ptr_range().contains(&at.cast_const().cast());
        let layout = Layout::from_size_align(4096, 16).unwrap();
        // SAFETY: called once; the vector is leaked; what is freed was allocated with this layout.
        unsafe {
            assert!(HEAP.alloc(layout).is_null(), "no memory yet");
            HEAP.start();
            let early = HEAP.alloc(layout);
            assert!(!early.is_null() && !within(early));
            assert!(HEAP.add(second.as_ptr().cast_mut().cast(), size_of_val(second)));
            let late = HEAP.alloc(layout);
            assert!(within(late));
            let more = HEAP.alloc(layout);
            assert!(!more.is_null() && !within(more), "the last piece is full, the first is not");
            assert_eq!(
                HEAP.usage(),
                HeapUse { size: FIRST_PIECE + 6144, now: 3 * 4096, most: 3 * 4096 }
            );
            for at in [early, late, more] {
                HEAP.dealloc(at, layout);
            }
            assert!(within(HEAP.alloc(layout)), "it can be had again");
        }
        assert_eq!(HEAP.usage().most, 3 * 4096, "the most stays");
    }
}
