//! mimalloc, and a count of what it has handed out.
//!
//! Each thread counts in a cell of its own, with a plain load and store; reading sums the cells. A
//! thread that comes when all cells are taken shares the last one, with atomic additions. Memory may
//! be freed by another thread than the one that asked for it, so a cell alone may be below zero.
//!
//! ```text
//!  cell 0: | bytes | pad to 128 |   thread 0 alone
//!  cell 1: | bytes | pad to 128 |   thread 1 alone
//!  ...
//!  cell 63:| bytes | pad to 128 |   everybody else
//! ```

use libmimalloc_sys::{mi_collect, mi_malloc, mi_realloc, mi_stats_print_out, mi_zalloc};
use mimalloc::MiMalloc;
use server::stats::memory::{Allocated, Allocator};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell as ThreadCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

const N_CELLS: usize = 64;
const SHARED: usize = N_CELLS - 1;
/// A thread that has not counted yet.
const UNSET: usize = usize::MAX;

/// Two cache lines, because they are fetched in pairs.
#[repr(align(128))]
struct Cell(AtomicI64);

static CELLS: [Cell; N_CELLS] = [const { Cell(AtomicI64::new(0)) }; N_CELLS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Without a destructor and with a constant start, so that reading it never allocates.
    static MINE: ThreadCell<usize> = const { ThreadCell::new(UNSET) };
}

/// Every block is aligned to so many bytes. Asked for such an alignment by name, mimalloc would look
/// for a block of up to seven bytes more unless the size is a power of two.
const ALIGN: usize = 8;

/// The allocator. See the top of the file.
pub struct Counting;

/// What mimalloc, built as the workspace's cargo configuration says, takes for a request of so many
/// bytes: whole words up to 64 bytes, then four sizes between two powers of two. Above 64 KiB it
/// takes pages; the difference is a few in a hundred at most.
const fn block_bytes(size: usize) -> usize {
    match size {
        0 => 8,
        1..=64 => (size + 7) & !7,
        _ => {
            let step = 1 << (usize::BITS - 3 - (size - 1).leading_zeros());
            (size + step - 1) & !(step - 1)
        }
    }
}

const LARGE_BYTES: usize = 64 << 10;

const fn counted_bytes(size: usize) -> i64 {
    if size > LARGE_BYTES {
        size as i64
    } else {
        block_bytes(size) as i64
    }
}

#[inline]
fn count(bytes: i64) {
    let idx = match MINE.get() {
        UNSET => claim(),
        idx => idx,
    };
    let cell = &CELLS[idx].0;
    if idx == SHARED {
        cell.fetch_add(bytes, Ordering::Relaxed);
    } else {
        cell.store(cell.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

#[cold]
fn claim() -> usize {
    let idx = NEXT.fetch_add(1, Ordering::Relaxed).min(SHARED);
    MINE.set(idx);
    idx
}

// SAFETY: every call is handed on to mimalloc with its arguments unchanged, and its result is
// returned unchanged; counting touches no memory that it hands out, and does not allocate.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `alloc` asks for; see `ALIGN` for the rest.
        let block = unsafe {
            match layout.align() {
                ..=ALIGN => mi_malloc(layout.size()).cast(),
                _ => MiMalloc.alloc(layout),
            }
        };
        if !block.is_null() {
            count(counted_bytes(layout.size()));
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `alloc_zeroed` asks for; see `ALIGN` for the rest.
        let block = unsafe {
            match layout.align() {
                ..=ALIGN => mi_zalloc(layout.size()).cast(),
                _ => MiMalloc.alloc_zeroed(layout),
            }
        };
        if !block.is_null() {
            count(counted_bytes(layout.size()));
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises that `dealloc` asks for.
        unsafe { MiMalloc.dealloc(block, layout) };
        count(-counted_bytes(layout.size()));
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `realloc` asks for; see `ALIGN` for the rest.
        let moved = unsafe {
            match layout.align() {
                ..=ALIGN => mi_realloc(block.cast(), new_size).cast(),
                _ => MiMalloc.realloc(block, layout, new_size),
            }
        };
        if !moved.is_null() {
            count(counted_bytes(new_size) - counted_bytes(layout.size()));
        }
        moved
    }
}

/// The figures of this moment.
pub fn allocated() -> Allocated {
    let sum: i64 = CELLS
        .iter()
        .map(|cell| cell.0.load(Ordering::Relaxed))
        .sum();
    Allocated {
        used_bytes: sum.max(0).unsigned_abs(),
        allocator: "mimalloc",
    }
}

/// What the server may ask of it.
pub const ALLOCATOR: Allocator = Allocator {
    count: allocated,
    block_bytes: |size| counted_bytes(size).unsigned_abs() as usize,
    release,
    describe,
};

fn release() {
    // SAFETY: it takes nothing but a flag, and frees what nobody holds.
    unsafe { mi_collect(true) };
}

fn describe() -> String {
    let mut text = String::new();
    // SAFETY: `append` is called before this returns, with the pointer to `text` that is given here.
    unsafe { mi_stats_print_out(Some(append), (&raw mut text).cast()) };
    text
}

/// Takes a piece of mimalloc's report.
///
/// # Safety
/// `piece` is a text that ends with a zero, `text` the `String` of `describe`.
unsafe extern "C" fn append(piece: *const c_char, text: *mut c_void) {
    // SAFETY: as said above; nobody else uses the `String` meanwhile.
    let (piece, text) = unsafe { (CStr::from_ptr(piece), &mut *text.cast::<String>()) };
    text.push_str(&piece.to_string_lossy());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_allocator() {
        for size in 1..=LARGE_BYTES {
            // SAFETY: it only computes.
            let good = unsafe { libmimalloc_sys::mi_good_size(size) };
            assert_eq!(block_bytes(size), good, "{size}");
        }
    }

    #[test]
    fn what_is_freed_by_another_thread_is_counted_off() {
        let block = vec![1_u8; 64 << 20];
        let with = allocated().used_bytes;
        let join = std::thread::spawn(move || drop(block)).join();
        assert!(join.is_ok());
        let without = allocated().used_bytes;
        assert!(with - without > 60 << 20, "{with} {without}");
    }
}
