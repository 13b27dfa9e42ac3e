//! Ending the waits of a thread from outside: by another thread, or by a signal handler.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::primitive::{AtomicU32, Ordering};
use crate::raw::Memory;
use crate::raw::event_count::{EventCount, Key};
use crate::raw::interrupt::Interrupt;
use crate::sys::clock::{Deadline, deadline_after};

/// How long an interrupt goes unnoticed where the thread waits for something that is no word: a
/// descriptor, or another thread of this process.
const SLICE: Duration = Duration::from_millis(10);

/// 1 once any thread has a handle. Until then no wait looks for its thread's.
static IS_USED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static OF_THIS_THREAD: OnceCell<Arc<Shared>> = const { OnceCell::new() };
}

struct Shared {
    interrupt: Interrupt,
    /// 1: a signal that this thread catches interrupts it.
    on_signals: AtomicU32,
}

impl Shared {
    fn ends_on_signals(&self) -> bool {
        self.on_signals.load(Ordering::Relaxed) == 1 // a setting
    }
}

/// Returns the handle that interrupts the waits of the calling thread. Each call by a thread
/// returns the same one.
///
/// # Panics
/// If a destructor of thread-local data calls it while the thread ends.
///
/// # Examples
/// ```
/// use tombolo::{RecvError, queue};
///
/// let (_tx, mut rx) = queue::Options::<u64>::new().create_channel()?;
/// let handle = tombolo::interrupt_handle();
/// std::thread::spawn(move || handle.interrupt());
/// assert_eq!(rx.recv(), Err(RecvError::Interrupted)); // nobody sends
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn interrupt_handle() -> InterruptHandle {
    IS_USED.store(1, Ordering::Relaxed); // seen by this thread, which is enough
    let shared = || Arc::new(Shared { interrupt: Interrupt::new(), on_signals: AtomicU32::new(0) });
    InterruptHandle(OF_THIS_THREAD.with(|own| Arc::clone(own.get_or_init(shared))))
}

/// Ends the waits of one thread, the one that called [`interrupt_handle`].
///
/// [`interrupt`](Self::interrupt) ends any call of this crate that blocks this thread. It can wait
/// for a message, for room, for a peer, for the place of another participant, for a lock or another
/// object, for a process or a job, for a connection, or in a
/// [`Selector`](crate::select::Selector). The call returns an error `Interrupted`. No message was
/// taken or sent, and nothing was locked. The call leaves what a timeout would have left: a
/// [barrier](crate::sync::Barrier) is broken, a [request](crate::rpc::Caller) is given up. A
/// [`Condvar`](crate::sync::Condvar) does not lock the mutex again.
///
/// An interrupt ends one wait. If the thread does not wait now, the interrupt ends its next wait.
/// Calls in between that need not wait, or whose time is up, return what they always do, and the
/// interrupt stays. Several interrupts before a wait count as one. [`take`](Self::take) removes it.
///
/// These are not interrupted: `try_` calls, joining and leaving (which wait for other processes
/// that join or leave, for some seconds at most), destructors, and `terminate` of a pool of
/// processes.
///
/// # Signals
///
/// [`interrupt`](Self::interrupt) may be called in a signal handler: it is one atomic store and one
/// system call that does not block. So Ctrl-C ends a wait:
///
/// ```
/// # use std::sync::OnceLock;
/// # use tombolo::{InterruptHandle, RecvError, queue};
/// static MAIN: OnceLock<InterruptHandle> = OnceLock::new();
///
/// extern "C" fn on_sigint(_: libc::c_int) {
///     if let Some(main) = MAIN.get() {
///         main.interrupt();
///     }
/// }
///
/// MAIN.get_or_init(tombolo::interrupt_handle);
/// // SAFETY: the handler does nothing that a handler must not do.
/// unsafe { libc::signal(libc::SIGINT, on_sigint as *const () as libc::sighandler_t) };
/// let (_tx, mut rx) = queue::Options::<u64>::new().create_channel()?;
/// # unsafe { libc::raise(libc::SIGINT) };
/// assert_eq!(rx.recv(), Err(RecvError::Interrupted));
/// # Ok::<(), tombolo::Error>(())
/// ```
///
/// The handler of an interpreter (Python's `KeyboardInterrupt`) only notes the signal, and the code
/// for it runs later. Let such a handler call `interrupt`, too, or use
/// [`on_signals`](Self::on_signals).
///
/// # Processes
///
/// A handle interrupts a thread of the process that made it. In a forked child its copy belongs to
/// the copy of that thread.
#[derive(Clone)]
pub struct InterruptHandle(Arc<Shared>);

impl InterruptHandle {
    /// Ends the wait of the thread, or its next one. A signal handler may call this.
    ///
    /// # Blocking
    ///
    /// Never. Makes one system call. The wait ends at once, with two exceptions: a wait for a
    /// descriptor, a process or a job ends within 10 ms. On a kernel without `futex_waitv` (before
    /// Linux 5.16) a wait ends within a millisecond or two.
    pub fn interrupt(&self) {
        self.0.interrupt.set();
    }

    /// Returns whether the next wait of the thread will be interrupted.
    pub fn is_interrupted(&self) -> bool {
        self.0.interrupt.is_set()
    }

    /// Removes an interrupt that has not ended a wait yet. Returns whether there was one.
    pub fn take(&self) -> bool {
        self.0.interrupt.take()
    }

    /// Sets whether a caught signal interrupts the thread while it sleeps in a wait. By default it
    /// does not. The handler need not do anything, and may be installed with `SA_RESTART`. While
    /// this is set, a thread that sleeps checks once in a millisecond whether it was interrupted.
    ///
    /// A signal ends no wait if it comes while the call still spins or yields, or just before it
    /// sleeps. Where that matters, call [`interrupt`](Self::interrupt) in the handler.
    pub fn on_signals(&self, is_ended: bool) {
        self.0.on_signals.store(is_ended.into(), Ordering::Relaxed); // a setting
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").field("is_interrupted", &self.is_interrupted()).finish_non_exhaustive()
    }
}

/// What can end one wait of this thread: nothing, if it has no handle.
pub(crate) struct Interrupts(Option<Arc<Shared>>);

impl Interrupts {
    /// For what must not end early.
    #[cfg(feature = "process")]
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn of_this_thread() -> Self {
        // Relaxed: this thread's own store is what counts.
        if IS_USED.load(Ordering::Relaxed) == 0 {
            return Self(None);
        }
        Self(OF_THIS_THREAD.try_with(|own| own.get().cloned()).ok().flatten())
    }

    /// Whether the wait ends here. The interrupt is used up then.
    pub(crate) fn take(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.interrupt.take())
    }

    /// The same for a wait that sleeps on an event, or has slept on it.
    pub(crate) fn ends_wait<M: Memory>(&self, event: &EventCount<M>, has_slept: bool) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.interrupt.ends_wait(event, has_slept))
    }

    /// Sleeps on an event until notified or interrupted, for at most `limit`. May wake early.
    pub(crate) fn wait<M: Memory>(&self, event: &EventCount<M>, key: Key, limit: Duration) {
        match &self.0 {
            None => event.wait(key, limit),
            Some(shared) => {
                if event.wait_unless(key, &shared.interrupt, limit, shared.ends_on_signals()) {
                    self.note_signal();
                }
            }
        }
    }

    /// The same for several events. Returns false, at once, if that cannot be done.
    pub(crate) fn wait_any<'a, M: Memory + 'a>(
        &'a self,
        events: impl Iterator<Item = (&'a EventCount<M>, Key)>,
        limit: Duration,
    ) -> bool {
        let shared = self.0.as_deref();
        // The kernel may resume futex_waitv after a signal.
        !shared.is_some_and(Shared::ends_on_signals)
            && EventCount::wait_any(events, shared.map(|shared| &shared.interrupt), limit)
    }

    /// Sleeps for this long, unless interrupted.
    pub(crate) fn sleep(&self, time: Duration) {
        match &self.0 {
            None => thread::sleep(time),
            Some(shared) => {
                if shared.interrupt.sleep(time) {
                    self.note_signal();
                }
            }
        }
    }

    /// A signal ended a sleep.
    pub(crate) fn note_signal(&self) {
        if let Some(shared) = self.0.as_ref().filter(|shared| shared.ends_on_signals()) {
            shared.interrupt.set();
        }
    }

    /// The deadline of a sleep that no interrupt can end: soon, if there can be one.
    pub(crate) fn soon(&self, deadline: Deadline) -> Deadline {
        match &self.0 {
            None => deadline,
            Some(_) => deadline.into_iter().chain(deadline_after(SLICE)).min(),
        }
    }
}
