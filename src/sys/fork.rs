//! What must not survive `fork`: descriptors that hold this process's locks.
//!
//! An open-file-description lock belongs to the description, and a forked child shares it: as long as the child
//! lives, the parent's death would go unseen. So a handler that runs in every forked child closes those
//! descriptors and moves on the generation by which inherited handles notice that they are not its own.
//! (`Command` and other fork-and-exec ways are covered by close-on-exec as well.)

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Counts the forks between the first process and this one.
#[inline]
pub(crate) fn generation() -> u32 {
    // Relaxed: it changes only in a child handler, before any other code of that process runs.
    GENERATION.load(Ordering::Relaxed)
}

/// The descriptors to close in a child. A pthread mutex because the fork handlers must take it in one function
/// and give it back in another, which a std guard cannot do.
struct Table {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    descriptors: UnsafeCell<Vec<RawFd>>,
}

// SAFETY: both cells are touched only between `lock` and `unlock` of the mutex.
unsafe impl Sync for Table {}

static TABLE: Table =
    Table { mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER), descriptors: UnsafeCell::new(Vec::new()) };

impl Table {
    fn lock(&self) {
        // SAFETY: a statically initialised mutex that is never moved or destroyed.
        unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
    }

    fn unlock(&self) {
        // SAFETY: as above; called only by the thread that locked it (after fork: by its image in the child).
        unsafe { libc::pthread_mutex_unlock(self.mutex.get()) };
    }

    fn with<R>(&self, action: impl FnOnce(&mut Vec<RawFd>) -> R) -> R {
        struct Unlock<'a>(&'a Table);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                self.0.unlock();
            }
        }
        self.lock();
        let _unlock = Unlock(self);
        // SAFETY: the mutex is held, so this is the only reference.
        action(unsafe { &mut *self.descriptors.get() })
    }
}

extern "C" fn before_fork() {
    TABLE.lock();
}

extern "C" fn after_fork_in_parent() {
    TABLE.unlock();
}

extern "C" fn after_fork_in_child() {
    // SAFETY: the forking thread, the only one here, holds the mutex since `before_fork`. Nothing allocates.
    for descriptor in unsafe { &mut *TABLE.descriptors.get() }.drain(..) {
        if is_for_child(descriptor) {
            continue;
        }
        // SAFETY: owned by a `Guarded` whose Drop sees the new generation and leaves the number alone.
        unsafe { libc::close(descriptor) };
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    super::barrier::forget_in_child();
    TABLE.unlock();
}

thread_local! {
    /// The descriptors that a child forked by this thread keeps.
    static FOR_CHILD: Cell<*const [RawFd]> = const { Cell::new(&[]) };
}

fn is_for_child(descriptor: RawFd) -> bool {
    // SAFETY: set only while `keeping` borrows the slice, in the stack of this very thread.
    FOR_CHILD.with(|kept| unsafe { &*kept.get() }.contains(&descriptor))
}

/// Runs `action`, which forks on this thread, such that its child keeps these guarded descriptors.
/// The children of other threads do not.
pub(crate) fn keeping<R>(descriptors: &[RawFd], action: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            FOR_CHILD.set(&[]);
        }
    }
    FOR_CHILD.set(descriptors);
    let _reset = Reset;
    action()
}

/// Runs `action` such that no fork can come in the middle of it.
pub(crate) fn hold_off<R>(action: impl FnOnce() -> R) -> R {
    install_handlers();
    TABLE.with(|_| action())
}

fn install_handlers() {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        // SAFETY: the three handlers do only what is allowed around fork: lock, unlock, close, atomics.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    });
}

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub(crate) struct Guarded {
    descriptor: ManuallyDrop<OwnedFd>,
    generation: u32,
}

impl Guarded {
    /// Runs `open` such that no fork can come between the opening and the guarding.
    pub(crate) fn new(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Self> {
        install_handlers();
        TABLE.with(|descriptors| {
            descriptors.reserve(1);
            let descriptor = open()?;
            descriptors.push(descriptor.as_raw_fd());
            Ok(Self { descriptor: ManuallyDrop::new(descriptor), generation: generation() })
        })
    }

    /// The descriptor, for somebody else to look after.
    pub(crate) fn release(self) -> OwnedFd {
        let mut this = ManuallyDrop::new(self);
        TABLE.with(|descriptors| descriptors.retain(|&descriptor| descriptor != this.descriptor.as_raw_fd()));
        // SAFETY: taken once, here: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.descriptor) }
    }

    /// False in a forked child: there the descriptor is closed and its number may mean another file.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl AsFd for Guarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        TABLE.with(|descriptors| {
            if self.is_ours() {
                descriptors.retain(|&descriptor| descriptor != self.descriptor.as_raw_fd());
                // SAFETY: dropped once, here; in a forked child it was closed by the handler instead.
                unsafe { ManuallyDrop::drop(&mut self.descriptor) };
            }
        });
    }
}
