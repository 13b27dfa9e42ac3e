//! The phases of one blocking call, as its strategy says: it spins, yields and then sleeps.

use std::thread;
use std::time::{Duration, Instant};

use crate::primitive::spin_loop;
use crate::sys::clock::Deadline;
use crate::wait::strategy::{SPIN_TIME, WaitStrategy, YIELD_TIME, sleep_bound};
use crate::wait::{Attempt, SPINS_PER_CHECK};

/// How far one blocking call has come.
pub(crate) struct Phases {
    wait: WaitStrategy,
    polling: bool,
    spins: u32,
    sleeps: u32,
    started: Option<Instant>,
}

impl Phases {
    pub(crate) fn new(wait: WaitStrategy) -> Self {
        Self { wait, polling: wait.polls(), spins: 0, sleeps: 0, started: None }
    }

    /// How thorough the next attempt is. While polling, most are probes.
    pub(crate) fn next_attempt(&mut self) -> Attempt {
        let is_probe = self.polling && !self.spins.is_multiple_of(SPINS_PER_CHECK);
        self.spins = self.spins.wrapping_add(1);
        if is_probe { Attempt::Probe } else { Attempt::Full }
    }

    /// Spins or yields, after a full attempt that found nothing. Returns false when it is time to
    /// sleep instead.
    pub(crate) fn pause(&mut self, now: Instant) -> bool {
        let waited = now.duration_since(*self.started.get_or_insert(now));
        match self.wait {
            WaitStrategy::Spin if self.polling => spin_loop(),
            WaitStrategy::Spin => thread::yield_now(),
            WaitStrategy::SpinThenPark if self.polling && waited < SPIN_TIME => spin_loop(),
            WaitStrategy::SpinThenPark if waited < YIELD_TIME => {
                self.polling = false;
                thread::yield_now();
            }
            WaitStrategy::SpinThenPark | WaitStrategy::Park => {
                self.polling = false;
                return false;
            }
        }
        true
    }

    /// How long the next sleep may last.
    pub(crate) fn sleep_limit(&self, now: Instant, deadline: Deadline) -> Duration {
        until(deadline, now, sleep_bound(self.sleeps))
    }

    /// When the first full attempt found nothing.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Whether it has slept.
    pub(crate) fn has_slept(&self) -> bool {
        self.sleeps > 0
    }

    /// Call after a sleep.
    pub(crate) fn count_sleep(&mut self) {
        self.sleeps = self.sleeps.saturating_add(1);
    }
}

/// That time, or what is left until the deadline.
pub(crate) fn until(deadline: Deadline, now: Instant, bound: Duration) -> Duration {
    deadline.map_or(bound, |deadline| bound.min(deadline.saturating_duration_since(now)))
}
