//! The guest's memory: blocks one after another, of which none is looked for and none put back in order. Most instances live
//! for one call; in one that is kept, a question's blocks go all at once when the last of them does.

#![allow(clippy::arithmetic_side_effects, reason = "every offset is below `SIZE`, or was compared with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// What fits in here is quick; the rest is the system's, and so is all else once a policy fills this with what it keeps from
/// call to call.
const SIZE: usize = 128 * 1024;

#[cfg(target_family = "wasm")]
#[global_allocator]
static MEMORY: Memory = Memory::new();

/// What is allocated now stays: a configured policy.
#[cfg(target_family = "wasm")]
pub(crate) fn keep() {
    MEMORY.keep();
}

#[repr(align(16))]
#[allow(dead_code, reason = "it is read and written through pointers alone")]
struct Arena([u8; SIZE]);

struct Memory {
    arena: UnsafeCell<Arena>,
    /// Where the next block begins.
    top: Cell<usize>,
    /// Nothing below this is ever used again.
    kept: Cell<usize>,
    /// Blocks alive above it.
    live: Cell<usize>,
}

// SAFETY: a component has one thread.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Memory {}

impl Memory {
    const fn new() -> Self {
        let arena = UnsafeCell::new(Arena([0; SIZE]));
        Self { arena, top: Cell::new(0), kept: Cell::new(0), live: Cell::new(0) }
    }

    fn keep(&self) {
        self.kept.set(self.top.get());
        self.live.set(0);
    }

    fn base(&self) -> *mut u8 {
        self.arena.get().cast()
    }

    /// Where in the arena a block is, if it is.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = block.addr().wrapping_sub(self.base().addr());
        (offset < SIZE).then_some(offset)
    }
}

// SAFETY: a block in the arena lies between `top` as it was before and as it is then, and `top` goes back only to where no block
// is alive beyond it, and never below `kept`: no two overlap. The arena is aligned as strictly as any block in it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // `top` is at most `SIZE`, which is aligned for every block that is let in.
        let start = (self.top.get() + (layout.align() - 1)) & !(layout.align() - 1);
        if layout.align() > align_of::<Arena>() || layout.size() > SIZE - start {
            return unsafe { System.alloc(layout) };
        }
        self.top.set(start + layout.size());
        self.live.set(self.live.get() + 1);
        unsafe { self.base().add(start) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(start) = self.offset(block) else { return unsafe { System.dealloc(block, layout) } };
        if start < self.kept.get() {
            return;
        }
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.top.set(self.kept.get());
        } else if start + layout.size() == self.top.get() {
            self.top.set(start);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(block) else { return unsafe { System.realloc(block, layout, size) } };
        let is_last = start >= self.kept.get() && start + layout.size() == self.top.get();
        if is_last && size <= SIZE - start {
            self.top.set(start + size);
            return block;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return std::ptr::null_mut() };
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            unsafe {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, SIZE};
    use std::alloc::{GlobalAlloc as _, Layout};

    fn bytes(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    #[test]
    fn what_a_question_used_is_used_again_by_the_next_and_what_is_kept_is_not() {
        let memory = Box::new(Memory::new());
        unsafe {
            let settings = memory.alloc(bytes(100));
            settings.write_bytes(7, 100);
            memory.keep();
            let mut first = None;
            for _ in 0..10_000 {
                let (one, two) = (memory.alloc(bytes(1_000)), memory.alloc(bytes(1_000)));
                assert_eq!(*first.get_or_insert(one), one);
                one.write_bytes(1, 1_000);
                two.write_bytes(2, 1_000);
                assert_eq!((*one, *two), (1, 2));
                memory.dealloc(one, bytes(1_000));
                memory.dealloc(two, bytes(1_000));
            }
            assert!(std::slice::from_raw_parts(settings, 100).iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn what_is_kept_does_not_grow_where_the_next_question_will_be() {
        let memory = Box::new(Memory::new());
        unsafe {
            let kept = memory.alloc(bytes(10));
            memory.keep();
            let grown = memory.realloc(kept, bytes(10), 20);
            assert_ne!(kept, grown);
            let last = memory.alloc(bytes(10));
            assert_eq!(memory.realloc(last, bytes(10), 500), last, "the last block grows where it is");
        }
    }

    #[test]
    fn what_does_not_fit_is_the_systems_and_aligned_is_aligned() {
        let memory = Box::new(Memory::new());
        unsafe {
            memory.alloc(bytes(1));
            let (page, word) = (Layout::from_size_align(8, 4096).unwrap(), Layout::from_size_align(8, 8).unwrap());
            let (paged, worded) = (memory.alloc(page), memory.alloc(word));
            assert!(paged.addr().is_multiple_of(4096) && memory.offset(paged).is_none());
            assert!(worded.addr().is_multiple_of(8) && memory.offset(worded) == Some(8));
            let large = memory.alloc(bytes(SIZE));
            assert!(memory.offset(large).is_none());
            let large = memory.realloc(large, bytes(SIZE), 2 * SIZE);
            memory.dealloc(large, bytes(2 * SIZE));
            let rest = memory.alloc(bytes(SIZE - 16));
            assert_eq!(memory.offset(rest), Some(16), "all of it is used");
            memory.dealloc(paged, page);
        }
    }
}
