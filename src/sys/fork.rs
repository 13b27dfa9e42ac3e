//! What must not survive `fork`: descriptors that hold this process's locks, and locks of threads
//! that the child does not have.
//!
//! What: an open-file-description lock belongs to the description, which a forked child shares. As
//! long as the child kept it, the parent's death would go unseen. So every forked child closes
//! those descriptors, and inherited handles notice by the generation that they are not its own.
//! (`Command` and other ways to fork and exec are covered by close-on-exec as well.) What the
//! threads of a process share is kept under one lock, [`SECTION`], made such that a child never
//! inherits it locked, nor anything under it half changed.
//!
//! State
//! - [`PAGE`] is zero in every new process, be it the first one or a forked one: the kernel wipes
//!   it (`MADV_WIPEONFORK`). It holds the generation, and a flag for the thread that is about to
//!   set it ([`settle`]).
//! - [`SECTION`] is a lock that its thread may take again. It knows its owner by
//!   [`process::thread`], a number that a forking thread keeps in the child, so that the child's
//!   image of that thread still owns it. (A recursive pthread mutex knows its owner by the kernel's
//!   number, which is another in the child.)
//! - [`ForkSafe`] values are touched only within the section.
//!
//! Invariants
//! - I1: the generation of a handle is not 0. So no handle belongs to a process that has not
//!   settled: a new child owns none, from its first instruction on, whatever runs before our
//!   handler, and after a raw `clone` too.
//! - I2: a process settles before it enters the section. So what a new child finds there is its
//!   parent's.
//! - I3: a fork through the C library waits for the section and holds it across, so the child gets
//!   it whole. Where that was not so (a raw `clone`; a fork that began before the handlers were
//!   registered), the forking thread does not own the section in the child. What is in there may be
//!   half changed: it is forgotten, not used.
//!
//! Handlers: they are registered when the program is loaded (or the shared library that contains
//! this), so that nearly every other handler is registered later. Such a handler runs while the
//! section is free, and locks of the program that it takes are taken before the section, which is
//! the order of every call of this library. A handler that was registered earlier still runs within
//! the section. The thread that forks owns it, so the handler may use the library. Registering
//! twice is harmless, since the handlers' steps may be nested and repeated. So no thread waits for
//! another to register, and a child that inherits a registration half-done repeats it.
//!
//! Where the kernel does not wipe pages (before Linux 4.14), our handler in the child does. What
//! runs in a child before that handler, or without it, then takes itself for the parent.
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

use super::memory::{self, FileId};
use super::process;
use super::{futex, membarrier};

/// At least the page size of the machine.
const PAGE_LEN: usize = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { 4096 } else { 65536 };

#[repr(C)]
#[cfg_attr(any(target_arch = "x86_64", target_arch = "x86"), repr(align(4096)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "x86")), repr(align(65536)))]
struct Page {
    /// Which process this is, among those that were forked from the first; 0: not settled yet.
    generation: AtomicU32,
    /// 1: a thread of this process is settling.
    settling: AtomicU32,
    rest: [u8; PAGE_LEN - 8],
}

static PAGE: Page = Page { generation: AtomicU32::new(0), settling: AtomicU32::new(0), rest: [0; PAGE_LEN - 8] };

/// The kernel wipes the page in a child.
static IS_WIPED: AtomicBool = AtomicBool::new(false);

/// The last generation that there was.
static LAST: AtomicU32 = AtomicU32::new(0);

/// What this generation inherited from an earlier one, outside of the section, is forgotten.
static WHOLE_SINCE: AtomicU32 = AtomicU32::new(0);

/// The handlers are there.
static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

/// A handler before a fork has run, and none after it yet.
static IS_FORKING: AtomicBool = AtomicBool::new(false);

/// Which process this is: another number in every forked child, 0 until it settles.
#[inline]
pub(crate) fn generation() -> u32 {
    // Relaxed: a handle is compared with what its own process was when it was made.
    PAGE.generation.load(Ordering::Relaxed)
}

/// The process that made a handle. A forked child finds that the handle is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    #[inline]
    pub(crate) fn current() -> Self {
        Self(generation())
    }

    /// Whether this is the process that made the handle: one load and one comparison.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.0 == generation()
    }
}

/// A lock of this process that its thread may take again.
struct Section {
    /// 0 free, 1 taken, 2 taken and wanted: Drepper's futex mutex.
    word: AtomicU32,
    /// The thread that has it, 0 for none. Only that thread ever finds its own number here.
    owner: AtomicU64,
    /// How often the owner has it.
    depth: AtomicU32,
}

static SECTION: Section = Section { word: AtomicU32::new(0), owner: AtomicU64::new(0), depth: AtomicU32::new(0) };

impl Section {
    /// Relaxed, here and below: only the owner reads owner and depth for more than a comparison.
    fn is_own(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == process::thread()
    }

    /// Blocks until the section is this thread's. The process has settled.
    fn take(&self) {
        if !self.is_own() {
            if self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                while self.word.swap(2, Ordering::Acquire) != 0 {
                    futex::wait(&self.word, 2, Duration::from_secs(1));
                }
            }
            self.owner.store(process::thread(), Ordering::Relaxed);
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    fn give_back(&self) {
        if self.is_own() && self.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.owner.store(0, Ordering::Relaxed);
            if self.word.swap(0, Ordering::Release) == 2 {
                futex::wake(&self.word, 1);
            }
        }
    }

    /// In a child that has no thread to give it back.
    fn reset(&self) {
        self.depth.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Relaxed);
    }
}

/// The section, until dropped.
struct Inside;

impl Inside {
    fn enter() -> Self {
        if !IS_REGISTERED.load(Ordering::Relaxed) {
            register();
        }
        settle();
        SECTION.take();
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        SECTION.give_back();
    }
}

#[cold]
extern "C" fn register() {
    // An allocator has fork handlers, too, and registers them when it is first asked. They must run
    // inside of ours: the section allocates.
    drop(std::hint::black_box(Box::new(0_u64)));
    // SAFETY: the three handlers do only what is allowed around fork: futex, close, fstat, atomics.
    // (If there is no memory to register them, children still know themselves by the page.)
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    IS_REGISTERED.store(true, Ordering::Relaxed);
    settle();
}

/// Runs before `main`, and before initialisers without a priority of their own.
#[used]
// SAFETY: the C library calls what is here as a C function, whose arguments it may ignore. This one
// needs nothing of Rust's runtime.
#[unsafe(link_section = ".init_array.00101")]
static AT_LOAD: extern "C" fn() = register;

/// Gives a new process its generation; afterwards it holds nothing of its parent's.
#[inline]
fn settle() {
    // Acquire: what whoever settled did is visible.
    if PAGE.generation.load(Ordering::Acquire) == 0 {
        settle_slowly();
    }
}

#[cold]
fn settle_slowly() {
    if PAGE.settling.swap(1, Ordering::Acquire) == 1 {
        // By another thread of this very process: in a child the flag would be wiped.
        while PAGE.generation.load(Ordering::Acquire) == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        return;
    }
    if !IS_WIPED.load(Ordering::Relaxed) {
        // SAFETY: the pages are this static's alone, and only its atomics are read.
        let done =
            unsafe { libc::madvise(ptr::from_ref(&PAGE).cast_mut().cast(), size_of::<Page>(), libc::MADV_WIPEONFORK) };
        IS_WIPED.store(done == 0, Ordering::Relaxed);
    }
    let generation = LAST.load(Ordering::Relaxed).wrapping_add(1).max(1);
    LAST.store(generation, Ordering::Relaxed);
    if SECTION.is_own() {
        close_inherited();
    } else {
        SECTION.reset(); // I3
        WHOLE_SINCE.store(generation, Ordering::Relaxed);
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
        // SAFETY: if it is open, it is borrowed for the question only.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // The forking thread may have had a table of its own, where that number is another file's.
        if memory::facts(borrowed).is_ok_and(|facts| facts.id == id) {
            // SAFETY: owned by a `ForkGuardedFd` whose Drop sees the new generation and leaves the number
            // alone.
            unsafe { libc::close(descriptor) };
        }
    };
    // SAFETY: the section is this thread's, as the caller has seen.
    unsafe { DESCRIPTORS.if_idle(|descriptors| descriptors.drain(..).for_each(close)) };
}

extern "C" fn before_fork() {
    settle();
    SECTION.take();
    IS_FORKING.store(true, Ordering::Relaxed);
}

extern "C" fn after_fork_in_parent() {
    IS_FORKING.store(false, Ordering::Relaxed);
    SECTION.give_back();
}

extern "C" fn after_fork_in_child() {
    if IS_FORKING.swap(false, Ordering::Relaxed) && !IS_WIPED.load(Ordering::Relaxed) {
        PAGE.settling.store(0, Ordering::Relaxed);
        PAGE.generation.store(0, Ordering::Relaxed);
    }
    settle();
    SECTION.give_back();
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

/// Something that the threads of a process share, within the section. A forked child inherits it
/// whole.
pub(crate) struct ForkSafe<T> {
    value: UnsafeCell<Option<T>>,
    /// The generation that made it.
    since: AtomicU32,
    is_busy: AtomicBool,
}

// SAFETY: the value is touched only within the section, by one thread at a time.
unsafe impl<T: Send> Sync for ForkSafe<T> {}

impl<T> ForkSafe<T> {
    pub(crate) const fn new() -> Self {
        Self { value: UnsafeCell::new(None), since: AtomicU32::new(0), is_busy: AtomicBool::new(false) }
    }

    /// Whether it is there, and no child's that has inherited it half changed.
    fn is_whole(&self) -> bool {
        self.since.load(Ordering::Relaxed) >= WHOLE_SINCE.load(Ordering::Relaxed).max(1)
    }

    /// Runs `action` on the value, if there is one and nobody is about to change it.
    ///
    /// # Safety
    /// The section is this thread's.
    unsafe fn if_idle(&self, action: impl FnOnce(&mut T)) {
        // Relaxed, here and below: within the section.
        if !self.is_busy.load(Ordering::Relaxed) && self.is_whole() {
            // SAFETY: there is no other reference.
            unsafe { &mut *self.value.get() }.as_mut().map(action);
        }
    }
}

impl<T: Default> ForkSafe<T> {
    /// Runs `action` on the value. No fork can come in the middle of it.
    ///
    /// # Panics
    /// If `action` calls this again.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        struct Idle<'a>(&'a AtomicBool);
        impl Drop for Idle<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let _inside = Inside::enter();
        if !self.is_whole() {
            // Perhaps half changed (I3), so it is not even dropped.
            // SAFETY: within the section, and nothing in this process has a reference.
            unsafe { self.value.get().write(Some(T::default())) };
            self.since.store(generation(), Ordering::Relaxed);
            self.is_busy.store(false, Ordering::Relaxed);
        }
        assert!(!self.is_busy.swap(true, Ordering::Relaxed), "within the section, again");
        let _idle = Idle(&self.is_busy);
        // SAFETY: within the section, and not busy until now, so this is the only reference.
        action(unsafe { &mut *self.value.get() }.get_or_insert_default())
    }
}

/// The descriptors to close in a child, and what they are.
static DESCRIPTORS: ForkSafe<Vec<(RawFd, FileId)>> = ForkSafe::new();

/// A descriptor that a forked child does not keep.
#[derive(Debug)]
pub struct ForkGuardedFd {
    descriptor: ManuallyDrop<OwnedFd>,
    id: FileId,
    generation: u32,
}

impl ForkGuardedFd {
    /// Runs `open` such that no fork can come between the opening and the guarding.
    pub(crate) fn new(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Self> {
        let _inside = Inside::enter();
        let descriptor = open()?;
        let id = memory::facts(&descriptor)?.id;
        DESCRIPTORS.with(|descriptors| descriptors.push((descriptor.as_raw_fd(), id)));
        Ok(Self { descriptor: ManuallyDrop::new(descriptor), id, generation: generation() })
    }

    /// The descriptor, for somebody else to look after.
    pub(crate) fn release(self) -> OwnedFd {
        let _inside = Inside::enter();
        let mut this = ManuallyDrop::new(self);
        this.forget();
        // SAFETY: taken once, here: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.descriptor) }
    }

    /// From now on a forked child keeps it.
    fn forget(&self) {
        let own = (self.descriptor.as_raw_fd(), self.id);
        DESCRIPTORS.with(|descriptors| {
            if let Some(index) = descriptors.iter().position(|&other| other == own) {
                descriptors.swap_remove(index);
            }
        });
    }

    /// False in a forked child: there the descriptor is closed and its number may mean another
    /// file.
    #[inline]
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.generation == generation()
    }

    /// Whether the number still means the file that was opened. It does not in a thread with a
    /// table of its own in which it means another, nor after something else has closed it.
    fn is_proven(&self) -> bool {
        self.is_from_this_process() && memory::facts(&*self.descriptor).is_ok_and(|facts| facts.id == self.id)
    }
}

/// Returns the descriptor if its number still means the file that was opened, and otherwise one
/// that every call refuses (EBADF). So nothing is written to another file, and nothing is believed
/// that it says of locks. Each time it is asked for, that is one system call; the next one should
/// be the use.
impl AsFd for ForkGuardedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.is_proven() { self.descriptor.as_fd() } else { CWD }
    }
}

impl Drop for ForkGuardedFd {
    fn drop(&mut self) {
        let _inside = Inside::enter();
        // In a forked child the handler has closed the descriptor instead. A number that means
        // another file is not ours to close. If it does so in this thread only, the descriptor is
        // still open, and still to be closed in children.
        if self.is_proven() {
            self.forget();
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}
