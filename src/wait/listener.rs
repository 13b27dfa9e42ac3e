//! What a handle keeps while a task or an event loop waits for it.
//!
//! Every fruitless `try_` call comes to [`Listener::after_try`], which listens, asks for one more
//! try, and after that registers with the waiter thread:
//!
//! | stage | after a fruitless try | and becomes |
//! |---|---|---|
//! | Idle | listens, asks for one more | Listening |
//! | Listening | registers | Registered |
//! | Registered, pending | makes the descriptor unreadable again | Registered |
//! | Registered, fired | listens, asks for one more | Listening |
//!
//! A registration that has fired owes its wake-up to the others until a try comes after that. The
//! one more that is asked for is such a try. A caller may leave it out, to let others go first. If
//! it ends then, another one gets the wake-up.
//!
//! A descriptor is made unreadable only in the stage Registered, so it is readable in all other
//! stages. A try that succeeds needs to do nothing.

use std::fmt;
use std::mem;
use std::ptr;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::Waker;

use super::readiness::{Readiness, ReadinessFd};
use super::waiter_thread::{Actions, Registration, SharedStatus, Status};
use crate::error::{Error, Result};
use crate::raw::event_count::{EventCount, Key};
use crate::region::words::Mapped;
use crate::sys::fork::Generation;

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// `owes`: a wake-up was spent on the registration before, and no try has come since.
    Listening {
        event: Arc<EventCount<Mapped>>,
        key: Key,
        owes: bool,
    },
    Registered(Arc<EventCount<Mapped>>, Registration),
}

pub(crate) struct Listener {
    stage: Stage,
    actions: Actions,
    status: SharedStatus,
    generation: Generation,
}

fn is_same(event: &EventCount<Mapped>, other: &EventCount<Mapped>) -> bool {
    ptr::eq::<crate::primitive::AtomicU32>(&**event.word(), &**other.word())
}

impl Listener {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle,
            actions: Actions::default(),
            status: SharedStatus::default(),
            generation: Generation::current(),
        }
    }

    /// Returns the descriptor of its handle.
    pub(super) fn readiness(&mut self) -> Result<Readiness> {
        if let Some(fd) = self.actions.readiness.upgrade() {
            return Ok(Readiness::new(fd));
        }
        let fd = ReadinessFd::new()
            .map_err(|error| Error::io("make a descriptor of an endpoint", error, "close others, or allow more"))?;
        let fd = Arc::new(fd);
        // A registration that has not this descriptor would not make it readable.
        self.take_back(true);
        self.actions.readiness = Arc::downgrade(&fd);
        Ok(Readiness::new(fd))
    }

    /// Whether nobody waits any more.
    pub(super) fn is_unused(&self) -> bool {
        self.actions.are_in_vain()
    }

    /// Call after a fruitless try. True: try once more.
    #[cold]
    pub(crate) fn after_try(&mut self, event: &EventCount<Mapped>) -> bool {
        match mem::take(&mut self.stage) {
            Stage::Registered(of, registration) if is_same(&of, event) => {
                if self.is_pending() {
                    self.stage = Stage::Registered(of, registration);
                    return false;
                }
                // The wake-up may have come after the try (W3).
                let key = of.listen();
                self.stage = Stage::Listening { event: of, key, owes: true };
            }
            Stage::Listening { event: of, key, .. } if is_same(&of, event) => {
                self.register(of, key);
                return false;
            }
            other => {
                self.stage = other;
                self.take_back(true);
                let event = Arc::new(EventCount::new(event.word().clone()));
                let key = event.listen();
                self.stage = Stage::Listening { event, key, owes: false };
            }
        }
        true
    }

    /// Whether a registration has not fired. Then its descriptor is unreadable.
    fn is_pending(&self) -> bool {
        self.status.note_try();
        if self.status.get() == Status::Notified {
            return false;
        }
        let Some(readiness) = self.actions.readiness.upgrade() else { return true };
        // It was made readable for a liveness check, or late, after an earlier registration had
        // fired.
        readiness.reset();
        let status = self.status.get();
        if status != Status::Pending {
            readiness.signal(None); // after the try
        }
        status != Status::Notified
    }

    fn register(&mut self, event: Arc<EventCount<Mapped>>, key: Key) {
        let readiness = self.actions.readiness.upgrade();
        if let Some(readiness) = &readiness {
            readiness.reset();
        }
        match Registration::new(&event, key, self.actions.clone(), &self.status) {
            Ok(registration) => self.stage = Stage::Registered(event, registration),
            // No thread can be started. So the caller polls.
            Err(_) => {
                if let Some(readiness) = readiness {
                    readiness.signal(None);
                }
            }
        }
    }

    /// Ends a registration. `passes_on`: if a wake-up was spent on it, another waiter gets it.
    pub(super) fn take_back(&mut self, passes_on: bool) {
        let stage = mem::take(&mut self.stage);
        if !self.generation.is_current() {
            return; // the parent's
        }
        let (event, owes) = match stage {
            Stage::Idle => return,
            Stage::Listening { event, owes, .. } => (event, owes),
            Stage::Registered(event, registration) => {
                registration.take_back();
                if let Some(readiness) = self.actions.readiness.upgrade() {
                    readiness.signal(None); // nothing else would make it readable now
                }
                (event, self.status.get() == Status::Notified)
            }
        };
        if passes_on && owes {
            event.notify(1);
        }
    }

    /// Chooses the task to wake.
    #[cfg(feature = "async")]
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if self.actions.waker.as_ref().is_some_and(|own| own.will_wake(waker)) {
            return;
        }
        self.actions.waker = Some(Arc::new(waker.clone()));
        if let Stage::Registered(_, registration) = &self.stage {
            registration.set_actions(self.actions.clone());
        }
    }

    #[cfg(feature = "async")]
    pub(super) fn has_waker(&self) -> bool {
        self.actions.waker.is_some()
    }

    /// Whether something will wake the task.
    #[cfg(feature = "async")]
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.stage, Stage::Registered(..))
    }

    /// Whether a registration has fired since the last try.
    #[cfg(feature = "async")]
    pub(super) fn has_fired(&self) -> bool {
        self.is_registered() && self.status.get() != Status::Pending
    }

    /// Ends the wait of a task. `has_taken`: it has got what it waited for, or an end.
    #[cfg(feature = "async")]
    pub(super) fn remove_waker(&mut self, has_taken: bool) {
        self.take_back(!has_taken);
        self.actions.waker = None;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.take_back(true);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("status", &self.status.get()).finish_non_exhaustive()
    }
}
