//! Timers among the sources of a selector.

use std::time::{Duration, Instant};

use crate::sys::clock::deadline_after;
use crate::wait::Attempt;
use crate::wait::source::{Source, sealed::Watch};

/// A source that is ready at some time, or again and again.
///
/// It stays ready until [`take`](Self::take) is called.
///
/// ```
/// use std::time::Duration;
///
/// use tombolo::pipe;
/// use tombolo::select::{Selector, Timer};
///
/// let (_tx, mut rx) = pipe::Options::<u64>::new().create()?;
/// let mut heartbeat = Timer::every(Duration::from_millis(1));
/// assert_eq!(Selector::new().wait(&mut [&mut rx, &mut heartbeat]), Ok(1));
/// assert!(heartbeat.take() >= 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Timer {
    /// None: never.
    next: Option<Instant>,
    period: Option<Duration>,
}

impl Timer {
    /// Makes a timer that expires once, when `time` has passed.
    pub fn after(time: Duration) -> Self {
        Self { next: deadline_after(time), period: None }
    }

    /// Makes a timer that expires once, at `time`.
    pub fn at(time: Instant) -> Self {
        Self { next: Some(time), period: None }
    }

    /// Makes a timer that expires each time that `period` has passed. It does not drift. A period
    /// of zero counts as one nanosecond.
    pub fn every(period: Duration) -> Self {
        let period = period.max(Duration::from_nanos(1));
        Self { next: deadline_after(period), period: Some(period) }
    }

    /// Returns how often the timer has expired since the last call: 0 if it is not ready.
    ///
    /// The timer is ready again when it next expires. One that expires once never is.
    pub fn take(&mut self) -> u64 {
        let now = Instant::now();
        let Some(next) = self.next.filter(|&next| next <= now) else { return 0 };
        let Some(period) = self.period else {
            self.next = None;
            return 1;
        };
        let periods = now.duration_since(next).as_nanos() / period.as_nanos() + 1;
        let since = Duration::from_nanos(u64::try_from(periods * period.as_nanos()).unwrap_or(u64::MAX));
        self.next = next.checked_add(since);
        u64::try_from(periods).unwrap_or(u64::MAX)
    }
}

impl Source for Timer {}

impl Watch for Timer {
    fn is_ready(&mut self, attempt: Attempt) -> bool {
        // It takes a reading of the clock.
        attempt == Attempt::Full && self.next.is_some_and(|next| next <= Instant::now())
    }

    fn due(&self) -> Option<Instant> {
        self.next
    }
}
