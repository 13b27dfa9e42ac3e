//! An allocator that registers fork handlers at its first use, as jemalloc does: a fork does not
//! hang while other threads open and drop endpoints.

#![cfg(target_env = "gnu")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::alone;
use tombolo::pipe;

struct Locking(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: only the C library uses the cell.
unsafe impl Sync for Locking {}

#[global_allocator]
static ALLOCATOR: Locking = Locking(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

extern "C" fn lock() {
    // SAFETY: a mutex that is never moved.
    unsafe { libc::pthread_mutex_lock(ALLOCATOR.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: as above; the thread that forks locked it.
    unsafe { libc::pthread_mutex_unlock(ALLOCATOR.0.get()) };
}

impl Locking {
    fn with<R>(&self, action: impl FnOnce() -> R) -> R {
        if !IS_REGISTERED.swap(true, Ordering::Relaxed) {
            // SAFETY: the handlers lock and unlock.
            unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
        }
        lock();
        let result = action();
        unlock();
        result
    }
}

// SAFETY: the system's allocator, one call at a time.
unsafe impl GlobalAlloc for Locking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.with(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        self.with(|| unsafe { System.dealloc(at, layout) });
    }
}

/// Ends this process if it hangs. A watchdog in a thread would hang with the allocator.
fn give_up_after(seconds: u32) {
    extern "C" fn give_up(_: libc::c_int) {
        let text = b"hangs: giving up\n";
        // SAFETY: async-signal-safe, with bytes that live for ever.
        unsafe {
            libc::write(2, text.as_ptr().cast(), text.len());
            libc::_exit(99);
        }
    }
    let handler: extern "C" fn(libc::c_int) = give_up;
    // SAFETY: the handler does only what handlers may do.
    unsafe {
        libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
        libc::alarm(seconds);
    }
}

#[test]
fn fork_with_allocator_handlers_does_not_hang() {
    let _alone = alone();
    give_up_after(30);
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(pipe::Options::<u64>::new().create().unwrap());
                }
            });
        }
        while began.elapsed() < Duration::from_secs(1) {
            // SAFETY: the child ends at once.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: a child of ours.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
