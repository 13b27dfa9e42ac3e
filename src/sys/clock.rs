//! The clocks, and deadlines on them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// When a wait ends, or `None` if it has no limit.
pub(crate) type Deadline = Option<Instant>;

/// Returns the time on the monotonic clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns how long this thread has run so far, without the time that others had the processor.
#[cfg(any(test, fuzzing))]
pub(crate) fn run_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the deadline at the end of a timeout. A timeout that the clock cannot reach (centuries)
/// is no limit.
pub(crate) fn deadline_after(timeout: Duration) -> Deadline {
    Instant::now().checked_add(timeout)
}
