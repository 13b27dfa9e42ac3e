//! What must not survive `fork`: descriptors that hold this process's locks, and locks of threads
//! that the child does not have.
//!
//! What: an open-file-description lock belongs to the description, which a forked child shares. As
//! long as the child kept it, the parent's death would go unnoticed. So every forked child closes
//! those descriptors, and inherited handles see by the generation that they belong to another
//! process. (`Command` and other ways to fork and exec are covered by close-on-exec as well.) What
//! the threads of a process share is kept under one lock, [`SECTION`]. A child never inherits that
//! lock taken, nor anything under it half changed.
//!
//! State
//! - [`PAGE`] is zero in every new process, the first one or a forked one, because the kernel wipes
//!   it (`MADV_WIPEONFORK`). It holds the generation, and a flag for the thread that is about to
//!   set it ([`settle`]).
//! - [`SECTION`] is a reentrant lock. It identifies its owner by [`process::thread_token`], which a
//!   forking thread keeps in the child, so that the child's image of that thread still owns it. (A
//!   recursive pthread mutex identifies its owner by the kernel's number, which differs in the
//!   child.)
//! - [`ForkSafe`] values are accessed only in the section.
//!
//! Invariants
//! - I1: the generation of a handle is not 0. So no handle belongs to a process that has not
//!   settled: a new child owns none, from its first instruction on, whatever runs before our
//!   handler, and after a raw `clone`, too.
//! - I2: a process settles before it enters the section. So what a new child finds there is its
//!   parent's.
//! - I3: a fork through the C library waits for the section and holds it across, so that the child
//!   gets it intact. After a raw `clone`, or a fork that began before the handlers were registered,
//!   the forking thread does not own the section in the child. What is in there may be half
//!   changed: it is forgotten, not used.
//!
//! Handlers: they are registered when the program (or the shared library that contains this) is
//! loaded, so nearly every other handler is registered later. A later handler runs while the
//! section is free. If it takes locks of the program, they are taken before the section, as in
//! every call of this library. An earlier handler runs in the section. The thread that forks owns
//! it, so that handler may use the library. Registering twice is harmless, since the handlers'
//! steps may be nested and repeated. So no thread waits for another to register, and a child that
//! inherits a half-done registration repeats it.
//!
//! Where the kernel does not wipe pages (before Linux 4.14), our handler in the child does. What
//! runs in a child before that handler, or without it, takes itself for the parent.
//!
//! Crash: all of this is private memory.

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::CWD;

use super::file::{self, FileId};
use super::process;
use super::{futex, membarrier};

/// At least the page size of the machine.
const PAGE_LEN: usize = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { 4096 } else { 65536 };

#[repr(C)]
#[cfg_attr(any(target_arch = "x86_64", target_arch = "x86"), repr(align(4096)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "x86")), repr(align(65536)))]
struct Page {
    /// Which process this is, of those that were forked from the first. 0: it has not settled yet.
    generation: AtomicU32,
    /// 1 while a thread of this process settles.
    settling: AtomicU32,
    rest: [u8; PAGE_LEN - 8],
}

static PAGE: Page = Page { generation: AtomicU32::new(0), settling: AtomicU32::new(0), rest: [0; PAGE_LEN - 8] };

/// Whether the kernel wipes the page in a child.
static IS_WIPED: AtomicBool = AtomicBool::new(false);

/// The latest generation.
static LAST_GENERATION: AtomicU32 = AtomicU32::new(0);

/// [`ForkSafe`] values of earlier generations may be half changed (I3).
static INTACT_SINCE: AtomicU32 = AtomicU32::new(0);

/// Whether the handlers are registered.
static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

/// Whether the handler before a fork has run, and none after it yet.
static IS_FORKING: AtomicBool = AtomicBool::new(false);

/// The process that made a handle: another number in every forked child, 0 until it settles. A
/// forked child finds that the handle is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    #[inline]
    pub(crate) fn current() -> Self {
        // Relaxed: only compared with what the same process saw when it made a handle.
        Self(PAGE.generation.load(Ordering::Relaxed))
    }

    /// Whether this is the process that made the handle: one load and one comparison.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.0 == PAGE.generation.load(Ordering::Relaxed) // as above
    }
}

/// In the word of a [`PassableGeneration`]. No generation has this bit.
const PASSED: u32 = 1 << 31;

/// The process that made a handle, and whether that process has passed it to another one since: one
/// word, so that one comparison answers both.
///
/// Relaxed: nothing else uses a handle while it is passed on.
#[derive(Debug)]
pub(crate) struct PassableGeneration(AtomicU32);

impl PassableGeneration {
    pub(crate) fn current() -> Self {
        Self(AtomicU32::new(Generation::current().0))
    }

    /// Whether this process has the handle: as [`Generation::is_current`].
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        Generation(self.0.load(Ordering::Relaxed)).is_current()
    }

    /// Whether this process has made the handle and passed it on.
    pub(crate) fn is_passed(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & PASSED != 0 && Generation(word & !PASSED).is_current()
    }

    pub(crate) fn pass(&self) {
        self.0.fetch_or(PASSED, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self) {
        self.0.fetch_and(!PASSED, Ordering::Relaxed);
    }
}

/// A reentrant lock of this process.
struct Section {
    /// 0 free, 1 taken, 2 taken and contended: Drepper's futex mutex.
    word: AtomicU32,
    /// The thread that owns it, or 0. Only that thread ever finds its own token here.
    owner: AtomicU64,
    /// How often the owner has acquired it.
    depth: AtomicU32,
}

static SECTION: Section = Section { word: AtomicU32::new(0), owner: AtomicU64::new(0), depth: AtomicU32::new(0) };

impl Section {
    /// Relaxed, for all accesses to owner and depth: only the owner does more than compare them.
    fn is_own(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == process::thread_token()
    }

    /// Blocks until this thread owns the section. The process has settled.
    fn acquire(&self) {
        if !self.is_own() {
            // Relaxed on failure: the swap decides.
            if self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                while self.word.swap(2, Ordering::Acquire) != 0 {
                    futex::wait(&self.word, 2, Duration::from_secs(1));
                }
            }
            self.owner.store(process::thread_token(), Ordering::Relaxed);
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    fn release(&self) {
        if self.is_own() && self.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.owner.store(0, Ordering::Relaxed);
            if self.word.swap(0, Ordering::Release) == 2 {
                futex::wake(&self.word, 1);
            }
        }
    }

    /// Frees the section in a child that has no thread to release it. Relaxed: the child has one
    /// thread.
    fn reset(&self) {
        self.depth.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Relaxed);
    }
}

/// Owns the section until dropped.
struct SectionGuard;

impl SectionGuard {
    fn enter() -> Self {
        // Relaxed: registering twice is harmless.
        if !IS_REGISTERED.load(Ordering::Relaxed) {
            register();
        }
        settle();
        SECTION.acquire();
        Self
    }
}

impl Drop for SectionGuard {
    fn drop(&mut self) {
        SECTION.release();
    }
}

#[cold]
extern "C" fn register() {
    // An allocator has fork handlers, too, and registers them at the first allocation. They must
    // run within ours, because the section allocates.
    drop(std::hint::black_box(Box::new(0_u64)));
    // SAFETY: the three handlers do only what is allowed around fork: futex, close, fstat, atomics.
    // (If there is no memory to register them, the page still tells children from the parent.)
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    IS_REGISTERED.store(true, Ordering::Relaxed);
    settle();
}

/// Runs before `main`, and before initialisers without a priority of their own.
#[used]
// SAFETY: the C library calls what is here as a C function, which may ignore its arguments. This
// one needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array.00101")]
static AT_LOAD: extern "C" fn() = register;

/// Gives a new process its generation, unless it has one. Afterwards it holds nothing of its
/// parent's.
#[inline]
fn settle() {
    // Acquire: what the settling thread did is visible.
    if PAGE.generation.load(Ordering::Acquire) == 0 {
        settle_slow();
    }
}

#[cold]
fn settle_slow() {
    if PAGE.settling.swap(1, Ordering::Acquire) == 1 {
        // Another thread of this very process settles: in a child the flag would be wiped.
        while PAGE.generation.load(Ordering::Acquire) == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        return;
    }
    if !IS_WIPED.load(Ordering::Relaxed) {
        // SAFETY: no other static is in these pages, and only the atomics in them are read.
        let done =
            unsafe { libc::madvise(ptr::from_ref(&PAGE).cast_mut().cast(), size_of::<Page>(), libc::MADV_WIPEONFORK) };
        IS_WIPED.store(done == 0, Ordering::Relaxed);
    }
    let generation = (LAST_GENERATION.load(Ordering::Relaxed).wrapping_add(1) & !PASSED).max(1);
    LAST_GENERATION.store(generation, Ordering::Relaxed);
    if SECTION.is_own() {
        close_inherited();
    } else {
        SECTION.reset(); // I3
        INTACT_SINCE.store(generation, Ordering::Relaxed);
    }
    membarrier::forget_in_child();
    PAGE.generation.store(generation, Ordering::Release);
}

/// In a child, closes the descriptors that hold its parent's locks. Nothing allocates.
fn close_inherited() {
    let close = |(descriptor, id): (RawFd, FileId)| {
        if is_for_child(descriptor) {
            return;
        }
        // SAFETY: if it is open, it is borrowed for this check only.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // The forking thread may have had a descriptor table of its own, where the number is
        // another file.
        if file::metadata(borrowed).is_ok_and(|metadata| metadata.id == id) {
            // SAFETY: owned by a `ForkGuardedFd`, whose Drop sees the new generation and does not
            // close the number again.
            unsafe { libc::close(descriptor) };
        }
    };
    // SAFETY: this thread owns the section, as the caller has checked.
    unsafe { DESCRIPTORS.if_idle(|descriptors| descriptors.drain(..).for_each(close)) };
}

extern "C" fn before_fork() {
    settle();
    SECTION.acquire();
    IS_FORKING.store(true, Ordering::Relaxed);
}

extern "C" fn after_fork_in_parent() {
    IS_FORKING.store(false, Ordering::Relaxed);
    SECTION.release();
}

extern "C" fn after_fork_in_child() {
    if IS_FORKING.swap(false, Ordering::Relaxed) && !IS_WIPED.load(Ordering::Relaxed) {
        PAGE.settling.store(0, Ordering::Relaxed);
        PAGE.generation.store(0, Ordering::Relaxed);
    }
    settle();
    SECTION.release();
}

thread_local! {
    /// The descriptors that a child forked by this thread keeps.
    static FOR_CHILD: Cell<*const [RawFd]> = const { Cell::new(&[]) };
}

fn is_for_child(descriptor: RawFd) -> bool {
    // SAFETY: set only while `keeping` borrows the slice, on the stack of this very thread.
    FOR_CHILD.with(|kept| unsafe { &*kept.get() }.contains(&descriptor))
}

/// Runs `action`, which forks on this thread. Its child keeps these guarded descriptors, and the
/// children of other threads do not.
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

/// A value that the threads of a process share, in the section. A forked child inherits it intact,
/// or not at all.
pub(crate) struct ForkSafe<T> {
    value: UnsafeCell<Option<T>>,
    /// The generation that made the value.
    since: AtomicU32,
    is_busy: AtomicBool,
}

// SAFETY: the value is accessed only in the section, by one thread at a time.
unsafe impl<T: Send> Sync for ForkSafe<T> {}

impl<T> ForkSafe<T> {
    pub(crate) const fn new() -> Self {
        Self { value: UnsafeCell::new(None), since: AtomicU32::new(0), is_busy: AtomicBool::new(false) }
    }

    /// Returns whether there is a value, not inherited half changed. Relaxed: in the section.
    fn is_intact(&self) -> bool {
        self.since.load(Ordering::Relaxed) >= INTACT_SINCE.load(Ordering::Relaxed).max(1)
    }

    /// Runs `action` on the value, if there is one and nobody is changing it.
    ///
    /// # Safety
    /// This thread owns the section.
    unsafe fn if_idle(&self, action: impl FnOnce(&mut T)) {
        // Relaxed: in the section.
        if !self.is_busy.load(Ordering::Relaxed) && self.is_intact() {
            // SAFETY: there is no other reference.
            unsafe { &mut *self.value.get() }.as_mut().map(action);
        }
    }
}

impl<T: Default> ForkSafe<T> {
    /// Runs `action` on the value. No fork can happen in the middle of it.
    ///
    /// # Panics
    /// Panics if `action` calls this again.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        struct Idle<'a>(&'a AtomicBool);
        impl Drop for Idle<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let _section = SectionGuard::enter();
        if !self.is_intact() {
            // It may be half changed (I3), so it is not even dropped.
            // SAFETY: in the section, and nothing in this process has a reference.
            unsafe { self.value.get().write(Some(T::default())) };
            self.since.store(Generation::current().0, Ordering::Relaxed);
            self.is_busy.store(false, Ordering::Relaxed);
        }
        assert!(!self.is_busy.swap(true, Ordering::Relaxed), "called again by its own action");
        let _idle = Idle(&self.is_busy);
        // SAFETY: in the section, and not busy until now, so this is the only reference.
        action(unsafe { &mut *self.value.get() }.get_or_insert_default())
    }
}

/// The descriptors to close in a child, and their files.
static DESCRIPTORS: ForkSafe<Vec<(RawFd, FileId)>> = ForkSafe::new();

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub struct ForkGuardedFd {
    descriptor: ManuallyDrop<OwnedFd>,
    id: FileId,
    generation: Generation,
}

impl ForkGuardedFd {
    /// Runs `open` and guards the result. No fork can happen in between. The descriptor is none of
    /// the standard streams: what writes to those would write to it.
    pub(crate) fn new(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Self> {
        let _section = SectionGuard::enter();
        let descriptor = file::above_streams(open()?)?;
        let id = file::metadata(&descriptor)?.id;
        DESCRIPTORS.with(|descriptors| descriptors.push((descriptor.as_raw_fd(), id)));
        Ok(Self { descriptor: ManuallyDrop::new(descriptor), id, generation: Generation::current() })
    }

    /// Returns the descriptor, no longer guarded.
    pub(crate) fn release(self) -> OwnedFd {
        let _section = SectionGuard::enter();
        let mut this = ManuallyDrop::new(self);
        this.forget();
        // SAFETY: taken once, here: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.descriptor) }
    }

    /// Takes the descriptor off the list: a forked child keeps it.
    fn forget(&self) {
        let own = (self.descriptor.as_raw_fd(), self.id);
        DESCRIPTORS.with(|descriptors| {
            if let Some(index) = descriptors.iter().position(|&other| other == own) {
                descriptors.swap_remove(index);
            }
        });
    }

    /// Returns false in a forked child. There the descriptor is closed, and its number may mean
    /// another file.
    #[inline]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.generation.is_current()
    }

    /// Returns whether the number still means the file that was opened. It may not in a thread with
    /// a descriptor table of its own, nor after something else has closed it.
    fn is_proven(&self) -> bool {
        self.is_from_this_process() && file::metadata(&*self.descriptor).is_ok_and(|metadata| metadata.id == self.id)
    }
}

/// Returns the descriptor if its number still means the file that was opened, and otherwise one
/// that every call refuses (EBADF). So nothing is written to another file, and no answer about its
/// locks is used. Each call makes one system call. Use the result in the next one.
impl AsFd for ForkGuardedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.is_proven() { self.descriptor.as_fd() } else { CWD }
    }
}

impl Drop for ForkGuardedFd {
    fn drop(&mut self) {
        let _section = SectionGuard::enter();
        // In a forked child the handler has closed the descriptor already. A number that means
        // another file is not ours to close. If it does so in this thread only, the descriptor is
        // still open, and still to be closed in children.
        if self.is_proven() {
            self.forget();
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}
