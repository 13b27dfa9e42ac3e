//! A descriptor that the waiter thread makes readable when an event changes, for a sleep in
//! `poll(2)`.
//!
//! It is for a thread that is blocked, so what a wake-up owes is simpler than for tasks: the thread
//! has the keys of all events, and passes on by them what it does not use, after its registrations
//! have ended. A wake-up that the waiter thread gets later is passed on by itself (W2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use super::waiter_thread::{Actions, Registrations};
use crate::raw::event_count::{EventCount, Key};
use crate::region::words::Mapped;
use crate::sys::eventfd;
use crate::sys::fork::ForkGuardedFd;

#[derive(Debug)]
pub(crate) struct WakeFd(Arc<Signal>);

#[derive(Debug)]
struct Signal(ForkGuardedFd);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        eventfd::signal(&self.0);
    }
}

impl WakeFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Signal(ForkGuardedFd::new(eventfd::create)?))))
    }

    /// Returns false in a forked child, where it is closed.
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.0.0.is_from_this_process()
    }

    /// Makes it unreadable until one of the events has changed since its key. That may be already.
    /// Nothing makes it readable any more once the result is dropped, except what is on the way.
    pub(crate) fn register<'a>(
        &self,
        events: impl Iterator<Item = (&'a EventCount<Mapped>, Key)>,
    ) -> io::Result<Registrations> {
        eventfd::reset(&self.0.0);
        let actions = Actions { waker: Some(Arc::new(Waker::from(Arc::clone(&self.0)))), readiness: Weak::new() };
        // Made out of the section, in which others wait.
        let events: Vec<_> =
            events.map(|(event, key)| (Arc::new(EventCount::new(event.word().clone())), key)).collect();
        Registrations::new(&events, &actions)
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}
