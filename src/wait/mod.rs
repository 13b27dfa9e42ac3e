//! How a blocking call waits: it polls, then yields, then sleeps. After each LIVENESS_INTERVAL it
//! checks whether the peers that it waits for are still alive.

mod end;
#[cfg(feature = "async")]
mod future;
mod listener;
mod phases;
pub(crate) mod poll_backoff;
mod pollable;
mod readiness;
pub(crate) mod source;
mod strategy;
mod waiter_thread;
mod wake_fd;

use std::mem;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::{Duration, Instant};

pub(crate) use self::end::WaitEnd;
#[cfg(feature = "async")]
pub(crate) use self::future::{poll_once, poll_until_ready, unless_empty, unless_full};
use self::listener::Listener;
pub(crate) use self::phases::{Phases, until};
use self::poll_backoff::PollBackoff;
pub(crate) use self::pollable::{Pollable, pollable};
pub use self::readiness::Readiness;
pub(crate) use self::strategy::LIVENESS_INTERVAL;
pub use self::strategy::WaitStrategy;
#[cfg(feature = "__test-hooks")]
pub use self::strategy::disable_liveness_interval;
#[cfg(feature = "process")]
pub(crate) use self::waiter_thread::run_isolated;
pub(crate) use self::wake_fd::WakeFd;
use crate::error;
use crate::interrupt::Interrupts;
use crate::primitive::spin_loop;
use crate::raw::event_count::EventCount;
use crate::region::Region;
use crate::region::trace::LongWait;
use crate::region::words::Mapped;
use crate::sys::clock::{Deadline, deadline_after};

/// Probes before a full attempt, and between two readings of the clock.
const SPINS_PER_CHECK: u32 = 16;

/// Fruitless `try_` calls between two readings of the clock, for a liveness check.
const TRIES_PER_CHECK: u32 = 32;

/// How often an end that the peers recorded is looked at while they change.
const END_CHECKS: u32 = 3;

/// How long an operation may take.
#[derive(Clone, Copy)]
pub enum Timeout {
    NonBlocking,
    At(Deadline),
}

impl Timeout {
    pub(crate) const UNLIMITED: Self = Self::At(None);

    pub(crate) fn after(timeout: Duration) -> Self {
        Self::At(deadline_after(timeout))
    }

    pub(crate) fn is_past(self) -> bool {
        match self {
            Self::NonBlocking => true,
            Self::At(deadline) => deadline.is_some_and(|deadline| Instant::now() >= deadline),
        }
    }
}

/// How thorough an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A cheap one, while polling. It may miss what there is.
    Probe,
    /// A complete one: if it finds nothing, the caller may sleep.
    Full,
}

impl Attempt {
    /// Whether to go on: always for a full attempt, else if the cheap check succeeds.
    #[inline(always)]
    pub(crate) fn should_try(self, probe: impl FnOnce() -> bool) -> bool {
        self == Self::Full || probe()
    }
}

/// How a handle waits, and when it last checked that its peers live.
#[derive(Debug)]
pub struct WaitState {
    wait: WaitStrategy,
    backoff: PollBackoff,
    /// The last liveness check.
    last_check: Instant,
    tries: u32,
    /// Whether the next fruitless `try_` call makes a liveness check in any case.
    must_check: bool,
    /// What waits for the handle without blocking.
    listener: Option<Box<Listener>>,
}

impl WaitState {
    pub(crate) fn new(wait: WaitStrategy, region: &Region) -> Self {
        Self { wait, backoff: PollBackoff::new(region), ..Self::for_one_wait(wait) }
    }

    /// For a single wait, not one of a stream.
    pub(crate) fn for_one_wait(wait: WaitStrategy) -> Self {
        Self {
            wait,
            backoff: PollBackoff::disabled(),
            last_check: Instant::now(),
            tries: 0,
            must_check: false,
            listener: None,
        }
    }

    pub(crate) fn wait(&self) -> WaitStrategy {
        self.wait
    }

    /// Pauses after a fruitless `try_` call, if it is the first one after a success.
    pub(crate) fn pause_after_burst(&mut self, position: u64) {
        if self.backoff.has_progressed(position) && self.should_spin() {
            self.backoff.last_was_late = false;
            self.backoff.pause(position);
        }
    }

    fn listener(&mut self) -> &mut Listener {
        self.listener.get_or_insert_with(|| Box::new(Listener::new()))
    }

    /// Takes back what waits for the handle without blocking: it would get the wake-ups of a thread
    /// that blocks.
    pub(crate) fn take_back(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.take_back(true);
        }
    }

    /// Returns a descriptor that is readable while a call on the handle may succeed.
    pub(crate) fn readiness(&mut self) -> error::Result<Readiness> {
        self.listener().readiness()
    }

    /// Chooses the task that is woken when a call on the handle may succeed.
    #[cfg(feature = "async")]
    fn set_waker(&mut self, waker: &Waker) {
        self.listener().set_waker(waker);
    }

    /// Whether a task is chosen.
    #[cfg(feature = "async")]
    fn has_waker(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| listener.has_waker())
    }

    /// Whether something will wake the task.
    #[cfg(feature = "async")]
    fn is_registered(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| listener.is_registered())
    }

    /// Whether the task was woken since the last try.
    #[cfg(feature = "async")]
    pub(crate) fn has_fired(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| listener.has_fired())
    }

    /// Ends the wait of a task. `has_taken`: it has got what it waited for, or an end.
    #[cfg(feature = "async")]
    pub(crate) fn remove_waker(&mut self, has_taken: bool) {
        if let Some(listener) = self.listener.as_mut().filter(|listener| listener.has_waker()) {
            listener.remove_waker(has_taken);
        }
    }

    /// Whether LIVENESS_INTERVAL has passed since the last check.
    fn is_check_due(&mut self, now: Instant) -> bool {
        let is_time = now.duration_since(self.last_check) >= LIVENESS_INTERVAL;
        if is_time {
            self.last_check = now;
        }
        is_time
    }

    fn should_spin(&self) -> bool {
        self.wait.polls()
    }
}

/// A handle that waits for its peers.
pub(crate) trait Waiter {
    /// The end of the peers, as first seen.
    type End: Into<WaitEnd>;

    /// The end that the peers recorded, if they record any. It comes before the kernel's answer: a
    /// peer that closed is not dead.
    fn peer_end(&mut self) -> Option<Self::End> {
        None
    }

    /// The end that the kernel reports, as far as that can be found out by the deadline.
    fn check_liveness(&mut self, deadline: Deadline) -> Option<Self::End>;

    /// Whether that end still holds, after an attempt that found nothing.
    fn is_final(&mut self, _end: &Self::End) -> bool {
        true
    }

    /// Called when the caller is about to get this end.
    fn report_end(&mut self, end: Self::End) -> WaitEnd {
        end.into()
    }

    /// What to sleep on.
    fn event(&self) -> &EventCount<Mapped>;

    fn wait_state(&mut self) -> &mut WaitState;

    /// How long to stand by without listening, so as not to take the wake-ups of those that came
    /// first. None: listen and sleep.
    fn standby(&self) -> Option<Duration> {
        None
    }

    /// Called after a sleep.
    fn on_wake(&mut self) {}

    /// After a fruitless `try_` call: why it will stay fruitless, if it will.
    #[cold]
    fn end_of_try(&mut self) -> Option<Self::End> {
        let end = self.peer_end();
        if end.is_some() {
            return end;
        }
        let state = self.wait_state();
        state.tries = state.tries.wrapping_add(1);
        // One that waits without blocking does not try often.
        let is_time = state.listener.is_some() || state.tries.is_multiple_of(TRIES_PER_CHECK);
        if !(mem::take(&mut state.must_check) || is_time && state.is_check_due(Instant::now())) {
            return None;
        }
        self.check_liveness(None)
    }

    /// Whether the peers have recorded their end, and it holds: a `try_` call that finds nothing
    /// returns it.
    fn has_ended(&mut self) -> bool {
        if self.wait_state().must_check {
            return true; // as far as is known: the `try_` call finds out
        }
        for _ in 0..END_CHECKS {
            match self.peer_end() {
                None => return false,
                Some(end) if self.is_final(&end) => return true,
                Some(_) => {} // somebody has joined meanwhile
            }
        }
        false
    }

    /// Asks the kernel whether the peers are gone. If they are, the next `try_` call that finds
    /// nothing asks again, and returns it.
    fn remember_death(&mut self, deadline: Deadline) {
        let is_gone = self.check_liveness(deadline).is_some_and(|end| self.is_final(&end));
        self.wait_state().must_check |= is_gone;
    }

    /// After a fruitless `try_` call without an end: listens, if somebody waits without blocking.
    /// Returns whether to try once more.
    #[cold]
    fn listen_after_try(&mut self) -> bool {
        let Some(mut listener) = self.wait_state().listener.take() else { return false };
        if listener.is_unused() {
            return false;
        }
        let tries_again = listener.after_try(self.event());
        self.wait_state().listener = Some(listener);
        tries_again
    }

    /// Attempts until one succeeds, the deadline passes, or the peers are gone and a last attempt
    /// was fruitless, too. `position` is the number of messages that this side has passed so far.
    #[inline(always)]
    fn wait_for<T, E: From<WaitEnd>>(
        &mut self,
        position: u64,
        deadline: Deadline,
        mut attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        if self.wait_state().should_spin() {
            self.wait_state().backoff.pause(position);
            for poll in 0..SPINS_PER_CHECK {
                if let Some(done) = attempt(Attempt::Probe)? {
                    self.wait_state().backoff.last_was_late = poll > 0;
                    return Ok(done);
                }
                spin_loop();
            }
            self.wait_state().backoff.last_was_late = true;
        }
        self.wait_on(deadline, attempt)
    }

    /// The rest of [`wait_for`](Self::wait_for).
    #[cold]
    #[inline(never)]
    fn wait_on<T, E: From<WaitEnd>>(
        &mut self,
        deadline: Deadline,
        mut attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        self.wait_state().take_back();
        let mut phases = Phases::new(self.wait_state().wait);
        let interrupts = Interrupts::of_this_thread();
        let mut long_wait = LongWait::new();
        loop {
            let kind = phases.next_attempt();
            if let Some(done) = attempt(kind)? {
                return Ok(done);
            }
            if kind == Attempt::Probe {
                spin_loop();
                continue;
            }
            let mut end = self.peer_end();
            let mut now = Instant::now();
            if end.is_none() && self.wait_state().is_check_due(now) {
                end = self.check_liveness(deadline);
                now = Instant::now();
            }
            if let Some(end) = end {
                if let Some(done) = attempt(Attempt::Full)? {
                    return Ok(done);
                }
                if self.is_final(&end) {
                    return Err(self.report_end(end).into());
                }
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(WaitEnd::TimedOut.into());
            }
            if interrupts.ends_wait(self.event(), phases.has_slept()) {
                return Err(WaitEnd::Interrupted.into());
            }
            if phases.pause(now) {
                continue;
            }
            if let Some(pause) = self.standby() {
                interrupts.sleep(until(deadline, now, pause));
                continue;
            }
            let key = self.event().listen();
            if let Some(done) = attempt(Attempt::Full)? {
                return Ok(done);
            }
            if self.standby().is_none() && self.peer_end().is_none() {
                interrupts.wait(self.event(), key, phases.sleep_limit(now, deadline));
                phases.count_sleep();
                self.on_wake();
                long_wait.note_sleep(phases.started());
            }
        }
    }
}
