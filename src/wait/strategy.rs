//! The strategy of a blocking call, and how long each phase of it lasts.

use std::time::Duration;

#[cfg(feature = "__test-hooks")]
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::process::online_cores;

/// What a blocking call does while it waits.
///
/// Under sustained load each side of a pipe or queue may pause for a few microseconds, even in
/// `try_` calls, to avoid sharing cache lines with the other side. Request-response traffic never
/// pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency, at the price of a core.
    Spin,
    /// Polls for about 2 µs, yields the core until about 50 µs, then sleeps. On a machine with one
    /// core it does not poll.
    #[default]
    SpinThenPark,
    /// Sleeps at once: the lowest load, at the price of a wake-up for each wait.
    Park,
}

impl WaitStrategy {
    /// Whether a call begins by polling. On one core the others cannot run meanwhile.
    pub(crate) fn polls(self) -> bool {
        self != Self::Park && online_cores() > 1
    }
}

/// How long [`WaitStrategy::SpinThenPark`] polls.
pub(super) const SPIN_TIME: Duration = Duration::from_micros(2);

/// How long it polls and yields.
pub(super) const YIELD_TIME: Duration = Duration::from_micros(50);

/// Upper bound on one sleep, in case a peer died before it could wake us. Also the minimum interval
/// between two liveness checks.
pub(crate) const LIVENESS_INTERVAL: Duration = Duration::from_millis(20);

/// The bound after [`SHORT_SLEEPS`] fruitless sleeps: a wake-up by a timer can cost 0.1 ms of a
/// virtual machine's time.
const IDLE_INTERVAL: Duration = Duration::from_millis(90);
const SHORT_SLEEPS: u32 = 16;

/// How long one that waits without blocking goes on without a liveness check, at most.
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Stands for no bound at all.
#[cfg(feature = "__test-hooks")]
const UNBOUNDED: Duration = Duration::from_secs(1 << 30);

/// 1: see [`disable_liveness_interval`].
#[cfg(feature = "__test-hooks")]
static IS_DISABLED: AtomicU32 = AtomicU32::new(0);

#[cfg(feature = "__test-hooks")]
/// For tests of wake-ups: from here on the interval ends no sleep of this process. So a missing
/// wake-up is a sleep without end, instead of one that is a little longer. Deaths are noticed no
/// more, except through others.
pub fn disable_liveness_interval() {
    IS_DISABLED.store(1, Ordering::Relaxed); // nothing is ordered by it
}

/// The bound on the next sleep, after `sleeps` of them. Called on the way to sleep only.
pub(super) fn sleep_bound(sleeps: u32) -> Duration {
    match sleeps {
        #[cfg(feature = "__test-hooks")]
        _ if IS_DISABLED.load(Ordering::Relaxed) == 1 => UNBOUNDED,
        ..SHORT_SLEEPS => LIVENESS_INTERVAL,
        _ => IDLE_INTERVAL,
    }
}

/// The time until the next liveness check for what waits without blocking, after `checks` of them.
/// `None`: there is none.
pub(super) fn liveness_interval(checks: u32) -> Option<Duration> {
    #[cfg(feature = "__test-hooks")]
    if IS_DISABLED.load(Ordering::Relaxed) == 1 {
        return None;
    }
    Some(LIVENESS_INTERVAL.saturating_mul(1 << checks.min(4)).min(MAX_CHECK_INTERVAL))
}
