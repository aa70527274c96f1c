//! The heap: for set-up and for the service core. Nothing on an exit's path allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use linked_list_allocator::Heap;
use spin::Mutex;

/// An allocator that becomes usable once it has memory.
pub struct KernelHeap(Mutex<Heap>);

impl KernelHeap {
    /// A heap without memory.
    pub const fn empty() -> Self {
        Self(Mutex::new(Heap::empty()))
    }

    /// Gives the heap its memory.
    ///
    /// # Safety
    /// The `len` bytes at `start` must be mapped writable for ever and used by nothing else; to
    /// be called once.
    pub unsafe fn start(&self, start: *mut u8, len: usize) {
        // SAFETY: the caller's contract.
        unsafe { self.0.lock().init(start, len) };
    }
}

// SAFETY: `Heap` returns memory that fits the layout and that nobody else has; the lock keeps
// cores apart, and no interrupt handler allocates.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(at) = NonNull::new(at) {
            // SAFETY: the caller got `at` from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(at, layout) };
        }
    }
}
