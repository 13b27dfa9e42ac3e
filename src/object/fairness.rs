//! Waiting for an object, and which waiter gets it first.
//!
//! Newcomers may take what is free before those that wait (barging), which is fast. But when a
//! waiter has waited for [`MAX_BARGING`], it sets the NO_BARGING bit of the event: newcomers then
//! let waiters go first. The first success clears the bit, and so does a waiter that has set it and
//! gives up. A waiter that sleeps is in the kernel's queue, which is first-in, first-out. A waiter
//! that polls would beat all sleepers, so one that has set the bit lets them go first once.
//!
//! So no waiter starves. A waiter that was killed or stopped with the bit set delays the others by
//! MAX_BARGING, and calls that wait for less than that by LIVENESS_INTERVAL.
//!
//! The states of one wait:
//!
//! | state | the bit | the object | the wait tries | and becomes |
//! |---|---|---|---|---|
//! | Barging | clear | | yes | Barging |
//! | Barging | set | taken | no | Barging |
//! | Barging | set | free | no | Yielding, since now |
//! | Yielding | clear | | yes | Barging, has yielded |
//! | Yielding | set | taken: by a waiter | no | Barging, has yielded |
//! | Yielding | set | free | after MAX_BARGING | Yielding |
//! | Queued | | | yes | Queued |
//!
//! Any state becomes Queued by a sleep on the event, and for the last attempt of a call that was
//! too short for that, once in LIVENESS_INTERVAL. A wait that has set the bit itself also tries as
//! soon as it has yielded, or if nobody sleeps.

use std::cell::Cell;
use std::ptr;
use std::time::{Duration, Instant};

use crate::error::SyncError;
use crate::object::Handle;
use crate::primitive::spin_loop;
use crate::raw::event_count::EventCount;
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::wait::{Timeout, WaitEnd, WaitState, Waiter};

/// How long newcomers may take what is free before a waiter does.
const MAX_BARGING: Duration = Duration::from_millis(1);

/// Spins after a failed attempt, at most.
const MAX_SPINS: u32 = 32;

/// Something that a limited number of callers can have at a time.
pub(crate) trait Contended {
    type Taken;

    /// What this waiter sleeps on.
    fn event(&self) -> &EventCount<Mapped>;

    /// The event whose NO_BARGING bit counts. A waiter that sleeps on another one never sets it.
    fn fair_event(&self) -> &EventCount<Mapped>;

    /// Whether there is something to take.
    fn is_free(&self) -> bool;

    fn try_take(&self) -> Result<Option<Self::Taken>, SyncError>;

    /// Asks the kernel about the processes that have it. Returns an end if waiting for them is of
    /// no use.
    fn check_liveness(&self) -> Option<WaitEnd>;
}

/// Attempts until one succeeds, the time is over, or `check_liveness` returns an end.
pub(crate) fn wait_for<T>(
    handle: &Handle,
    event: &EventCount<Mapped>,
    timeout: Timeout,
    check_liveness: impl FnMut() -> Option<WaitEnd>,
    attempt: impl FnMut() -> Result<Option<T>, SyncError>,
) -> Result<T, SyncError> {
    wait(handle, &FairTurn::default(), event, timeout, check_liveness, attempt)
}

/// Waits until it can be taken, in turn with the others.
#[cold]
pub(crate) fn wait_fairly<C: Contended>(handle: &Handle, what: &C, timeout: Timeout) -> Result<C::Taken, SyncError> {
    let turn = FairTurn::beginning_now();
    let outcome = wait(handle, &turn, what.event(), timeout, || what.check_liveness(), || turn.try_take(what));
    if outcome.is_err() {
        turn.give_up(what);
    }
    outcome
}

fn wait<T>(
    handle: &Handle,
    turn: &FairTurn,
    event: &EventCount<Mapped>,
    timeout: Timeout,
    mut check_liveness: impl FnMut() -> Option<WaitEnd>,
    mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
) -> Result<T, SyncError> {
    let mut check_liveness = || {
        handle.membership.region().has_lost_name(); // for the warnings
        check_liveness()
    };
    let outcome = match timeout {
        Timeout::NonBlocking => attempt()?.ok_or(SyncError::WouldBlock),
        Timeout::At(deadline) => {
            let state = WaitState::for_one_wait(handle.wait);
            let mut waiter = ObjectWaiter { event, state, check_liveness: &mut check_liveness, turn };
            waiter.wait_for(0, deadline, |_| attempt())
        }
    };
    match outcome {
        // Short waits never reach a liveness check, nor a turn. So they get one check and one more
        // attempt in each LIVENESS_INTERVAL.
        Err(error @ (SyncError::WouldBlock | SyncError::TimedOut)) if handle.local.is_check_due() => {
            turn.state.set(State::Queued);
            match check_liveness() {
                Some(end) => Err(end.into()),
                None => attempt()?.ok_or(error),
            }
        }
        outcome => outcome,
    }
}

/// See the table above.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Barging,
    Yielding {
        since: Instant,
    },
    Queued,
}

/// One wait's turn. Its attempts and its waiter share it.
#[derive(Default)]
pub(super) struct FairTurn {
    /// None: it is not in turn with others.
    started: Option<Instant>,
    state: Cell<State>,
    has_yielded: Cell<bool>,
    /// It has set the NO_BARGING bit.
    has_set_bit: Cell<bool>,
    /// Spins after the last failed attempt.
    spins: Cell<u32>,
}

impl FairTurn {
    pub(super) fn beginning_now() -> Self {
        Self { started: Some(Instant::now()), ..Self::default() }
    }

    /// Call after a sleep on the event.
    pub(super) fn set_queued(&self) {
        self.state.set(State::Queued);
    }

    /// Whether the wait leaves it to others for a while, and does not listen meanwhile.
    pub(super) fn is_yielding(&self) -> bool {
        matches!(self.state.get(), State::Yielding { .. })
    }

    /// Clears the NO_BARGING bit if this wait, which gives up, has set it.
    pub(super) fn give_up(&self, what: &impl Contended) {
        if self.has_set_bit.take() {
            what.fair_event().set_no_barging(false);
        }
    }

    /// Tries to take it, if it is this wait's turn.
    pub(super) fn try_take<C: Contended>(&self, what: &C) -> Result<Option<C::Taken>, SyncError> {
        let fair_event = what.fair_event();
        let is_in_queue = ptr::eq(what.event(), fair_event);
        let no_barging = fair_event.no_barging();
        if !self.may_try(no_barging, what) {
            return Ok(None);
        }
        let taken = what.try_take()?;
        // If there is something that this waiter cannot use, the bit may be a dead waiter's.
        if no_barging && (taken.is_some() || !is_in_queue && what.is_free()) {
            fair_event.set_no_barging(false);
        }
        if taken.is_some() {
            return Ok(taken);
        }
        if self.state.get() != State::Queued {
            let spins = (2 * self.spins.get()).clamp(1, MAX_SPINS);
            for _ in 0..spins {
                spin_loop();
            }
            self.spins.set(spins);
        }
        if !no_barging && is_in_queue && self.started.is_some_and(|started| started.elapsed() >= MAX_BARGING) {
            fair_event.set_no_barging(true);
            self.has_set_bit.set(true);
        }
        Ok(None)
    }

    /// Whether this wait may try to take it, or leaves it to other waiters.
    fn may_try(&self, no_barging: bool, what: &impl Contended) -> bool {
        let since = match self.state.get() {
            State::Queued => return true,
            State::Barging => None,
            State::Yielding { since } => Some(since),
        };
        let is_free = no_barging && what.is_free();
        if since.is_some() && !is_free {
            self.state.set(State::Barging);
            self.has_yielded.set(true);
        }
        let is_bit_own = || self.has_set_bit.get() && (self.has_yielded.get() || !what.fair_event().has_waiters());
        if !no_barging || is_bit_own() {
            return true;
        }
        // Only time counts in which waiters could have had it, and did not come.
        if !is_free {
            return false;
        }
        let since = since.unwrap_or_else(Instant::now);
        self.state.set(State::Yielding { since });
        since.elapsed() >= MAX_BARGING
    }
}

struct ObjectWaiter<'a> {
    event: &'a EventCount<Mapped>,
    state: WaitState,
    check_liveness: &'a mut dyn FnMut() -> Option<WaitEnd>,
    turn: &'a FairTurn,
}

impl Waiter for ObjectWaiter<'_> {
    type End = WaitEnd;

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        (self.check_liveness)()
    }

    fn event(&self) -> &EventCount<Mapped> {
        self.event
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.state
    }

    fn standby(&self) -> Option<Duration> {
        self.turn.is_yielding().then_some(MAX_BARGING)
    }

    fn on_wake(&mut self) {
        self.turn.set_queued();
    }
}
