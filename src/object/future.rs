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
struct InTurn<C> {
    what: C,
    turn: FairTurn,
}

impl<C: Contended> Awaited for InTurn<C> {
    type Output = C::Taken;

    fn event(&self) -> &EventCount<Mapped> {
        self.what.event()
    }

    fn attempt(&mut self) -> Result<Option<C::Taken>, SyncError> {
        self.turn.try_take(&self.what)
    }

    fn check_liveness(&mut self) -> Option<WaitEnd> {
        self.what.check_liveness()
    }

    fn on_wake(&mut self) {
        self.turn.set_queued();
    }

    fn is_yielding(&self) -> bool {
        self.turn.is_yielding()
    }

    fn give_up(&mut self) {
        self.turn.give_up(&self.what);
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

fn wait_async<A: Awaited>(handle: &Handle, awaited: A) -> impl Future<Output = Result<A::Output, SyncError>> {
    let waiter = TaskWaiter { handle, awaited, state: WaitState::for_one_wait(handle.wait) };
    poll_until_ready(waiter, TaskWaiter::poll)
}

/// Attempts until one succeeds, or `check_liveness` returns an end.
pub(super) async fn wait_for_async<T>(
    handle: &Handle,
    event: &EventCount<Mapped>,
    check_liveness: impl FnMut() -> Option<WaitEnd>,
    mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
) -> Result<T, SyncError> {
    handle.check_process()?;
    match attempt()? {
        Some(done) => Ok(done),
        None => wait_async(handle, Condition { event, check_liveness, attempt }).await,
    }
}

/// Waits until it can be taken, in turn with the others. `first` is the attempt of a newcomer.
pub(super) async fn wait_fairly_async<C: Contended>(
    handle: &Handle,
    what: C,
    first: impl FnOnce() -> Result<Option<C::Taken>, SyncError>,
) -> Result<C::Taken, SyncError> {
    handle.check_process()?;
    match first()? {
        Some(taken) => Ok(taken),
        None => wait_async(handle, InTurn { what, turn: FairTurn::beginning_now() }).await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::object::event::Event;
    use crate::object::kind::EVENT;
    use crate::object::sealed::Sealed;

    struct Tell(mpsc::Sender<()>);

    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    /// Never there. Its wake-up comes in the middle of a try, and then it lets others go first.
    struct LeftToOthers<'a> {
        event: &'a EventCount<Mapped>,
        woken: &'a mpsc::Receiver<()>,
        tries: &'a Cell<u32>,
        wakes_in: u32,
    }

    impl Awaited for LeftToOthers<'_> {
        type Output = ();

        fn event(&self) -> &EventCount<Mapped> {
            self.event
        }

        fn attempt(&mut self) -> Result<Option<()>, SyncError> {
            self.tries.set(self.tries.get() + 1);
            if self.tries.get() == self.wakes_in {
                while self.woken.try_recv().is_ok() {} // for a liveness check
                self.event.wake(1);
                self.woken.recv().unwrap();
            }
            Ok(None)
        }

        fn check_liveness(&mut self) -> Option<WaitEnd> {
            None
        }

        fn is_yielding(&self) -> bool {
            self.tries.get() > self.wakes_in
        }
    }

    #[test]
    fn future_woken_during_a_try_and_dropped_while_it_yields_wakes_another() {
        let object = Event::new().unwrap();
        let event = object.handle().event(EVENT);
        let ((teller, woken), tries) = (mpsc::channel(), Cell::new(0));
        let waker = Waker::from(Arc::new(Tell(teller)));
        // One try without a waker, one to listen, and one to register. The next is in a new poll.
        let awaited = LeftToOthers { event: &event, woken: &woken, tries: &tries, wakes_in: 4 };
        let key = {
            let mut future = pin!(wait_async(object.handle(), awaited));
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(tries.get(), 3);
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(tries.get(), 5);
            event.listen()
        };
        assert!(event.has_advanced_since(key));
    }
}
