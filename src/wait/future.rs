//! The one future of all endpoints: it tries, and between two tries the waiter thread waits.
//!
//! Nothing is taken except in `poll`, which returns it at once. So a future that is dropped has
//! taken nothing. If a wake-up was spent on it, another waiter gets that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Pollable;
use crate::error::{RecvError, SendError};

/// Tries until it is ready.
struct Attempts<E: Pollable, F> {
    handle: E,
    attempt: F,
    is_done: bool,
}

/// Nothing of it is ever pinned.
impl<E: Pollable, F> Unpin for Attempts<E, F> {}

impl<R, E: Pollable, F: FnMut(&mut E) -> Poll<R>> Future for Attempts<E, F> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        let outcome = poll_once(&mut this.handle, context, &mut this.attempt);
        this.is_done = outcome.is_ready();
        outcome
    }
}

impl<E: Pollable, F> Drop for Attempts<E, F> {
    fn drop(&mut self) {
        if !self.is_done {
            self.handle.wait_state().remove_waker(false);
        }
    }
}

/// Returns a future that runs `attempt` until it is ready. `attempt` is a `try_` call: if it is not
/// ready, that has come to `Waiter::listen_after_try`, or it is tried again at once.
pub(crate) fn poll_until_ready<R, E: Pollable, F: FnMut(&mut E) -> Poll<R>>(
    handle: E,
    attempt: F,
) -> impl Future<Output = R> {
    Attempts { handle, attempt, is_done: false }
}

/// Tries, and if that is fruitless makes sure that the task is woken for the next try.
pub(crate) fn poll_once<R, E: Pollable>(
    handle: &mut E,
    context: &Context<'_>,
    mut attempt: impl FnMut(&mut E) -> Poll<R>,
) -> Poll<R> {
    // First without a waker: often there is something already.
    if !handle.wait_state().has_waker() {
        let outcome = attempt(handle);
        if outcome.is_ready() {
            return outcome;
        }
    }
    handle.wait_state().set_waker(context.waker());
    let outcome = attempt(handle);
    let state = handle.wait_state();
    if outcome.is_ready() {
        state.remove_waker(true);
    } else if !state.is_registered() {
        context.waker().wake_by_ref();
    }
    outcome
}

/// Pending instead of [`RecvError::Empty`].
pub(crate) fn unless_empty<T>(received: Result<T, RecvError>) -> Poll<Result<T, RecvError>> {
    match received {
        Err(RecvError::Empty) => Poll::Pending,
        received => Poll::Ready(received),
    }
}

/// Pending instead of [`SendError::Full`].
pub(crate) fn unless_full<T>(sent: Result<T, SendError>) -> Poll<Result<T, SendError>> {
    match sent {
        Err(SendError::Full) => Poll::Pending,
        sent => Poll::Ready(sent),
    }
}
