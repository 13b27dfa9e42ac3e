//! Futures of objects. A handle is shared by tasks, so each future has its own state of waiting.
//!
//! A future for something that a limited number of callers can have takes turns like a blocking
//! call (`fairness.rs`): one that the waiter thread has woken is Queued, and where a blocking call
//! stands by, the task is polled again at once, for no longer than MAX_BARGING.

use std::future::Future;
use std::task::Poll;

use crate::error::{Error, Result, SyncError};
use crate::object::Handle;
use crate::object::fairness::{Contended, FairTurn};
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::wait::{Pollable, WaitEnd, WaitState, Waiter, poll_until_ready};

/// What a future waits for.
trait Awaited {
    type Output;

    fn event(&self) -> &EventCount<Mapped>;

    fn attempt(&mut self) -> Result<Option<Self::Output>, SyncError>;

    /// Asks the kernel about the processes that this waits for. Returns an end if that is of no
    /// use.
    fn check_liveness(&mut self) -> Option<WaitEnd>;

    /// Called before the attempt after a wake-up.
    fn on_wake(&mut self) {}

    /// Whether to try again soon, without listening.
    fn is_yielding(&self) -> bool {
        false
    }

    /// Called when the future is dropped, however that ended.
    fn give_up(&mut self) {}
}

/// Something that any number of callers see.
struct Condition<'a, C, F> {
    event: &'a EventCount<Mapped>,
    check_liveness: C,
    attempt: F,
}

impl<T, C, F> Awaited for Condition<'_, C, F>
where
    C: FnMut() -> Option<WaitEnd>,
    F: FnMut() -> Result<Option<T>, SyncError>,
{
    type Output = T;

    fn event(&self) -> &EventCount<Mapped> {
        self.event
    }

    fn attempt(&mut self) -> Result<Option<T>, SyncError> {
        (self.attempt)()
    }

    fn check_liveness(&mut self) -> Option<WaitEnd> {
        (self.check_liveness)()
    }
}

/// Something that a limited number of callers can have at a time.
struct InTurn<C, F> {
    what: C,
    /// The attempt of a newcomer.
    first: F,
    /// None before the first attempt.
    turn: Option<FairTurn>,
}

impl<C: Contended, F: FnMut() -> Result<Option<C::Taken>, SyncError>> Awaited for InTurn<C, F> {
    type Output = C::Taken;

    fn event(&self) -> &EventCount<Mapped> {
        self.what.event()
    }

    fn attempt(&mut self) -> Result<Option<C::Taken>, SyncError> {
        if let Some(turn) = &self.turn {
            return turn.try_take(&self.what);
        }
        self.turn = Some(FairTurn::beginning_now());
        (self.first)()
    }

    fn check_liveness(&mut self) -> Option<WaitEnd> {
        self.what.check_liveness()
    }

    fn on_wake(&mut self) {
        if let Some(turn) = &self.turn {
            turn.set_queued();
        }
    }

    fn is_yielding(&self) -> bool {
        self.turn.as_ref().is_some_and(FairTurn::is_yielding)
    }

    fn give_up(&mut self) {
        if let Some(turn) = &self.turn {
            turn.give_up(&self.what);
        }
    }
}

/// One future's wait.
struct TaskWaiter<'a, A: Awaited> {
    handle: &'a Handle,
    awaited: A,
    state: WaitState,
}

impl<A: Awaited> Pollable for TaskWaiter<'_, A> {
    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }

    fn check_here(&self) -> Result<()> {
        self.handle.check_process().map_err(|_| Error::forked("wait for an object"))
    }
}

impl<A: Awaited> Waiter for TaskWaiter<'_, A> {
    type End = WaitEnd;

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        self.handle.membership.region().has_lost_name(); // for the warnings
        self.awaited.check_liveness()
    }

    fn event(&self) -> &EventCount<Mapped> {
        self.awaited.event()
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }
}

impl<A: Awaited> TaskWaiter<'_, A> {
    fn poll(&mut self) -> Poll<Result<A::Output, SyncError>> {
        if let Err(error) = self.handle.check_process() {
            return Poll::Ready(Err(error));
        }
        if self.state.has_fired() {
            self.awaited.on_wake();
        }
        loop {
            if let Some(done) = self.awaited.attempt().transpose() {
                return Poll::Ready(done);
            }
            if let Some(end) = self.end_of_try() {
                return Poll::Ready(Err(end.into()));
            }
            if self.awaited.is_yielding() || !self.listen_after_try() {
                return Poll::Pending;
            }
        }
    }
}

impl<A: Awaited> Drop for TaskWaiter<'_, A> {
    fn drop(&mut self) {
        // A forked child does not wait in its parent's place.
        if self.handle.is_from_this_process() {
            self.awaited.give_up();
        }
    }
}

fn wait_async<A: Awaited, R>(
    handle: &Handle,
    awaited: A,
    finish: impl Fn(A::Output) -> Result<R, SyncError>,
) -> impl Future<Output = Result<R, SyncError>> {
    let waiter = TaskWaiter { handle, awaited, state: WaitState::for_one_wait(handle.wait) };
    poll_until_ready(waiter, move |waiter| waiter.poll().map(|done| done.and_then(&finish)))
}

/// Returns a future that attempts until one succeeds, or `check_liveness` returns an end, and then
/// is what `finish` returns.
pub(super) fn wait_for_async<'a, T, R>(
    handle: &'a Handle,
    event: &'a EventCount<Mapped>,
    check_liveness: impl FnMut() -> Option<WaitEnd>,
    attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    finish: impl Fn(T) -> Result<R, SyncError>,
) -> impl Future<Output = Result<R, SyncError>> {
    wait_async(handle, Condition { event, check_liveness, attempt }, finish)
}

/// Returns a future that waits until it can be taken, in turn with the others. `first` is the
/// attempt of a newcomer.
pub(super) fn wait_fairly_async<C: Contended, R>(
    handle: &Handle,
    what: C,
    first: impl FnMut() -> Result<Option<C::Taken>, SyncError>,
    finish: impl Fn(C::Taken) -> Result<R, SyncError>,
) -> impl Future<Output = Result<R, SyncError>> {
    wait_async(handle, InTurn { what, first, turn: None }, finish)
}
